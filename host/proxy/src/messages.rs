//! The plugins that look at the messages of a WebSocket: which they are, and a message's way through them.

use std::cell::Cell;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use witgate_runtime::{
    Close, Direction, Exchange, Message, MessageStream, MessageVerdict, PluginFailure, ResponseHead,
};

use crate::body::Body;
use crate::chain::Link;
use crate::config::OnFailure;
use crate::failure::Failure;

/// The plugins that look at one WebSocket, in the order of the route.
#[derive(Debug, Default)]
pub(crate) struct MessageChain {
    watchers: Vec<Watcher>,
}

#[derive(Debug)]
struct Watcher {
    stream: MessageStream,
    on_failure: OnFailure,
    /// It failed, and its policy is that the messages go on without it.
    left_out: Cell<bool>,
}

/// What came of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    /// It goes on, in this shape.
    On(Message),
    /// This goes back to who sent it.
    Back(Message),
    Nothing,
    /// It is over.
    Close(Close),
}

/// Whether any plugin of a route looks at messages, so that its upstreams may not compress them.
pub(crate) fn may_inspect(chain: &[Link]) -> bool {
    chain
        .iter()
        .any(|link| link.plugin.plugin().hooks().message)
}

/// Offers the upstream no extension of WebSocket: with one, frames may mean anything (RFC 6455 §9).
pub(crate) fn withhold_extensions(request: &mut HeaderMap) {
    request.remove(header::SEC_WEBSOCKET_EXTENSIONS);
}

/// Checks what an upstream granted to a client that asked for `asked`, where plugins look at messages.
///
/// # Errors
///
/// When it is a WebSocket with extensions, or none that can be told, so that nobody could look at its messages.
pub(crate) fn check_grant(
    response: &HeaderMap,
    granted: Option<&HeaderValue>,
    asked: &str,
) -> Result<(), Failure> {
    let granted = granted.map_or(&b""[..], HeaderValue::as_bytes);
    let granted = granted.to_ascii_lowercase();
    if granted != b"websocket" {
        let unclear = granted.is_empty() || granted.windows(9).any(|part| part == b"websocket");
        return match unclear || asked == "websocket" {
            true => Err(Failure::bad_gateway(
                "the upstream granted another protocol than the WebSocket that it was asked for",
            )),
            false => Ok(()),
        };
    }
    let mut extensions = response.get_all(header::SEC_WEBSOCKET_EXTENSIONS).iter();
    if extensions.any(|value| !value.is_empty()) {
        return Err(Failure::bad_gateway(
            "the upstream granted a WebSocket extension that it was not offered",
        ));
    }
    Ok(())
}

/// Asks the plugins whether they want to look at a WebSocket that was granted.
///
/// # Errors
///
/// When a plugin fails that may not.
pub(crate) async fn ask(
    chain: &[Link],
    mut exchange: Box<Exchange>,
    response: &Response<Body>,
) -> (Box<Exchange>, Result<MessageChain, Failure>) {
    exchange.response = Some(ResponseHead {
        status: StatusCode::SWITCHING_PROTOCOLS,
        headers: response.headers().clone(),
        end_connection: false,
    });
    let mut watchers = Vec::new();
    for link in chain {
        if !link.plugin.plugin().hooks().message {
            continue;
        }
        let wanted;
        (exchange, wanted) = link.plugin.on_upgrade(exchange).await;
        match wanted {
            Ok(None) => {}
            Ok(Some(stream)) => watchers.push(Watcher {
                stream,
                on_failure: link.on_failure,
                left_out: Cell::new(false),
            }),
            Err(failure) if link.on_failure == OnFailure::Open => {
                let facts = &exchange.facts;
                let (request_id, route) = (&*facts.id, &*facts.route);
                tracing::warn!(
                    request_id,
                    route,
                    kind = failure.kind.label(),
                    "{failure}; skipped (`on-failure = \"open\"`)"
                );
            }
            Err(failure) => {
                exchange.response = None;
                return (exchange, Err(failure.into()));
            }
        }
    }
    exchange.response = None;
    (exchange, Ok(MessageChain { watchers }))
}

impl MessageChain {
    /// Nobody looks.
    pub(crate) fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    /// Whether any plugin wants to see what goes this way.
    pub(crate) fn wants(&self, direction: Direction, control: bool) -> bool {
        let mut watchers = self.watchers.iter();
        watchers.any(|watcher| watcher.wants(direction, control))
    }

    /// Bytes that a message may have: the smallest limit of the plugins that want it, or of all if none does.
    pub(crate) fn limit(&self, direction: Direction) -> usize {
        let nobody = !self.wants(direction, false);
        let counts = |watcher: &&Watcher| nobody || watcher.wants(direction, false);
        let limits = self.watchers.iter().filter(counts);
        let least = limits.map(|watcher| watcher.stream.limit()).min();
        least.unwrap_or(usize::MAX)
    }

    /// Shows a message to the plugins that want it, one after the other.
    ///
    /// # Errors
    ///
    /// When a plugin fails that may not.
    pub(crate) async fn pass(
        &self,
        direction: Direction,
        message: Message,
    ) -> Result<Passage, PluginFailure> {
        let all = 0..self.watchers.len();
        let order: Vec<usize> = match direction {
            Direction::ToUpstream => all.collect(),
            Direction::ToClient => all.rev().collect(),
        };
        let mut message = message;
        for (passed, at) in order.iter().enumerate() {
            match self.watchers[*at].show(direction, &message, false).await? {
                MessageVerdict::Forward => {}
                MessageVerdict::Replace(other) => message = other,
                MessageVerdict::Drop => return Ok(Passage::Nothing),
                MessageVerdict::Close(close) => return Ok(Passage::Close(close)),
                MessageVerdict::Reply(reply) => {
                    return self.pass_back(direction, &order[..passed], reply).await;
                }
            }
        }
        Ok(Passage::On(message))
    }

    /// A reply's way through the plugins that the message has passed.
    async fn pass_back(
        &self,
        direction: Direction,
        passed: &[usize],
        mut reply: Message,
    ) -> Result<Passage, PluginFailure> {
        for at in passed.iter().rev() {
            let shown = self.watchers[*at].show(direction.back(), &reply, true);
            match shown.await? {
                MessageVerdict::Replace(other) => reply = other,
                MessageVerdict::Drop => return Ok(Passage::Nothing),
                MessageVerdict::Close(close) => return Ok(Passage::Close(close)),
                // The runtime lets no reply to a reply through.
                MessageVerdict::Forward | MessageVerdict::Reply(_) => {}
            }
        }
        Ok(Passage::Back(reply))
    }

    /// Waits until the state of this WebSocket in a plugin that may not fail is lost.
    pub(crate) async fn lost(&self) -> PluginFailure {
        let watchers = self.watchers.iter();
        let needed = watchers.filter(|watcher| watcher.on_failure == OnFailure::Closed);
        let mut waiting: Vec<_> = needed
            .map(|needed| Box::pin(needed.stream.lost()))
            .collect();
        std::future::poll_fn(|context| {
            let mut polled = waiting.iter_mut().map(|one| one.as_mut().poll(context));
            polled
                .find(std::task::Poll::is_ready)
                .unwrap_or(std::task::Poll::Pending)
        })
        .await
    }
}

impl Watcher {
    fn wants(&self, direction: Direction, control: bool) -> bool {
        !self.left_out.get() && self.stream.wants(direction, control)
    }

    /// `Forward` when it does not want to see this one, or is left out.
    async fn show(
        &self,
        direction: Direction,
        message: &Message,
        is_reply: bool,
    ) -> Result<MessageVerdict, PluginFailure> {
        if !self.wants(direction, message.is_control()) {
            return Ok(MessageVerdict::Forward);
        }
        let shown = self.stream.on_message(direction, message, is_reply).await;
        match shown {
            Err(failure) if self.on_failure == OnFailure::Open => {
                self.left_out.set(true);
                tracing::warn!(
                    kind = failure.kind.label(),
                    "{failure}; the WebSocket goes on without it (`on-failure = \"open\"`)"
                );
                Ok(MessageVerdict::Forward)
            }
            shown => shown,
        }
    }
}
