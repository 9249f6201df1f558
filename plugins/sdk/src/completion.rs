use std::time::Duration;

use crate::bindings::exports::witgate::plugin::completion_hook as wit;
use crate::{Exchange, Failure, Plugin, Request, Response};

/// A plugin that is told how exchanges ended.
pub trait CompletionHook: Plugin {
    /// Called once per exchange when it is over and nobody waits for it any more: in the order of the response hooks,
    /// for plugins whose request hook was passed or answered (limit: the plugin's `limits.deadline`, 50 ms).
    ///
    /// The heads are as they were sent; there is no response when the client left before one was. Attributes can be
    /// read, and set for the plugins that follow; the line in the access log has been written. `http_client` works, so
    /// this is the place to send records somewhere. Do not count on being called: when 1,024 exchanges wait on one
    /// worker, the next are not told of.
    ///
    /// # Errors
    ///
    /// A failure is logged and counted, and changes nothing else.
    fn on_complete(
        &self,
        exchange: &Exchange,
        request: &Request,
        response: Option<&Response>,
        summary: &Summary,
    ) -> Result<(), Failure>;
}

/// What there is to tell of an exchange that its heads do not.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// How it ended.
    pub end: End,
    /// The status that was sent; `None` when the client left before there was one.
    pub status: Option<u16>,
    /// Bytes of the request's body that were read, or of the tunnel from the client.
    pub received_bytes: u64,
    /// Bytes of the response's body that were sent, or of the tunnel to the client.
    pub sent_bytes: u64,
    /// From the request's head to the end.
    pub duration: Duration,
    /// From the request's head to the head of the upstream's response.
    pub upstream_time: Option<Duration>,
    /// `host:port` of the endpoint that was chosen last.
    pub upstream: Option<String>,
    /// The plugin whose reply was sent.
    pub answered_by: Option<String>,
}

/// How an exchange ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The response was sent whole, or the tunnel was closed in order.
    Complete,
    /// The client went away before the last byte.
    ClientLeft,
    /// By a fault of this side; with what the proxy's log says of it.
    Failed(Side, String),
}

/// Whose fault it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Side {
    Client,
    Plugin,
    Upstream,
    Host,
}

impl From<wit::Summary> for Summary {
    fn from(summary: wit::Summary) -> Self {
        let time = |ms: f64| Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default();
        Self {
            end: match summary.end {
                wit::End::Complete => End::Complete,
                wit::End::ClientLeft => End::ClientLeft,
                wit::End::Failed(fault) => End::Failed(fault.side.into(), fault.reason),
            },
            status: summary.status,
            received_bytes: summary.received_bytes,
            sent_bytes: summary.sent_bytes,
            duration: time(summary.duration_ms),
            upstream_time: summary.upstream_ms.map(time),
            upstream: summary.upstream,
            answered_by: summary.answered_by,
        }
    }
}

impl From<wit::Side> for Side {
    fn from(side: wit::Side) -> Self {
        match side {
            wit::Side::Client => Self::Client,
            wit::Side::Plugin => Self::Plugin,
            wit::Side::Upstream => Self::Upstream,
            wit::Side::Host => Self::Host,
        }
    }
}
