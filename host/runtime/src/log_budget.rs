//! A plugin's share of the log.

use std::time::Instant;

/// How many log lines a plugin may still write this second.
#[derive(Debug)]
pub(crate) struct LogBudget {
    per_second: u32,
    left: u32,
    lost: u64,
    second: Instant,
}

/// Whether a line may be written.
pub(crate) enum Budget {
    Taken,
    Refilled { lost: u64 },
    Spent,
}

impl LogBudget {
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            per_second,
            left: per_second,
            lost: 0,
            second: Instant::now(),
        }
    }

    /// Whether one more line may be written; where nobody is told how many were lost.
    pub(crate) fn allows(&mut self) -> bool {
        !matches!(self.take(), Budget::Spent)
    }

    pub(crate) fn take(&mut self) -> Budget {
        let refilled = self.second.elapsed().as_secs() >= 1;
        if refilled {
            self.second = Instant::now();
            self.left = self.per_second;
        }
        match self.left.checked_sub(1) {
            None => {
                self.lost += 1;
                Budget::Spent
            }
            Some(left) => {
                self.left = left;
                if refilled {
                    Budget::Refilled {
                        lost: std::mem::take(&mut self.lost),
                    }
                } else {
                    Budget::Taken
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_budget_runs_out_and_counts_what_was_lost() {
        let mut budget = LogBudget::new(2);
        assert!(matches!(budget.take(), Budget::Taken));
        assert!(matches!(budget.take(), Budget::Taken));
        assert!(matches!(budget.take(), Budget::Spent));
        budget.second = Instant::now()
            .checked_sub(std::time::Duration::from_secs(2))
            .expect("up for 2 s");
        assert!(matches!(budget.take(), Budget::Refilled { lost: 1 }));
    }
}
