//! The wakers of a connection that is driven by whoever reads from it.
//!
//! The connection and its reader wake each other with each piece that goes from one to the other. Both are polled by the
//! same task, one right after the other, so that most of these calls would only have the task run once more for nothing,
//! with all that it has to look at. While the task is at it, they are noted here instead; at any other time they wake it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// The task is at it: whoever rings is heard without being woken for.
const INSIDE: u8 = 1;
/// Who rang since it was last polled.
const DRIVER: u8 = 2;
const READER: u8 = 4;

/// How often both are polled in one turn of the task. What still rings then waits for the task's next turn, as anything
/// does that has used up its share of this one.
const ROUNDS: u8 = 2;

/// The wakers of one connection and its reader.
#[derive(Debug)]
pub(super) struct Bells {
    shared: Arc<Shared>,
    driver: Waker,
    reader: Waker,
    /// What `shared` has, to be looked at without a lock.
    task: Waker,
}

#[derive(Debug)]
struct Shared {
    state: AtomicU8,
    /// Whoever polled last. Locked for a moment when that changes, and when it is woken.
    task: Mutex<Waker>,
}

struct Driver(Arc<Shared>);
struct Reader(Arc<Shared>);

impl Wake for Driver {
    fn wake(self: Arc<Self>) {
        self.0.ring(DRIVER);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.ring(DRIVER);
    }
}

impl Wake for Reader {
    fn wake(self: Arc<Self>) {
        self.0.ring(READER);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.ring(READER);
    }
}

impl Shared {
    fn ring(&self, who: u8) {
        let inside = |state: u8| (state & INSIDE != 0).then_some(state | who);
        let heard = (self.state).fetch_update(Ordering::AcqRel, Ordering::Acquire, inside);
        if heard.is_err() {
            self.task().wake_by_ref();
        }
    }

    fn task(&self) -> MutexGuard<'_, Waker> {
        // It is exchanged as a whole.
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bells {
    pub(super) fn new() -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU8::new(0),
            task: Mutex::new(Waker::noop().clone()),
        });
        Self {
            driver: Arc::new(Driver(shared.clone())).into(),
            reader: Arc::new(Reader(shared.clone())).into(),
            task: Waker::noop().clone(),
            shared,
        }
    }

    /// Whoever rings from now on is heard by [`poll`](Self::poll), which follows in the same turn of the task.
    pub(super) fn hush(&self) {
        self.shared.state.store(INSIDE, Ordering::Release);
    }

    /// Has the connection driven and its reader polled, until the reader is done or nothing moves any more.
    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut drive: impl FnMut(&mut Context<'_>),
        mut read: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if !self.task.will_wake(cx.waker()) {
            self.task.clone_from(cx.waker());
            self.shared.task().clone_from(cx.waker());
        }
        self.hush();
        for _ in 0..ROUNDS {
            self.answer(DRIVER);
            drive(&mut Context::from_waker(&self.driver));
            self.answer(READER);
            let read = read(&mut Context::from_waker(&self.reader));
            if read.is_ready() {
                // Whoever comes back for more polls both again.
                self.leave();
                return read;
            }
            let state = &self.shared.state;
            let quiet = state.compare_exchange(INSIDE, 0, Ordering::AcqRel, Ordering::Acquire);
            if quiet.is_ok() {
                return Poll::Pending;
            }
        }
        self.leave();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// What the reader has without the connection being driven.
    pub(super) fn read<T>(&self, read: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        self.hush();
        let read = read(&mut Context::from_waker(&self.reader));
        if read.is_ready() {
            self.leave();
        }
        read
    }

    /// This one is polled now, so that it has no need to ring for what was until now.
    fn answer(&self, who: u8) {
        let state = &self.shared.state;
        if state.load(Ordering::Acquire) & who != 0 {
            state.fetch_and(!who, Ordering::AcqRel);
        }
    }

    fn leave(&self) {
        self.shared.state.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn task() -> (Arc<Count>, Waker) {
        let count: Arc<Count> = Arc::default();
        (count.clone(), count.into())
    }

    #[test]
    fn what_the_driver_has_for_the_reader_does_not_wake_the_task() {
        let (woken, waker) = task();
        let mut bells = Bells::new();
        let reader = bells.reader.clone();
        let polled = bells.poll(
            &mut Context::from_waker(&waker),
            |_| reader.wake_by_ref(),
            |_| Poll::Ready(()),
        );
        assert!(polled.is_ready());
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_reader_that_wants_more_has_the_connection_driven_again_at_once() {
        let (woken, waker) = task();
        let mut bells = Bells::new();
        let driver = bells.driver.clone();
        let (mut driven, mut reads) = (0, 0);
        let polled: Poll<()> = bells.poll(
            &mut Context::from_waker(&waker),
            |_| driven += 1,
            |_| {
                reads += 1;
                if reads == 1 {
                    driver.wake_by_ref();
                }
                Poll::Pending
            },
        );
        assert!(polled.is_pending());
        assert_eq!((driven, reads), (2, 2));
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn whoever_rings_when_the_task_is_elsewhere_wakes_the_one_that_polled_last() {
        let (first, waker) = task();
        let (second, other) = task();
        let mut bells = Bells::new();
        let (driver, reader) = (bells.driver.clone(), bells.reader.clone());
        let pending = |_: &mut Context<'_>| Poll::<()>::Pending;
        assert!(
            bells
                .poll(&mut Context::from_waker(&waker), |_| {}, pending)
                .is_pending()
        );
        driver.wake_by_ref();
        reader.wake_by_ref();
        assert_eq!(first.0.load(Ordering::Relaxed), 2);
        assert!(
            bells
                .poll(&mut Context::from_waker(&other), |_| {}, pending)
                .is_pending()
        );
        driver.wake_by_ref();
        assert_eq!(second.0.load(Ordering::Relaxed), 1);
        assert_eq!(first.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn one_that_rings_without_end_waits_for_the_tasks_next_turn() {
        let (woken, waker) = task();
        let mut bells = Bells::new();
        let mut driven = 0;
        let polled: Poll<()> = bells.poll(
            &mut Context::from_waker(&waker),
            |cx| {
                driven += 1;
                cx.waker().wake_by_ref();
            },
            |_| Poll::Pending,
        );
        assert!(polled.is_pending());
        assert_eq!(driven, ROUNDS);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }
}
