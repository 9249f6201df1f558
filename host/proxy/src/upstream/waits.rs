//! How long the parts of an exchange with an upstream may take.

use std::time::Duration;

use tokio::time::Instant;

/// Each is a limit of its own; `end` bounds them all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    /// From the request's last byte to the response's head.
    pub(crate) response: Duration,
    /// How long the response's body may pause.
    pub(crate) pause: Duration,
    /// `timeouts.total` of the route.
    pub(crate) end: Option<Instant>,
}

impl Waits {
    /// The end of a wait that begins now.
    pub(super) fn end_of(&self, limit: Duration) -> Instant {
        let end = Instant::now() + limit;
        self.end.map_or(end, |total| total.min(end))
    }

    /// The exchange has taken as long as it may.
    pub(super) fn are_over(&self) -> bool {
        self.are_over_in(Duration::ZERO)
    }

    /// … or will have by then.
    pub(super) fn are_over_in(&self, time: Duration) -> bool {
        self.end.is_some_and(|end| Instant::now() + time >= end)
    }
}
