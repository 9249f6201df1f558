//! Leaving a plugin alone that fails again and again.

use std::time::{Duration, Instant};

/// Consecutive failures after which a plugin is left alone for a while.
const PATIENCE: u32 = 5;
/// How long at first; doubles with each further failure.
const FIRST_QUARANTINE: Duration = Duration::from_secs(1);
/// How long at most.
const LONGEST_QUARANTINE: Duration = Duration::from_secs(60);

/// Keeps a plugin that fails again and again from costing a new instance per exchange.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    failures: u32,
    until: Option<Instant>,
}

impl Quarantine {
    /// How much longer the plugin is not to be called.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.until?
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
    }

    /// Whether its failures in a row were more than it is forgiven.
    pub(crate) fn is_imposed(&self) -> bool {
        self.until.is_some()
    }

    /// It failed in a way that cost an instance.
    pub(crate) fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
        if let Some(beyond) = self.failures.checked_sub(PATIENCE) {
            let time = FIRST_QUARANTINE
                .saturating_mul(1 << beyond.min(6))
                .min(LONGEST_QUARANTINE);
            self.until = Some(Instant::now() + time);
        }
    }

    /// It did its part.
    pub(crate) fn succeeded(&mut self) {
        if self.failures > 0 {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends_after_five_failures_in_a_row_and_a_success_restores_it() {
        let mut quarantine = Quarantine::default();
        for _ in 1..PATIENCE {
            quarantine.failed();
        }
        assert_eq!(quarantine.left(), None);
        quarantine.succeeded();
        for _ in 0..PATIENCE {
            quarantine.failed();
        }
        assert!(
            quarantine
                .left()
                .is_some_and(|left| left <= FIRST_QUARANTINE)
        );
        for _ in 0..40 {
            quarantine.failed();
        }
        let left = quarantine.left().expect("it failed again and again");
        assert!(
            left > LONGEST_QUARANTINE / 2 && left <= LONGEST_QUARANTINE,
            "{left:?}"
        );
    }
}
