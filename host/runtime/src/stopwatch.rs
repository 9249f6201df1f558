//! How long a call runs, without the time for which the host waits on the guest's behalf.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{Trap, UpdateDeadline};

use crate::engine::TICK;

/// Measures one call at a time. Shared between the instance and its imports, which run while the store is borrowed;
/// both are on one thread, so the counters are atomic only for the sake of the type.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    base: Instant,
    /// All in nanoseconds since `base`, or for so many.
    started: AtomicU64,
    limit: AtomicU64,
    waited: AtomicU64,
    /// When the present wait began; [`NOT_WAITING`].
    waiting_since: AtomicU64,
    /// When the time of the present call was over, or [`NOT_OVER`], and what this thread had used of the processor.
    over_since: AtomicU64,
    processor_then: AtomicU64,
}

const NOT_WAITING: u64 = u64::MAX;
const NOT_OVER: u64 = u64::MAX;

/// Ticks in which a call whose time is over shows whether it runs.
const LOOK: u64 = 2;

/// While it lives, time does not count.
#[derive(Debug)]
pub(crate) struct Waiting(Arc<Stopwatch>);

impl Drop for Waiting {
    fn drop(&mut self) {
        let since = self.0.waiting_since.swap(NOT_WAITING, Ordering::Relaxed);
        let waited = self.0.now().saturating_sub(since);
        self.0.waited.fetch_add(waited, Ordering::Relaxed);
    }
}

impl Stopwatch {
    pub(crate) fn new() -> Self {
        Self {
            base: Instant::now(),
            started: AtomicU64::new(0),
            limit: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            waiting_since: AtomicU64::new(NOT_WAITING),
            over_since: AtomicU64::new(NOT_OVER),
            processor_then: AtomicU64::new(0),
        }
    }

    /// A call begins that cannot wait, so that its time is kept by the epoch alone.
    pub(crate) fn reset(&self) {
        self.over_since.store(NOT_OVER, Ordering::Relaxed);
    }

    /// A call begins, which may run for so long.
    pub(crate) fn start(&self, limit: Duration) {
        self.reset();
        self.started.store(self.now(), Ordering::Relaxed);
        self.limit.store(nanoseconds(limit), Ordering::Relaxed);
        self.waited.store(0, Ordering::Relaxed);
        self.waiting_since.store(NOT_WAITING, Ordering::Relaxed);
    }

    /// Stops the watch until the guard is dropped.
    pub(crate) fn wait(self: &Arc<Self>) -> Waiting {
        self.waiting_since.store(self.now(), Ordering::Relaxed);
        Waiting(self.clone())
    }

    /// How long the present call has waited.
    pub(crate) fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited_until(self.now()))
    }

    /// What to do about a guest that is still running when its first deadline has passed: it may run on for as long as
    /// it waited.
    pub(crate) fn overdue(&self) -> UpdateDeadline {
        match self.left() {
            Some(left) => UpdateDeadline::Continue(ticks(left)),
            None => self.had_its_time(),
        }
    }

    /// What to do about a guest whose time is over by the clock on the wall. On a busy machine that clock says little: a
    /// thread that was not given the processor has not run. So the guest is watched for a moment. If it has most of a
    /// processor to itself then, it had its time; if not, it goes on and is watched again.
    pub(crate) fn had_its_time(&self) -> UpdateDeadline {
        let (now, processor) = (self.now(), processor_time());
        let since = self.over_since.swap(now, Ordering::Relaxed);
        let then = self.processor_then.swap(processor, Ordering::Relaxed);
        let ran = processor.saturating_sub(then);
        if since != NOT_OVER && ran >= now.saturating_sub(since) / 2 {
            return UpdateDeadline::Interrupt;
        }
        UpdateDeadline::Continue(LOOK)
    }

    /// Ends the call when its time is up. The epoch bounds how long a guest computes, this how long its imports wait.
    pub(crate) async fn bound<T>(
        &self,
        call: impl Future<Output = wasmtime::Result<T>>,
    ) -> wasmtime::Result<T> {
        let mut call = std::pin::pin!(call);
        while let Some(left) = self.left() {
            // While the watch stands, the little that may be left is not worth a timer of its own.
            if let Ok(called) = tokio::time::timeout(left.max(TICK), call.as_mut()).await {
                return called;
            }
        }
        Err(Trap::Interrupt.into())
    }

    fn left(&self) -> Option<Duration> {
        let now = self.now();
        let run = now
            .saturating_sub(self.started.load(Ordering::Relaxed))
            .saturating_sub(self.waited_until(now));
        let left = self.limit.load(Ordering::Relaxed).saturating_sub(run);
        (left > 0).then(|| Duration::from_nanos(left))
    }

    fn waited_until(&self, now: u64) -> u64 {
        let present = match self.waiting_since.load(Ordering::Relaxed) {
            NOT_WAITING => 0,
            since => now.saturating_sub(since),
        };
        self.waited.load(Ordering::Relaxed).saturating_add(present)
    }

    fn now(&self) -> u64 {
        nanoseconds(self.base.elapsed())
    }
}

/// What this thread has used of the processor since it began, in nanoseconds.
fn processor_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // Neither is negative.
    let (seconds, rest) = (time.tv_sec as u64, time.tv_nsec as u64);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Deadlines are counted in whole ticks, and the current one has already begun.
pub(crate) fn ticks(limit: Duration) -> u64 {
    let ticks = limit.as_nanos().div_ceil(TICK.as_nanos());
    u64::try_from(ticks)
        .unwrap_or(u64::MAX / 2)
        .saturating_add(1)
        .min(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_over(watch: &Stopwatch) -> bool {
        matches!(watch.overdue(), UpdateDeadline::Interrupt)
    }

    const HOUR: Duration = Duration::from_secs(3600);

    fn spend_time() {
        let since = Instant::now();
        while since.elapsed() < TICK {
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_a_call_waits_does_not_count_and_what_it_runs_does() {
        let (before, watch) = (Instant::now(), Arc::new(Stopwatch::new()));
        watch.start(HOUR);
        let waiting = watch.wait();
        spend_time();
        drop(waiting);
        assert!(watch.waited() >= TICK);
        let left = watch.left().expect("an hour is not over");
        // Nothing but what was not waited is gone.
        assert!(left + (before.elapsed() - watch.waited()) >= HOUR);
        spend_time();
        assert!(watch.left().expect("an hour is not over") <= HOUR - TICK);
    }

    #[test]
    fn a_thread_that_did_not_run_had_no_time() {
        let watch = Stopwatch::new();
        watch.reset();
        let goes_on =
            |watch: &Stopwatch| matches!(watch.had_its_time(), UpdateDeadline::Continue(LOOK));
        assert!(goes_on(&watch), "it is watched first");
        std::thread::sleep(Duration::from_millis(20));
        assert!(goes_on(&watch), "it slept");
    }

    #[test]
    fn a_thread_that_runs_is_out_of_time_in_the_end() {
        let watch = Stopwatch::new();
        watch.reset();
        // However busy the machine is, at some time it runs for most of a moment.
        while let UpdateDeadline::Continue(_) = watch.had_its_time() {
            spend_time();
        }
    }

    #[test]
    fn a_new_call_has_its_whole_time() {
        let watch = Arc::new(Stopwatch::new());
        watch.start(Duration::ZERO);
        assert!(watch.left().is_none());
        watch.start(HOUR);
        assert!(!is_over(&watch));
        assert_eq!(watch.waited(), Duration::ZERO);
    }
}
