//! Futures that seldom have anything to say, beside one that is polled all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Polls what it is given only once that has woken the task by itself, instead of whenever the task is polled. A poll of
/// a `watch` takes a lock, and one of a timer is not free either; each request polls its connection's task twice.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Option<Arc<Woken>>);

#[derive(Debug)]
struct Woken {
    is_woken: AtomicBool,
    task: Waker,
}

impl Seldom {
    /// Polls if there is reason to. It is to be the same future each time, or the same ones.
    pub(crate) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let woken = match &self.0 {
            Some(woken) if woken.task.will_wake(cx.waker()) => woken,
            _ => self.0.insert(Arc::new(Woken {
                is_woken: AtomicBool::new(true),
                task: cx.waker().clone(),
            })),
        };
        if !woken.is_woken.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        // Before the poll, so that a wake-up during it counts; and it acquires what the waker wrote.
        woken.is_woken.swap(false, Ordering::AcqRel);
        let polled = poll(&mut Context::from_waker(&woken.clone().into()));
        if polled.is_ready() {
            // What comes after it has not been polled yet.
            woken.is_woken.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_polled_at_first_and_then_only_when_it_woke_or_was_ready() {
        struct Task;
        impl Wake for Task {
            fn wake(self: Arc<Self>) {}
        }
        let mut seldom = Seldom::default();
        let task = Arc::new(Task).into();
        let mut cx = Context::from_waker(&task);
        let mut inner = None;
        let mut ask = |inner: &mut Option<Waker>, ready| {
            let mut polled = false;
            let _is_told_by_polled = seldom.poll(&mut cx, |cx| {
                polled = true;
                *inner = Some(cx.waker().clone());
                if ready {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            });
            polled
        };
        assert!(ask(&mut inner, false));
        assert!(!ask(&mut inner, false));
        inner.clone().expect("it was polled").wake();
        assert!(ask(&mut inner, true));
        assert!(ask(&mut inner, false));
        assert!(!ask(&mut inner, false));
    }
}
