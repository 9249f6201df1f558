//! The messages of a WebSocket, and their way through a plugin.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::ResourceAny;

use crate::bindings::{Inspection, messages};
use crate::counts::Hook;
use crate::death::Death;
use crate::exchange::Passing;
use crate::failure::{FailureKind, PluginFailure};
use crate::slot::Slot;
use crate::worker_plugin::WorkerPlugin;

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The client sent it.
    ToUpstream,
    /// The upstream sent it.
    ToClient,
}

impl Direction {
    /// The other one.
    #[must_use]
    pub fn back(self) -> Self {
        match self {
            Self::ToUpstream => Self::ToClient,
            Self::ToClient => Self::ToUpstream,
        }
    }
}

/// One message of a WebSocket, frames joined and unmasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
    /// At most 125 bytes.
    Ping(Vec<u8>),
    /// At most 125 bytes.
    Pong(Vec<u8>),
    /// The last of its sender; `None` for an empty Close frame.
    Close(Option<Close>),
}

/// What a Close frame says (RFC 6455 §5.5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// One that may be sent: see [`Close::is_legal_code`].
    pub code: u16,
    /// At most [`Close::MAX_REASON`] bytes.
    pub reason: String,
}

/// What a plugin made of a message, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageVerdict {
    /// Send it on.
    Forward,
    /// Send this on instead.
    Replace(Message),
    /// Send nothing.
    Drop,
    /// Send this back to who sent the message.
    Reply(Message),
    /// Tell both ends that it is over.
    Close(Close),
}

/// The longest payload of a control frame (RFC 6455 §5.5).
const MAX_CONTROL: usize = 125;

impl Close {
    /// The longest reason, in bytes.
    pub const MAX_REASON: usize = MAX_CONTROL - 2;

    /// Whether a Close frame may have this code (RFC 6455 §7.4 and its registry): not those that stand for the lack of
    /// one, nor those that nobody has given a meaning.
    #[must_use]
    pub fn is_legal_code(code: u16) -> bool {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl Message {
    /// Whether it is a ping, a pong or a close.
    #[must_use]
    pub fn is_control(&self) -> bool {
        !matches!(self, Self::Text(_) | Self::Binary(_))
    }

    /// Bytes of its content.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes.len(),
            Self::Close(close) => close.as_ref().map_or(0, |close| 2 + close.reason.len()),
        }
    }

    /// Whether it can be sent; if not, why.
    fn check(self, limit: usize) -> Result<Self, String> {
        match &self {
            Self::Text(_) | Self::Binary(_) if self.size() > limit => Err(format!(
                "a message of {} bytes, over its `limits.message` of {limit}",
                self.size()
            )),
            Self::Ping(payload) | Self::Pong(payload) if payload.len() > MAX_CONTROL => {
                Err(format!(
                    "a ping or pong of {} bytes, over {MAX_CONTROL}",
                    payload.len()
                ))
            }
            Self::Close(Some(close)) => close.check().map(|()| self),
            _ => Ok(self),
        }
    }
}

impl Close {
    fn check(&self) -> Result<(), String> {
        let Self { code, reason } = self;
        if !Self::is_legal_code(*code) {
            return Err(format!("a close code of {code}, which may not be sent"));
        }
        if reason.len() > Self::MAX_REASON {
            let (length, most) = (reason.len(), Self::MAX_REASON);
            return Err(format!("a close reason of {length} bytes, over {most}"));
        }
        Ok(())
    }
}

/// One WebSocket's messages in a plugin.
#[derive(Debug)]
pub struct MessageStream {
    plugin: Rc<WorkerPlugin>,
    slot: Arc<Slot>,
    resource: ResourceAny,
    interest: messages::Interest,
    death: Arc<Death>,
    of: Arc<Passing>,
}

impl MessageStream {
    /// `None` when the plugin wants to see nothing.
    pub(crate) fn new(
        plugin: Rc<WorkerPlugin>,
        slot: Arc<Slot>,
        wanted: Option<(Inspection, Arc<Death>)>,
        of: Arc<Passing>,
    ) -> Option<Self> {
        let (inspection, death) = wanted?;
        let stream = Self {
            plugin,
            slot,
            resource: inspection.messages,
            interest: inspection.interest,
            death,
            of,
        };
        let either = [Direction::ToUpstream, Direction::ToClient];
        either
            .into_iter()
            .any(|direction| stream.wants(direction, false))
            .then_some(stream)
    }

    /// Whether the plugin wants to see what goes this way; control messages only together with the others.
    pub fn wants(&self, direction: Direction, control: bool) -> bool {
        let flag = match direction {
            Direction::ToUpstream => messages::Interest::TO_UPSTREAM,
            Direction::ToClient => messages::Interest::TO_CLIENT,
        };
        self.interest.contains(flag)
            && (!control || self.interest.contains(messages::Interest::CONTROL))
    }

    /// Bytes of a message that the plugin is shown, or may send.
    pub fn limit(&self) -> usize {
        self.plugin.plugin().limits().message
    }

    /// The plugin's name.
    pub fn plugin(&self) -> &Arc<str> {
        self.plugin.plugin().name()
    }

    /// Calls `on-message`. Calls for one WebSocket wait for each other. A message that is itself the reply of a plugin
    /// may not be replied to, and a close is sent on in some shape or other.
    ///
    /// # Errors
    ///
    /// When the plugin fails, or returns what cannot be sent.
    pub async fn on_message(
        &self,
        direction: Direction,
        message: &Message,
        is_reply: bool,
    ) -> Result<MessageVerdict, PluginFailure> {
        let counts = self.plugin.counts();
        let began = counts.called(Hook::Message).then(Instant::now);
        let mut instance = self.slot.take().await;
        let raw = match instance.is_usable() {
            true => {
                let (size, message) = (message.size(), message.to_wit());
                let direction = direction.to_wit();
                instance
                    .on_message(self.resource, direction, message, size, &self.of)
                    .await
            }
            false => Err(FailureKind::LostInstance),
        };
        drop(instance);
        if let Some(began) = began {
            counts.took(Hook::Message, began.elapsed());
        }
        let verdict = raw.and_then(|raw| {
            let verdict = self.check(raw).map_err(FailureKind::BadResult)?;
            let refused = |what: &str| Err(FailureKind::BadResult(what.into()));
            match (&verdict, message) {
                (MessageVerdict::Reply(_), _) if is_reply => refused("a reply to a reply"),
                (MessageVerdict::Reply(_) | MessageVerdict::Drop, Message::Close(_)) => {
                    refused("`drop` or `reply` for a close")
                }
                (MessageVerdict::Replace(other), Message::Close(_))
                    if !matches!(other, Message::Close(_)) =>
                {
                    refused("another message in place of a close")
                }
                _ => Ok(verdict),
            }
        });
        self.plugin.judge("messages.on-message", verdict)
    }

    fn check(&self, verdict: messages::MessageVerdict) -> Result<MessageVerdict, String> {
        let checked = |message| Message::from_wit(message).check(self.limit());
        Ok(match verdict {
            messages::MessageVerdict::Forward => MessageVerdict::Forward,
            messages::MessageVerdict::Replace(message) => {
                MessageVerdict::Replace(checked(message)?)
            }
            messages::MessageVerdict::Drop => MessageVerdict::Drop,
            messages::MessageVerdict::Reply(message) => MessageVerdict::Reply(checked(message)?),
            messages::MessageVerdict::Close(close) => {
                let close = Close::from_wit(close);
                close.check()?;
                MessageVerdict::Close(close)
            }
        })
    }

    /// Waits until the instance that holds this WebSocket's state is lost.
    pub async fn lost(&self) -> PluginFailure {
        self.death.come().await;
        let kind = FailureKind::LostInstance;
        self.plugin.failure("messages.on-message", kind)
    }
}

impl Drop for MessageStream {
    fn drop(&mut self) {
        self.slot.end(self.resource);
    }
}

impl Direction {
    fn to_wit(self) -> messages::Direction {
        match self {
            Self::ToUpstream => messages::Direction::ToUpstream,
            Self::ToClient => messages::Direction::ToClient,
        }
    }
}

impl Message {
    fn to_wit(&self) -> messages::Message {
        match self.clone() {
            Self::Text(text) => messages::Message::Text(text),
            Self::Binary(bytes) => messages::Message::Binary(bytes),
            Self::Ping(payload) => messages::Message::Ping(payload),
            Self::Pong(payload) => messages::Message::Pong(payload),
            Self::Close(close) => {
                messages::Message::Close(close.map(|close| messages::CloseReason {
                    code: close.code,
                    reason: close.reason,
                }))
            }
        }
    }

    fn from_wit(message: messages::Message) -> Self {
        match message {
            messages::Message::Text(text) => Self::Text(text),
            messages::Message::Binary(bytes) => Self::Binary(bytes),
            messages::Message::Ping(payload) => Self::Ping(payload),
            messages::Message::Pong(payload) => Self::Pong(payload),
            messages::Message::Close(close) => Self::Close(close.map(Close::from_wit)),
        }
    }
}

impl Close {
    fn from_wit(close: messages::CloseReason) -> Self {
        Self {
            code: close.code,
            reason: close.reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(code: u16, reason: &str) -> Message {
        let reason = reason.to_owned();
        Message::Close(Some(Close { code, reason }))
    }

    #[test]
    fn only_codes_with_a_meaning_may_be_sent() {
        for code in [1000, 1003, 1007, 1011, 1014, 3000, 4999] {
            assert!(close(code, "").check(0).is_ok(), "{code}");
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
            assert!(close(code, "").check(0).is_err(), "{code}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Message::Text("abc".into()).check(3).is_ok());
        assert!(Message::Text("abcd".into()).check(3).is_err());
        assert!(Message::Binary(vec![0; 4]).check(3).is_err());
        assert!(Message::Ping(vec![0; 125]).check(0).is_ok());
        assert!(Message::Pong(vec![0; 126]).check(1000).is_err());
        assert!(close(1000, &"x".repeat(123)).check(0).is_ok());
        assert!(close(1000, &"x".repeat(124)).check(0).is_err());
    }
}
