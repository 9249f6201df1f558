//! What is told of an exchange once it is over.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::bindings::completion_hook as wit;

/// What there is to tell of an exchange that its heads do not.
#[derive(Debug, Clone)]
pub struct Summary {
    /// How it ended.
    pub end: End,
    /// The status that was sent, if any was.
    pub status: Option<StatusCode>,
    /// Bytes of the request's body, or of the tunnel from the client.
    pub received: u64,
    /// Bytes of the response's body, or of the tunnel to the client.
    pub sent: u64,
    /// From the request's head to the end.
    pub duration: Duration,
    /// From the request's head to the head of the upstream's response.
    pub upstream_time: Option<Duration>,
    /// `host:port` of the endpoint that was chosen last.
    pub upstream: Option<Arc<str>>,
    /// The plugin whose reply was sent.
    pub answered_by: Option<Arc<str>>,
}

/// How an exchange ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// All was sent.
    Complete,
    /// The client went away before the last byte.
    ClientLeft,
    /// By one side's fault, with the reason that the log has.
    Failed(FaultySide, String),
}

/// Whose fault it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultySide {
    /// The client's.
    Client,
    /// A plugin's.
    Plugin,
    /// The upstream's.
    Upstream,
    /// The proxy's, or its machine's.
    Host,
}

impl From<&Summary> for wit::Summary {
    fn from(summary: &Summary) -> Self {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        Self {
            end: match &summary.end {
                End::Complete => wit::End::Complete,
                End::ClientLeft => wit::End::ClientLeft,
                End::Failed(side, reason) => wit::End::Failed(wit::Fault {
                    side: (*side).into(),
                    reason: reason.clone(),
                }),
            },
            status: summary.status.map(|status| status.as_u16()),
            received_bytes: summary.received,
            sent_bytes: summary.sent,
            duration_ms: milliseconds(summary.duration),
            upstream_ms: summary.upstream_time.map(milliseconds),
            upstream: summary.upstream.as_deref().map(str::to_owned),
            answered_by: summary.answered_by.as_deref().map(str::to_owned),
        }
    }
}

impl From<FaultySide> for wit::Side {
    fn from(side: FaultySide) -> Self {
        match side {
            FaultySide::Client => Self::Client,
            FaultySide::Plugin => Self::Plugin,
            FaultySide::Upstream => Self::Upstream,
            FaultySide::Host => Self::Host,
        }
    }
}
