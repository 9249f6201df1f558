//! What a plugin did, counted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::failure::{FailureKind, PluginFailure};
use crate::verdict::Verdict;

/// Of how many calls of a hook one is timed. Two looks at a clock cost a twentieth of a short call.
const TIMED: u64 = 16;

/// Failures that are kept with their words, of each plugin on each worker.
const KEPT_FAILURES: usize = 8;

/// Bytes that are kept of a failure's words: a guest's call stack can be long.
const KEPT_WORDS: usize = 4096;

/// What one plugin did on one worker since it was started there. Written by that worker alone, read from anywhere; the
/// parts of a reading may be a call apart.
#[derive(Debug, Default)]
pub struct PluginCounts {
    on_request: AtomicU64,
    on_response: AtomicU64,
    on_upgrade: AtomicU64,
    on_message: AtomicU64,
    on_complete: AtomicU64,
    handle: AtomicU64,
    verdicts: [AtomicU64; Verdict::LABELS.len()],
    times: [Times; Hook::ALL.len()],
    failures: [AtomicU64; FailureKind::LABELS.len()],
    /// Locked by a call that failed, which has a line to log as well, and by whoever looks.
    recent: Mutex<VecDeque<RecentFailure>>,
    instances: AtomicU64,
    memory: AtomicU64,
    quarantined: AtomicBool,
}

/// A failure with its words.
#[derive(Debug, Clone)]
pub struct RecentFailure {
    /// When.
    pub at: SystemTime,
    /// The function that was called.
    pub call: &'static str,
    /// One of [`FailureKind::LABELS`].
    pub kind: &'static str,
    /// What the log says, with the guest's call stack if there is one; cut where it is very long.
    pub words: String,
}

/// How long the timed calls of one hook took.
#[derive(Debug, Default)]
struct Times {
    buckets: [AtomicU64; PluginCounts::BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl CallTimes {
    /// How many were timed.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// What [`PluginCounts::times`] says of one hook.
#[derive(Debug, Clone, Default)]
pub struct CallTimes {
    /// `on-request`, …
    pub hook: &'static str,
    /// Timed calls, by [`PluginCounts::BOUNDS`]; the last one holds those beyond.
    pub buckets: [u64; PluginCounts::BOUNDS.len() + 1],
    /// Of all timed calls together.
    pub sum: Duration,
}

/// One of the hooks whose calls are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Request,
    Response,
    Upgrade,
    Message,
    Completion,
    /// The one function of a standard component.
    Handle,
}

impl Hook {
    const ALL: [Self; 6] = [
        Self::Request,
        Self::Response,
        Self::Upgrade,
        Self::Message,
        Self::Completion,
        Self::Handle,
    ];

    /// As the contract calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Request => "on-request",
            Self::Response => "on-response",
            Self::Upgrade => "on-upgrade",
            Self::Message => "on-message",
            Self::Completion => "on-complete",
            Self::Handle => "handle",
        }
    }
}

impl PluginCounts {
    /// Upper bounds of the times of calls, in seconds: from a hook that reads one header to one that waits for others.
    pub const BOUNDS: [f64; 15] = [
        1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 1e-2, 5e-2, 0.25,
        1.0,
    ];

    /// Calls by hook, the failed ones included: `("on-request", 12)`, …
    pub fn calls(&self) -> [(&'static str, u64); 6] {
        [
            ("on-request", self.on_request.load(Ordering::Relaxed)),
            ("on-response", self.on_response.load(Ordering::Relaxed)),
            ("on-upgrade", self.on_upgrade.load(Ordering::Relaxed)),
            ("on-message", self.on_message.load(Ordering::Relaxed)),
            ("on-complete", self.on_complete.load(Ordering::Relaxed)),
            ("handle", self.handle.load(Ordering::Relaxed)),
        ]
    }

    /// Failures by the label of their kind, in the order of [`FailureKind::LABELS`].
    pub fn failures(&self) -> [(&'static str, u64); FailureKind::LABELS.len()] {
        std::array::from_fn(|at| {
            let count = self.failures[at].load(Ordering::Relaxed);
            (FailureKind::LABELS[at], count)
        })
    }

    /// Verdicts of `on-request` and `on-response` that were not `next`, by label: `("answer", 3)`, …
    pub fn verdicts(&self) -> [(&'static str, u64); Verdict::LABELS.len()] {
        std::array::from_fn(|at| {
            let count = self.verdicts[at].load(Ordering::Relaxed);
            (Verdict::LABELS[at], count)
        })
    }

    /// How long calls took, by hook: one of sixteen is timed, and those of an exchange that is
    /// [followed](crate::Attributes::followed).
    pub fn times(&self) -> [CallTimes; Hook::ALL.len()] {
        Hook::ALL.map(|hook| {
            let times = &self.times[hook as usize];
            CallTimes {
                hook: hook.name(),
                buckets: std::array::from_fn(|at| times.buckets[at].load(Ordering::Relaxed)),
                sum: Duration::from_nanos(times.nanoseconds.load(Ordering::Relaxed)),
            }
        })
    }

    /// The last failures that have something to say, the newest last.
    pub fn recent_failures(&self) -> Vec<RecentFailure> {
        self.recent().iter().cloned().collect()
    }

    /// Instances of hooks that live on this worker.
    pub fn instances(&self) -> u64 {
        self.instances.load(Ordering::Relaxed)
    }

    /// Bytes of all their linear memories.
    pub fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    /// Whether it failed so often that it is left alone, or is being tried again and has not succeeded yet.
    pub fn is_quarantined(&self) -> bool {
        self.quarantined.load(Ordering::Relaxed)
    }

    /// A call of a hook begins; says whether it should be timed.
    pub(crate) fn called(&self, hook: Hook) -> bool {
        let count = match hook {
            Hook::Request => &self.on_request,
            Hook::Response => &self.on_response,
            Hook::Upgrade => &self.on_upgrade,
            Hook::Message => &self.on_message,
            Hook::Completion => &self.on_complete,
            Hook::Handle => &self.handle,
        };
        add_alone(count, 1).is_multiple_of(TIMED)
    }

    /// A call that was timed took so long.
    pub(crate) fn took(&self, hook: Hook, time: Duration) {
        let times = &self.times[hook as usize];
        let seconds = time.as_secs_f64();
        let bucket = Self::BOUNDS.partition_point(|bound| *bound < seconds);
        add_alone(&times.buckets[bucket], 1);
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        add_alone(&times.nanoseconds, nanoseconds);
    }

    /// A plugin had something to do.
    pub(crate) fn judged(&self, verdict: &Verdict) {
        if let Some(at) = verdict.index() {
            add_alone(&self.verdicts[at], 1);
        }
    }

    pub(crate) fn failed(&self, failure: &PluginFailure) {
        let PluginFailure { call, kind, .. } = failure;
        self.failures[kind.index()].fetch_add(1, Ordering::Relaxed);
        if !kind.has_words() {
            return;
        }
        let mut words = failure.to_string();
        words.truncate(words.floor_char_boundary(KEPT_WORDS));
        let mut recent = self.recent();
        if recent.len() == KEPT_FAILURES {
            recent.pop_front();
        }
        recent.push_back(RecentFailure {
            at: SystemTime::now(),
            call,
            kind: kind.label(),
            words,
        });
    }

    /// An instance was made, or one has ended.
    pub(crate) fn has_instances(&self, difference: i64) {
        let difference = difference.cast_unsigned();
        self.instances.fetch_add(difference, Ordering::Relaxed);
    }

    /// The memories of the instances have grown, or one has ended.
    pub(crate) fn has_memory(&self, difference: i64) {
        let difference = difference.cast_unsigned();
        self.memory.fetch_add(difference, Ordering::Relaxed);
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<RecentFailure>> {
        // Each is put in as a whole, so the list is whole even after a panic.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_quarantined(&self, quarantined: bool) {
        self.quarantined.store(quarantined, Ordering::Relaxed);
    }
}

/// Adds to what one thread alone writes, and gives what it was: this loses nothing, and costs less than an atomic
/// addition.
fn add_alone(count: &AtomicU64, more: u64) -> u64 {
    let before = count.load(Ordering::Relaxed);
    count.store(before.wrapping_add(more), Ordering::Relaxed);
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_call_is_timed_and_then_every_sixteenth() {
        let counts = PluginCounts::default();
        let timed: Vec<_> = (0..40).filter(|_| counts.called(Hook::Response)).collect();
        assert_eq!(timed, [0, 16, 32]);
        assert_eq!(counts.calls()[1], ("on-response", 40));
    }

    #[test]
    fn a_time_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let counts = PluginCounts::default();
        for time in [1_000, 1_001, 2_000_000_000] {
            counts.took(Hook::Request, Duration::from_nanos(time));
        }
        let times = &counts.times()[0];
        assert_eq!(
            (times.hook, times.sum.as_nanos()),
            ("on-request", 2_000_002_001)
        );
        assert_eq!(times.buckets[..3], [1, 1, 0]);
        assert_eq!(times.buckets[PluginCounts::BOUNDS.len()], 1);
    }

    #[test]
    fn the_last_failures_are_kept_and_their_words_are_cut() {
        let counts = PluginCounts::default();
        for number in 0..=KEPT_FAILURES {
            counts.failed(&PluginFailure {
                plugin: "p".into(),
                call: "on-request",
                kind: FailureKind::Error(format!("{number} {}", "é".repeat(KEPT_WORDS))),
            });
        }
        let kept = counts.recent_failures();
        assert_eq!(kept.len(), KEPT_FAILURES);
        assert!(
            kept[0].words.contains("on-request: 1 é"),
            "{}",
            kept[0].words
        );
        assert!(kept.iter().all(|failure| failure.words.len() <= KEPT_WORDS));
    }
}
