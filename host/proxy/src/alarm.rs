//! Time limits that are set with every exchange and hardly ever reached.
//!
//! To set one costs nothing but a comparison: the timer behind it is made when somebody first has to wait, and moved on
//! only once it has gone off too early.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::coop::{has_budget_remaining, unconstrained};
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer whose end is often moved on.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready at this moment. Each time it is asked another one may be given.
    pub(crate) fn poll_at(&mut self, cx: &mut Context<'_>, end: Instant) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if timer.deadline() > end {
            timer.as_mut().reset(end);
        }
        loop {
            // A task that has spent its turn on bytes that came would not even be told the time, and a peer that
            // never stops sending would never be too late. The timers themselves may be behind then: they are looked
            // at after some dozens of such turns.
            if pin!(unconstrained(timer.as_mut())).poll(cx).is_pending() {
                return match has_budget_remaining() || Instant::now() < end {
                    true => Poll::Pending,
                    false => Poll::Ready(()),
                };
            }
            if timer.deadline() >= end {
                return Poll::Ready(());
            }
            timer.as_mut().reset(end);
        }
    }
}

/// How long nothing has come.
#[derive(Debug)]
pub(crate) struct Pause {
    pub(crate) limit: Duration,
    /// Of the pause that lasts.
    end: Option<Instant>,
    alarm: Alarm,
}

impl Pause {
    pub(crate) fn new(limit: Duration) -> Self {
        Self::with(limit, Alarm::default())
    }

    /// With a timer that is there already.
    pub(crate) fn with(limit: Duration, alarm: Alarm) -> Self {
        let end = None;
        Self { limit, end, alarm }
    }

    /// To be asked whenever there is nothing; ready when that lasts for too long, or until `latest`.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>, latest: Option<Instant>) -> Poll<()> {
        let end = *self.end.get_or_insert_with(|| Instant::now() + self.limit);
        self.alarm
            .poll_at(cx, latest.map_or(end, |latest| latest.min(end)))
    }

    /// Something came.
    pub(crate) fn ended(&mut self) {
        self.end = None;
    }

    /// The timer, for the next pause.
    pub(crate) fn take_alarm(&mut self) -> Alarm {
        std::mem::take(&mut self.alarm)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::task::coop::consume_budget;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("an event loop")
    }

    #[test]
    fn an_end_that_is_moved_on_or_back_is_the_one_that_counts() {
        runtime().block_on(async {
            let mut alarm = Alarm::default();
            let start = Instant::now();
            let soon = start + Duration::from_millis(5);
            let never = start + Duration::from_secs(3600);
            let far = poll_fn(|cx| Poll::Ready(alarm.poll_at(cx, never))).await;
            assert!(far.is_pending());
            poll_fn(|cx| alarm.poll_at(cx, soon)).await;
            assert!(Instant::now() >= soon);
            let later = Instant::now() + Duration::from_millis(5);
            poll_fn(|cx| alarm.poll_at(cx, later)).await;
            assert!(Instant::now() >= later);
        });
    }

    #[test]
    fn an_end_comes_also_for_a_task_that_has_spent_its_turn() {
        runtime().block_on(async {
            let mut alarm = Alarm::default();
            let now = Instant::now();
            poll_fn(|cx| {
                while has_budget_remaining() {
                    assert!(pin!(consume_budget()).poll(cx).is_ready());
                }
                Poll::Ready(())
            })
            .await;
            let polled = poll_fn(|cx| Poll::Ready(alarm.poll_at(cx, now))).await;
            assert!(polled.is_ready());
        });
    }

    #[test]
    fn a_pause_begins_anew_after_it_has_ended() {
        runtime().block_on(async {
            let limit = Duration::from_millis(5);
            let mut pause = Pause::new(limit);
            poll_fn(|cx| pause.poll_over(cx, None)).await;
            pause.ended();
            let again = Instant::now();
            poll_fn(|cx| pause.poll_over(cx, None)).await;
            assert!(again.elapsed() >= limit);
        });
    }
}
