use crate::bindings::exports::witgate::plugin::messages as wit;
use crate::{Exchange, Failure, Plugin, Request, Response};

/// A plugin that looks at the messages of WebSockets.
pub trait MessageHook: Plugin {
    /// Called once for each upgrade to `websocket` that the upstream has granted, after the response hooks and before
    /// the client is told (limit: the plugin's `limits.deadline`, 50 ms). `None` leaves the WebSocket alone.
    ///
    /// What the messages' plugin needs to know of the exchange is read here and moved into the [`Messages`].
    ///
    /// # Errors
    ///
    /// A failure ends the exchange with 500, or skips the plugin with `on-failure = "open"`.
    fn on_upgrade(
        &self,
        exchange: &Exchange,
        request: &Request,
        response: &Response,
    ) -> Result<Option<Inspection>, Failure>;
}

/// One WebSocket's messages.
///
/// One plugin instance serves many WebSockets at once: calls for different ones interleave, calls for one never do. The
/// host drops it when the WebSocket has ended.
pub trait Messages: 'static {
    /// Takes one whole message (limit: the plugin's `limits.deadline`, 50 ms, for each MiB begun). The exchange cannot
    /// be asked in here; `log` and `clock` work.
    ///
    /// # Errors
    ///
    /// A failure ends the WebSocket with 1011 at both ends, or, with `on-failure = "open"`, lets the message pass and
    /// leaves the plugin out for the rest.
    fn on_message(
        &mut self,
        direction: Direction,
        message: Message,
    ) -> Result<MessageVerdict, Failure>;
}

/// What a plugin asks to see of a WebSocket. What it does not ask for costs nothing.
pub struct Inspection {
    pub(crate) messages: Box<dyn Messages>,
    pub(crate) to_upstream: bool,
    pub(crate) to_client: bool,
    pub(crate) control: bool,
}

impl Inspection {
    /// Text and binary messages of the client.
    pub fn to_upstream(messages: impl Messages) -> Self {
        Self {
            messages: Box::new(messages),
            to_upstream: true,
            to_client: false,
            control: false,
        }
    }

    /// Text and binary messages of the upstream.
    pub fn to_client(messages: impl Messages) -> Self {
        Self {
            to_upstream: false,
            to_client: true,
            ..Self::to_upstream(messages)
        }
    }

    /// Text and binary messages of both.
    pub fn both_ways(messages: impl Messages) -> Self {
        Self {
            to_client: true,
            ..Self::to_upstream(messages)
        }
    }

    /// Ping, pong and close as well, in the same directions.
    #[must_use]
    pub fn with_control(self) -> Self {
        Self {
            control: true,
            ..self
        }
    }
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The client sent it.
    ToUpstream,
    /// The upstream sent it.
    ToClient,
}

/// One message, frames joined and unmasked.
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
    /// The last message of its sender; `None` when the frame says nothing.
    Close(Option<CloseReason>),
}

/// What a Close frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseReason {
    /// 1000 to 1003, 1007 to 1014 or 3000 to 4999 (RFC 6455 §7.4).
    pub code: u16,
    /// For people; at most 123 bytes.
    pub reason: String,
}

impl CloseReason {
    /// A code and words for people.
    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { code, reason }
    }
}

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageVerdict {
    /// Send it on as it is.
    Forward,
    /// Send this on instead, of whichever kind.
    Replace(Message),
    /// Send nothing. Not possible for a close.
    Drop,
    /// Send nothing on, and this back to who sent the message. Not possible for a close, and for what is itself such a
    /// reply of another plugin.
    Reply(Message),
    /// End the WebSocket: both ends get a Close that says this.
    Close(CloseReason),
}

impl Direction {
    pub(crate) fn from_wit(direction: wit::Direction) -> Self {
        match direction {
            wit::Direction::ToUpstream => Self::ToUpstream,
            wit::Direction::ToClient => Self::ToClient,
        }
    }
}

impl Message {
    pub(crate) fn from_wit(message: wit::Message) -> Self {
        match message {
            wit::Message::Text(text) => Self::Text(text),
            wit::Message::Binary(bytes) => Self::Binary(bytes),
            wit::Message::Ping(payload) => Self::Ping(payload),
            wit::Message::Pong(payload) => Self::Pong(payload),
            wit::Message::Close(close) => {
                Self::Close(close.map(|close| CloseReason::new(close.code, close.reason)))
            }
        }
    }

    fn into_wit(self) -> wit::Message {
        match self {
            Self::Text(text) => wit::Message::Text(text),
            Self::Binary(bytes) => wit::Message::Binary(bytes),
            Self::Ping(payload) => wit::Message::Ping(payload),
            Self::Pong(payload) => wit::Message::Pong(payload),
            Self::Close(close) => wit::Message::Close(close.map(CloseReason::into_wit)),
        }
    }
}

impl CloseReason {
    fn into_wit(self) -> wit::CloseReason {
        wit::CloseReason {
            code: self.code,
            reason: self.reason,
        }
    }
}

impl MessageVerdict {
    pub(crate) fn into_wit(self) -> wit::MessageVerdict {
        match self {
            Self::Forward => wit::MessageVerdict::Forward,
            Self::Replace(message) => wit::MessageVerdict::Replace(message.into_wit()),
            Self::Drop => wit::MessageVerdict::Drop,
            Self::Reply(message) => wit::MessageVerdict::Reply(message.into_wit()),
            Self::Close(close) => wit::MessageVerdict::Close(close.into_wit()),
        }
    }
}
