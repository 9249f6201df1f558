//! A plugin's share of the log.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

/// How many log lines a plugin may still write this second. Clones share it. Locked for a moment at each line, which
/// costs less than the line.
#[derive(Debug, Clone)]
pub(crate) struct LogBudget(Arc<Mutex<Lines>>);

#[derive(Debug)]
struct Lines {
    per_second: u32,
    left: u32,
    lost: u64,
    second: Instant,
}

/// The budget as one instance has it, whichever way it writes: one of its own until it serves, and then its worker's.
#[derive(Debug, Clone)]
pub(crate) struct LogShare(Arc<Share>);

#[derive(Debug)]
struct Share {
    own: LogBudget,
    of_worker: OnceLock<LogBudget>,
}

impl LogBudget {
    pub(crate) fn new(per_second: u32) -> Self {
        Self(Arc::new(Mutex::new(Lines {
            per_second,
            left: per_second,
            lost: 0,
            second: Instant::now(),
        })))
    }

    /// Takes one more line, if it may be written; with how many could not be before it.
    fn take(&self) -> Option<u64> {
        let mut lines = self.lock();
        if lines.second.elapsed().as_secs() >= 1 {
            lines.second = Instant::now();
            lines.left = lines.per_second;
        }
        match lines.left.checked_sub(1) {
            None => {
                lines.lost += 1;
                None
            }
            Some(left) => {
                lines.left = left;
                Some(std::mem::take(&mut lines.lost))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        // Numbers, of which each is right by itself even after a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogShare {
    pub(crate) fn new(per_second: u32) -> Self {
        Self(Arc::new(Share {
            own: LogBudget::new(per_second),
            of_worker: OnceLock::new(),
        }))
    }

    /// From now on, what the instance writes is taken from its worker's budget.
    pub(crate) fn lend(&self, budget: LogBudget) {
        // An instance stays on its worker, whose budget is the same each time.
        self.0.of_worker.get_or_init(|| budget);
    }

    /// Whether one more line of this plugin may be written. Says in the log how many could not be before it.
    pub(crate) fn allows(&self, plugin: &str) -> bool {
        let budget = self.0.of_worker.get().unwrap_or(&self.0.own);
        let lost = budget.take();
        if let Some(lost @ 1..) = lost {
            tracing::warn!(target: "plugin", %plugin, lost, "the plugin logs more than `limits.log-lines`; lines were lost");
        }
        lost.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A second has passed.
    fn refill(budget: &LogBudget) {
        let before = Instant::now().checked_sub(Duration::from_secs(2));
        budget.lock().second = before.expect("up for 2 s");
    }

    #[test]
    fn a_log_budget_runs_out_and_counts_what_was_lost() {
        let budget = LogBudget::new(2);
        refill(&budget);
        assert_eq!(budget.take(), Some(0));
        // Should the second be over by now, there are two more.
        while budget.take().is_some() {}
        refill(&budget);
        assert_eq!(budget.take(), Some(1));
        assert_eq!(budget.take(), Some(0));
    }

    #[test]
    fn the_instances_of_a_worker_share_its_budget() {
        let worker = LogBudget::new(1);
        let (one, another) = (LogShare::new(1), LogShare::new(1));
        assert!(one.allows("a") && another.allows("a"), "each has its own");
        one.lend(worker.clone());
        another.lend(worker.clone());
        // Not a second from here on: the hour is not over.
        worker.lock().second = Instant::now() + Duration::from_secs(3600);
        assert!(one.allows("a"));
        assert!(!another.allows("a"));
        assert!(!one.clone().allows("a"));
    }
}
