//! Lets a component compute without holding up the thread it shares with others.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::deadlines::{self, TICK};
use crate::stopwatch::processor_time;

/// The component used up its processor time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OutOfTime;

/// A future that is polled in slices: after a long one the event loop looks at its sockets and timers and serves the
/// other tasks before the next. Waking at once, as the engine does, would be served first by some event loops.
pub(crate) struct Slices<F> {
    inner: F,
    left: Duration,
    rest: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl<F> Slices<F> {
    /// `limit` bounds what all slices together take of a processor.
    pub(crate) fn new(inner: F, limit: Duration) -> Self {
        Self {
            inner,
            left: limit,
            rest: None,
        }
    }
}

impl<F: Future + Unpin> Future for Slices<F> {
    type Output = Result<F::Output, OutOfTime>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(rest) = &mut this.rest {
            ready!(rest.as_mut().poll(cx));
            this.rest = None;
        }
        deadlines::note_turn();
        let before = processor_time();
        let polled = Pin::new(&mut this.inner).poll(cx);
        let used = Duration::from_nanos(processor_time().saturating_sub(before));
        this.left = this.left.saturating_sub(used);
        match polled {
            Poll::Ready(output) => return Poll::Ready(Ok(output)),
            Poll::Pending if this.left.is_zero() => return Poll::Ready(Err(OutOfTime)),
            Poll::Pending => {}
        }
        if used >= TICK / 2 {
            this.rest = Some(Box::pin(tokio::task::yield_now()));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use tokio::task::LocalSet;

    use super::*;

    /// Computes for a tick each time it is polled, and never ends. Counts how often it was.
    #[derive(Default)]
    struct Spin(Rc<Cell<u32>>);

    impl Future for Spin {
        type Output = ();

        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            let before = processor_time();
            while processor_time() - before < 2_000_000 {
                std::hint::spin_loop();
            }
            self.0.set(self.0.get() + 1);
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("an event loop");
        LocalSet::new().block_on(&runtime, test)
    }

    #[test]
    fn what_computes_too_long_is_ended() {
        let limit = Duration::from_millis(20);
        assert_eq!(run(Slices::new(Spin::default(), limit)), Err(OutOfTime));
    }

    #[test]
    fn what_waits_uses_no_time() {
        let waited = run(async {
            let wait = Box::pin(tokio::time::sleep(Duration::from_millis(20)));
            Slices::new(wait, Duration::from_millis(10)).await
        });
        assert_eq!(waited, Ok(()));
    }

    #[test]
    fn timers_go_off_while_something_computes() {
        const TIMERS: u32 = 20;
        let slices = Rc::new(Cell::new(0));
        let spin = Spin(slices.clone());
        run(async {
            let hour = Duration::from_secs(3600);
            let spinning = tokio::task::spawn_local(Slices::new(spin, hour));
            for _ in 0..TIMERS {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            spinning.abort();
        });
        // Two or three to each; an event loop that is not looked at in between runs some sixty.
        assert!(slices.get() < 20 * TIMERS, "{} slices", slices.get());
    }
}
