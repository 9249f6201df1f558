//! Whether every worker's event loop still turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// Asks the workers for a sign of life.
#[derive(Debug, Clone)]
pub struct Pulse {
    asked: Arc<watch::Sender<u64>>,
    answered: Arc<[AtomicU64]>,
}

/// Answers for one worker.
#[derive(Debug)]
pub(crate) struct Answers {
    asked: watch::Receiver<u64>,
    answered: Arc<[AtomicU64]>,
    worker: usize,
}

impl Pulse {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            asked: Arc::new(watch::Sender::new(0)),
            answered: (0..workers).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    pub(crate) fn answers(&self, worker: usize) -> Answers {
        Answers {
            asked: self.asked.subscribe(),
            answered: self.answered.clone(),
            worker,
        }
    }

    /// The workers that have not answered what was asked last, by their number; and asks all of them anew. One that has
    /// come to its end is not missed.
    pub fn beat(&self) -> Vec<usize> {
        let asked = *self.asked.borrow();
        let has_not = |(worker, answered): (usize, &AtomicU64)| {
            (answered.load(Ordering::Relaxed) < asked).then_some(worker)
        };
        let silent = self.answered.iter().enumerate().filter_map(has_not);
        let silent = silent.collect();
        self.asked.send_replace(asked + 1);
        silent
    }
}

impl Answers {
    /// On the event loop that is to be looked after.
    pub(crate) async fn answer(mut self) {
        while self.asked.changed().await.is_ok() {
            self.set(*self.asked.borrow());
        }
    }

    fn set(&self, answer: u64) {
        self.answered[self.worker].store(answer, Ordering::Relaxed);
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.set(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_does_not_answer_is_named_and_who_has_ended_is_not() {
        let pulse = Pulse::new(3);
        let lives = tokio::spawn(pulse.answers(0).answer());
        let hangs = pulse.answers(1);
        drop(pulse.answers(2));
        assert!(pulse.beat().is_empty(), "nothing was asked before");
        while pulse.answered[0].load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pulse.beat(), [1]);
        let answers = tokio::spawn(hangs.answer());
        while pulse.answered[1].load(Ordering::Relaxed) < 2
            || pulse.answered[0].load(Ordering::Relaxed) < 2
        {
            tokio::task::yield_now().await;
        }
        assert!(pulse.beat().is_empty());
        lives.abort();
        answers.abort();
    }
}
