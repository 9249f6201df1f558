//! Leaving a plugin alone that fails again and again.

use std::time::{Duration, Instant};

/// Consecutive failures after which a plugin is left alone for a while.
const PATIENCE: u32 = 5;
/// How long at first; doubles with each further failure.
const FIRST_QUARANTINE: Duration = Duration::from_secs(1);
/// How long at most.
const LONGEST_QUARANTINE: Duration = Duration::from_secs(60);

/// Keeps a plugin that fails again and again from costing a new instance per exchange. Each of its functions is judged by
/// itself, as one that works says nothing of another that fails.
#[derive(Debug, Default)]
pub(crate) struct Quarantine(Vec<Failing>);

/// A function that failed when it was last called.
#[derive(Debug)]
struct Failing {
    call: &'static str,
    /// In a row.
    failures: u32,
    until: Option<Instant>,
}

impl Quarantine {
    /// How much longer the plugin is not to be called.
    pub(crate) fn left(&self) -> Option<Duration> {
        let until = self.0.iter().filter_map(|failing| failing.until).max()?;
        until
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
    }

    /// Whether the failures in a row of one of its functions were more than it is forgiven.
    pub(crate) fn is_imposed(&self) -> bool {
        self.0.iter().any(|failing| failing.until.is_some())
    }

    /// This function failed in a way that cost an instance, or could not make one.
    pub(crate) fn failed(&mut self, call: &'static str) {
        let at = self.0.iter().position(|failing| failing.call == call);
        let at = at.unwrap_or_else(|| {
            self.0.push(Failing {
                call,
                failures: 0,
                until: None,
            });
            self.0.len() - 1
        });
        let failing = &mut self.0[at];
        failing.failures = failing.failures.saturating_add(1);
        if let Some(beyond) = failing.failures.checked_sub(PATIENCE) {
            let time = FIRST_QUARANTINE
                .saturating_mul(1 << beyond.min(6))
                .min(LONGEST_QUARANTINE);
            failing.until = Some(Instant::now() + time);
        }
    }

    /// This function did its part. Says whether that mattered.
    pub(crate) fn succeeded(&mut self, call: &'static str) -> bool {
        let before = self.0.len();
        self.0.retain(|failing| failing.call != call);
        self.0.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends_after_five_failures_in_a_row_and_a_success_restores_it() {
        let mut quarantine = Quarantine::default();
        for _ in 1..PATIENCE {
            quarantine.failed("on-request");
        }
        assert_eq!(quarantine.left(), None);
        quarantine.succeeded("on-request");
        for _ in 0..PATIENCE {
            quarantine.failed("on-request");
        }
        assert!(
            quarantine
                .left()
                .is_some_and(|left| left <= FIRST_QUARANTINE)
        );
        for _ in 0..40 {
            quarantine.failed("on-request");
        }
        let left = quarantine.left().expect("it failed again and again");
        assert!(
            left > LONGEST_QUARANTINE / 2 && left <= LONGEST_QUARANTINE,
            "{left:?}"
        );
    }

    #[test]
    fn only_a_success_of_the_function_that_failed_restores_patience() {
        let mut quarantine = Quarantine::default();
        for _ in 0..PATIENCE {
            assert_eq!(quarantine.left(), None);
            assert!(!quarantine.succeeded("on-request"));
            quarantine.failed("on-response");
        }
        assert!(quarantine.left().is_some());
        assert!(!quarantine.succeeded("on-request"));
        assert!(quarantine.is_imposed());
        assert!(quarantine.succeeded("on-response"));
        assert!(!quarantine.is_imposed());
        assert_eq!(quarantine.left(), None);
    }
}
