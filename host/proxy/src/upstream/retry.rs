//! What is sent again, and how often.

use std::cell::Cell;
use std::time::Duration;

use http::StatusCode;

use super::balance::Random;
use crate::config::{Retry, RetryOn};

/// How an attempt ended that may be followed by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing could be sent to any target.
    Unsent,
    /// The connection ended before there was a response.
    Reset,
    /// There was no response in time.
    Late,
    Answered(StatusCode),
}

/// `retry.on` names it.
pub(super) fn is_named(on: &RetryOn, outcome: Outcome) -> bool {
    match outcome {
        Outcome::Unsent => on.connect,
        Outcome::Reset => on.reset,
        Outcome::Late => on.timeout,
        Outcome::Answered(status) => on.statuses.contains(&status.as_u16()),
    }
}

/// Retries for requests, in hundredths of a retry, so that an upstream which is down is not asked several times as much
/// as one that is well. Of one worker.
#[derive(Debug)]
pub(super) struct Budget(Cell<u32>);

/// Ten retries: what a worker may have without many requests before, and what it can save up.
const RESERVE: u32 = 1000;

impl Budget {
    pub(super) fn new() -> Self {
        Self(Cell::new(RESERVE))
    }

    /// A request was sent for the first time.
    pub(super) fn earn(&self, percent: u8) {
        self.0.set((self.0.get() + u32::from(percent)).min(RESERVE));
    }

    /// Takes a retry, if there is one.
    pub(super) fn spend(&self) -> bool {
        match self.0.get().checked_sub(100) {
            Some(rest) => {
                self.0.set(rest);
                true
            }
            None => false,
        }
    }
}

/// How long to wait before the retry of this number, counted from 0. Half of it is chance, so that requests which
/// failed together do not come back together.
pub(super) fn back_off(retry: &Retry, number: u32, random: &Random) -> Duration {
    /// A client that waits for longer than this had better be told.
    const LONGEST: Duration = Duration::from_secs(5);
    let whole = retry
        .back_off
        .saturating_mul(1 << number.min(16))
        .min(LONGEST);
    whole.mul_f32(0.5 + random.share() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_share_of_the_requests_and_a_reserve() {
        let budget = Budget::new();
        assert_eq!((0..20).filter(|_| budget.spend()).count(), 10);
        for _ in 0..5 {
            budget.earn(20);
        }
        assert!(budget.spend());
        assert!(!budget.spend());
    }
}
