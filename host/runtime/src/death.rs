//! The end of an instance, and those that are to hear of it.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Whether an instance is lost: a call cost it its life, or was given up half-way. Once is for ever.
#[derive(Debug, Default)]
pub(crate) struct Death {
    is: AtomicBool,
    told: Notify,
}

impl Death {
    /// Whether it is lost.
    pub(crate) fn is(&self) -> bool {
        self.is.load(Ordering::Relaxed)
    }

    /// Waits until it is lost.
    pub(crate) async fn come(&self) {
        let mut told = pin!(self.told.notified());
        // From here on, it cannot be missed.
        told.as_mut().enable();
        if !self.is() {
            told.await;
        }
    }
}

/// A call under way. The instance is lost when this is dropped without [`survived`](Self::survived), as it is with a
/// call that nobody awaits any more.
#[derive(Debug)]
pub(crate) struct Danger<'a>(Option<&'a Death>);

impl<'a> Danger<'a> {
    pub(crate) fn new(death: &'a Death) -> Self {
        Self(Some(death))
    }

    /// The call came back, and the instance can be used again.
    pub(crate) fn survived(mut self) {
        self.0 = None;
    }
}

impl Drop for Danger<'_> {
    fn drop(&mut self) {
        if let Some(death) = self.0 {
            death.is.store(true, Ordering::Relaxed);
            death.told.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn a_call_given_up_is_heard_of_by_those_that_wait_and_those_that_ask_later() {
        let death = Death::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut waiting = pin!(death.come());
        Danger::new(&death).survived();
        assert!(!death.is());
        assert!(waiting.as_mut().poll(&mut context).is_pending());

        let call = Danger::new(&death);
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        drop(call);

        assert!(death.is());
        assert!(waiting.as_mut().poll(&mut context).is_ready());
        assert!(pin!(death.come()).poll(&mut context).is_ready());
    }
}
