//! How long a call runs, when it has to let others run, and when it has had its time.
//!
//! A call that ends within its first slice costs no look at a clock. One that goes on is watched from then on: what it
//! uses of the processor is its run time, so that neither other calls on its worker nor other programs on the machine
//! take anything of it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::task::yield_now;
use tokio::time::Sleep;
use wasmtime::{Trap, UpdateDeadline};

use crate::deadlines::{self, TICK};

/// Ticks after which a call first lets others run. The present one has begun already, so these are 2 to 4 ms: an
/// ordinary call never gets there.
pub(crate) const FIRST_SLICE: u64 = 2;
/// The same from then on.
const SLICE: u64 = 1;

/// Measures one call at a time. Shared between the instance and its imports, which run while the store is borrowed;
/// both are on one thread, so the counters are atomic only for the sake of the type.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    base: Instant,
    /// All in nanoseconds, moments since `base`. What a call may run, and may wait without leave.
    limit: AtomicU64,
    /// What it used of the processor since it was first looked at.
    ran: AtomicU64,
    /// What the thread had used of the processor when `ran` was right; [`NEVER`].
    looked: AtomicU64,
    /// What it had used when the call last got its turn; [`NEVER`].
    turn_began: AtomicU64,
    /// The call is suspended to let others run, and not because it waits.
    gave_way: AtomicBool,
    /// For how long it waited without leave before the present wait.
    idle: AtomicU64,
    /// When the present wait began, with or without leave, and what was waited with leave until then; [`NEVER`].
    suspended: AtomicU64,
    waited_then: AtomicU64,
    /// For how long it waited with leave before the present wait with leave, and when that began; [`NEVER`].
    waited: AtomicU64,
    waiting_since: AtomicU64,
}

const NEVER: u64 = u64::MAX;

/// While it lives, the call has leave to wait.
#[derive(Debug)]
pub(crate) struct Waiting(Arc<Stopwatch>);

impl Drop for Waiting {
    fn drop(&mut self) {
        let since = self.0.waiting_since.swap(NEVER, Ordering::Relaxed);
        let waited = self.0.now().saturating_sub(since);
        self.0.waited.fetch_add(waited, Ordering::Relaxed);
    }
}

impl Stopwatch {
    pub(crate) fn new() -> Self {
        Self {
            base: Instant::now(),
            limit: AtomicU64::new(0),
            ran: AtomicU64::new(0),
            looked: AtomicU64::new(NEVER),
            turn_began: AtomicU64::new(NEVER),
            gave_way: AtomicBool::new(false),
            idle: AtomicU64::new(0),
            suspended: AtomicU64::new(NEVER),
            waited_then: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            waiting_since: AtomicU64::new(NEVER),
        }
    }

    /// A call begins, which may run for so long.
    pub(crate) fn start(&self, limit: Duration) {
        deadlines::note_turn();
        self.limit.store(nanoseconds(limit), Ordering::Relaxed);
        self.ran.store(0, Ordering::Relaxed);
        self.looked.store(NEVER, Ordering::Relaxed);
        self.turn_began.store(NEVER, Ordering::Relaxed);
        self.gave_way.store(false, Ordering::Relaxed);
        self.idle.store(0, Ordering::Relaxed);
        self.suspended.store(NEVER, Ordering::Relaxed);
        self.waited.store(0, Ordering::Relaxed);
        self.waiting_since.store(NEVER, Ordering::Relaxed);
    }

    /// Lets the call wait until the guard is dropped.
    pub(crate) fn wait(self: &Arc<Self>) -> Waiting {
        self.waiting_since.store(self.now(), Ordering::Relaxed);
        Waiting(self.clone())
    }

    /// What to do about a guest that runs when its slice is over.
    pub(crate) fn slice_over(&self) -> UpdateDeadline {
        deadlines::note_turn();
        let now = self.look();
        if self.ran.load(Ordering::Relaxed) >= self.limit.load(Ordering::Relaxed) {
            return UpdateDeadline::Interrupt;
        }
        let began = self.turn_began.load(Ordering::Relaxed);
        if began != NEVER && now.saturating_sub(began) < nanoseconds(TICK) / 2 {
            // It has just come back from a wait.
            return UpdateDeadline::Continue(SLICE);
        }
        self.gave_way.store(true, Ordering::Relaxed);
        // Not wasmtime's own yield, which asks to be polled again at once: sockets and timers have their turn first.
        UpdateDeadline::YieldCustom(SLICE, Box::pin(yield_now()))
    }

    /// Runs a call, and ends it when it waits without leave for longer than is left of its time. How long it computes
    /// is bounded by [`slice_over`](Self::slice_over). The call is pinned by whoever makes it: in here it would be kept
    /// twice, and each exchange moves what its calls are kept in.
    pub(crate) async fn bound<T>(
        &self,
        mut call: Pin<&mut impl Future<Output = wasmtime::Result<T>>>,
    ) -> wasmtime::Result<T> {
        let mut timer = None;
        let mut begun = false;
        poll_fn(move |context| {
            if begun {
                self.resume();
            }
            begun = true;
            match call.as_mut().poll(context) {
                Poll::Ready(called) => Poll::Ready(called),
                Poll::Pending => match self.suspend(&mut timer, context) {
                    Poll::Ready(trap) => Poll::Ready(Err(trap.into())),
                    Poll::Pending => Poll::Pending,
                },
            }
        })
        .await
    }

    /// The call goes on.
    fn resume(&self) {
        deadlines::note_turn();
        let now = processor_time();
        self.looked.store(now, Ordering::Relaxed);
        self.turn_began.store(now, Ordering::Relaxed);
        let idle = self.idle_until(self.now());
        self.idle.store(idle, Ordering::Relaxed);
        self.suspended.store(NEVER, Ordering::Relaxed);
    }

    /// The call stops for now. Ready when it may wait no longer.
    fn suspend(
        &self,
        timer: &mut Option<Pin<Box<Sleep>>>,
        context: &mut Context<'_>,
    ) -> Poll<Trap> {
        if self.looked.load(Ordering::Relaxed) != NEVER {
            self.look();
        }
        if self.gave_way.swap(false, Ordering::Relaxed) {
            return Poll::Pending;
        }
        let now = self.now();
        let waited = self.waited_until(now);
        self.waited_then.store(waited, Ordering::Relaxed);
        self.suspended.store(now, Ordering::Relaxed);
        while let Some(left) = self.left() {
            // While it has leave to wait, the little that may be left is not worth a timer of its own.
            let until = tokio::time::Instant::now() + left.max(TICK);
            let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
            timer.as_mut().reset(until);
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
        Poll::Ready(Trap::Interrupt)
    }

    /// Counts what the call has used of the processor, and returns what the thread has.
    fn look(&self) -> u64 {
        let now = processor_time();
        let looked = self.looked.swap(now, Ordering::Relaxed);
        if looked != NEVER {
            self.ran
                .fetch_add(now.saturating_sub(looked), Ordering::Relaxed);
        }
        now
    }

    /// For how long it may wait without leave.
    fn left(&self) -> Option<Duration> {
        let ran = self.ran.load(Ordering::Relaxed);
        let gone = ran.saturating_add(self.idle_until(self.now()));
        let left = self.limit.load(Ordering::Relaxed).saturating_sub(gone);
        (left > 0).then(|| Duration::from_nanos(left))
    }

    fn idle_until(&self, now: u64) -> u64 {
        let present = match self.suspended.load(Ordering::Relaxed) {
            NEVER => 0,
            since => {
                let then = self.waited_then.load(Ordering::Relaxed);
                let waited = self.waited_until(now).saturating_sub(then);
                now.saturating_sub(since).saturating_sub(waited)
            }
        };
        self.idle.load(Ordering::Relaxed).saturating_add(present)
    }

    fn waited_until(&self, now: u64) -> u64 {
        let present = match self.waiting_since.load(Ordering::Relaxed) {
            NEVER => 0,
            since => now.saturating_sub(since),
        };
        self.waited.load(Ordering::Relaxed).saturating_add(present)
    }

    fn now(&self) -> u64 {
        nanoseconds(self.base.elapsed())
    }
}

/// What this thread has used of the processor since it began, in nanoseconds.
#[expect(
    unsafe_code,
    reason = "rustix has this without, but cannot find the kernel's function under valgrind, which the benchmarks run in"
)]
pub(crate) fn processor_time() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the second argument points to a `timespec` that lives and that nobody else has while the call writes to it.
    let read = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    // The clock is there since Linux 2.6.12, and the pointer is valid.
    assert_eq!(read, 0, "every thread has a clock of its processor time");
    // Neither is negative.
    let (seconds, rest) = (time.tv_sec as u64, time.tv_nsec as u64);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Uses so much of the processor.
    fn spend(time: Duration) {
        let since = processor_time();
        while processor_time().saturating_sub(since) < nanoseconds(time) {}
    }

    fn is_over(watch: &Stopwatch) -> bool {
        matches!(watch.slice_over(), UpdateDeadline::Interrupt)
    }

    fn gives_way(watch: &Stopwatch) -> bool {
        matches!(watch.slice_over(), UpdateDeadline::YieldCustom(..))
    }

    /// As an event loop does with a call that waits.
    async fn bounded(watch: &Stopwatch, call: impl Future<Output = ()>) -> wasmtime::Result<()> {
        let call = pin!(async {
            call.await;
            Ok(())
        });
        watch.bound(call).await
    }

    fn event_loop() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("an event loop starts")
    }

    #[test]
    fn a_call_gives_way_after_its_first_slice_and_ends_when_it_has_run_for_its_time() {
        let watch = Stopwatch::new();
        // Much more than what a machine may take of a virtual processor unnoticed.
        watch.start(TICK * 50);
        assert!(gives_way(&watch), "nobody knows how long it has run");
        spend(TICK);
        assert!(gives_way(&watch), "most of its time is left");
        spend(TICK * 50);
        assert!(is_over(&watch));
        watch.start(HOUR);
        assert!(gives_way(&watch), "a new call has its whole time");
    }

    #[test]
    fn what_others_run_in_between_is_not_its_time() {
        let watch = Stopwatch::new();
        watch.start(TICK * 2);
        assert!(gives_way(&watch));
        spend(TICK * 4);
        watch.resume();
        assert!(
            !is_over(&watch),
            "it was suspended while the thread did something else"
        );
    }

    #[test]
    fn a_call_that_comes_back_from_a_wait_goes_on_for_a_slice() {
        let watch = Stopwatch::new();
        watch.start(HOUR);
        watch.resume();
        let goes_on = watch.slice_over();
        assert!(matches!(goes_on, UpdateDeadline::Continue(SLICE)));
        spend(TICK);
        assert!(gives_way(&watch));
    }

    #[test]
    fn a_wait_without_leave_is_bounded_and_one_with_leave_is_not() {
        let watch = Arc::new(Stopwatch::new());
        event_loop().block_on(async {
            watch.start(TICK);
            let forever = bounded(&watch, std::future::pending()).await;
            let trap = forever.expect_err("its time is over");
            assert_eq!(trap.downcast_ref(), Some(&Trap::Interrupt));

            watch.start(TICK);
            let leave = async {
                let _leave = watch.wait();
                tokio::time::sleep(TICK * 5).await;
            };
            bounded(&watch, leave).await.expect("it had leave");
            assert!(watch.waited_until(watch.now()) >= nanoseconds(TICK * 5));
            assert!(watch.left().is_some(), "nothing of its time is gone");
        });
    }

    #[test]
    fn a_call_that_gives_way_is_not_waiting() {
        let watch = Stopwatch::new();
        watch.start(TICK);
        event_loop().block_on(async {
            let gives_way = async {
                watch.gave_way.store(true, Ordering::Relaxed);
                // Nothing stands for the turns of others but time.
                tokio::time::sleep(TICK * 5).await;
            };
            bounded(&watch, gives_way).await.expect("it did not wait");
        });
        assert!(watch.left().is_some());
    }
}
