//! A CDP client that sends one command at a time and touches no target that it was not told to touch.
//!
//! It stands on `chromiumoxide::Connection` rather than on `chromiumoxide::Browser`, which attaches to every tab of
//! the browser and may close one that is slow to answer. Commands and their answers are the typed ones of
//! `chromiumoxide::cdp`.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use chromiumoxide::Connection;
use chromiumoxide::cdp::browser_protocol::target::SessionId;
use chromiumoxide::types::{CallId, Command, EventMessage, Message, Method, MethodId, Response};
use futures_util::StreamExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

/// An event as it came, with the session that it belongs to.
#[derive(Debug, Clone, Deserialize)]
pub struct Event {
    /// `Domain.name`.
    pub method: String,
    /// The session, for an event of an attached target.
    #[serde(rename = "sessionId", default)]
    pub session: Option<String>,
    /// What the event tells.
    #[serde(default)]
    pub params: Value,
}

impl Method for Event {
    fn identifier(&self) -> MethodId {
        Cow::Owned(self.method.clone())
    }
}

impl EventMessage for Event {
    fn session_id(&self) -> Option<&str> {
        self.session.as_deref()
    }
}

/// A command that an event calls for at once, in the session of the event: method and parameters.
pub type Reaction = (MethodId, Value);

/// Decides what an event calls for; sees every event that arrives while a command is under way.
pub type React = fn(&Event) -> Option<Reaction>;

/// A [`React`] that lets every event pass.
pub fn ignore(_event: &Event) -> Option<Reaction> {
    None
}

/// A command failed. Never holds what the browser's storage contains.
#[derive(Debug, thiserror::Error)]
pub enum CdpError {
    /// No WebSocket could be opened.
    #[error("cannot open the browser's WebSocket: {0}")]
    Connect(String),
    /// The browser ended the connection, or it broke.
    #[error("the browser closed the connection during {method}")]
    Closed {
        /// The command under way.
        method: MethodId,
    },
    /// The browser did not answer in time.
    #[error("no answer to {method} within {limit:?}")]
    Timeout {
        /// The command under way.
        method: MethodId,
        /// The limit that passed.
        limit: Duration,
    },
    /// The browser answered with an error.
    #[error("the browser refused {method}: {message}")]
    Refused {
        /// The command.
        method: MethodId,
        /// The browser's words.
        message: String,
    },
    /// The answer has a shape that this program does not know.
    #[error("the answer to {method} has an unknown shape")]
    Shape {
        /// The command.
        method: MethodId,
    },
}

/// One connection to a browser.
#[derive(Debug)]
pub struct Client {
    connection: Connection<Event>,
    limit: Duration,
    react: React,
}

impl Client {
    /// Connects to the browser at `address`, whose WebSocket is at `path`; every command gets `limit`.
    ///
    /// # Errors
    /// [`CdpError::Connect`] and [`CdpError::Timeout`].
    pub async fn connect(
        address: SocketAddr,
        path: &str,
        limit: Duration,
        react: React,
    ) -> Result<Self, CdpError> {
        let url = format!("ws://{address}{path}");
        let connection = timeout(limit, Connection::connect(url))
            .await
            .map_err(|_elapsed| CdpError::Timeout {
                method: "the WebSocket handshake".into(),
                limit,
            })?
            .map_err(|error| CdpError::Connect(error.to_string()))?;
        Ok(Self {
            connection,
            limit,
            react,
        })
    }

    /// What every command gets.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Sends a command to the browser (`session` absent) or to an attached target, and waits for its answer.
    ///
    /// # Errors
    /// [`CdpError`], except [`CdpError::Connect`].
    pub async fn call<C: Command>(
        &mut self,
        session: Option<&SessionId>,
        command: C,
    ) -> Result<C::Response, CdpError> {
        self.call_as(session, command).await
    }

    /// Like [`Client::call`], with an answer type of the caller's: for answers whose typed form would turn down what
    /// a newer Chromium adds.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_as<C: Command, R: DeserializeOwned>(
        &mut self,
        session: Option<&SessionId>,
        command: C,
    ) -> Result<R, CdpError> {
        let method = command.identifier();
        let shape = || CdpError::Shape {
            method: method.clone(),
        };
        let params = serde_json::to_value(command).map_err(|_| shape())?;
        let id = self
            .connection
            .submit_command(method.clone(), session.cloned(), params)
            .map_err(|_| shape())?;
        let response = timeout_at(Instant::now() + self.limit, self.response(id, &method))
            .await
            .map_err(|_elapsed| CdpError::Timeout {
                method: method.clone(),
                limit: self.limit,
            })??;
        if let Some(error) = response.error {
            return Err(CdpError::Refused {
                method,
                message: error.message,
            });
        }
        serde_json::from_value(response.result.unwrap_or_default()).map_err(|_| shape())
    }

    /// Reads until the answer `id`, reacting to events on the way. Answers to commands that were given up are skipped.
    async fn response(&mut self, id: CallId, method: &MethodId) -> Result<Response, CdpError> {
        loop {
            match self.next(method).await? {
                Message::Response(response) if response.id == id => return Ok(response),
                Message::Response(_) => {}
                Message::Event(event) => {
                    if let Some((reaction, params)) = (self.react)(&event) {
                        let session = event.session.map(SessionId::from);
                        self.connection
                            .submit_command(reaction.clone(), session, params)
                            .map_err(|_| CdpError::Shape { method: reaction })?;
                    }
                }
            }
        }
    }

    /// The next message, read with logging off: the libraries below log whole messages at their lower levels, and
    /// these hold cookies and local storage.
    async fn next(&mut self, method: &MethodId) -> Result<Message<Event>, CdpError> {
        use chromiumoxide::error::CdpError as Below;
        match self
            .connection
            .next()
            .with_subscriber(NoSubscriber::default())
            .await
        {
            Some(Ok(message)) => Ok(message),
            Some(Err(Below::InvalidMessage(text, _))) => {
                serde_json::from_str(&replace_lone_surrogates(&text)).map_err(|_| CdpError::Shape {
                    method: method.clone(),
                })
            }
            Some(Err(_)) | None => Err(CdpError::Closed {
                method: method.clone(),
            }),
        }
    }
}

/// JavaScript strings may hold half a surrogate pair, which Chromium sends as `\ud800` and which no Rust string can
/// hold. Each becomes U+FFFD, as when a browser encodes such a string in UTF-8.
fn replace_lone_surrogates(json: &str) -> String {
    let mut repaired = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        repaired.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = match (code_unit(rest), rest.get(6..).and_then(code_unit)) {
            (Some(0xD800..0xDC00), Some(0xDC00..0xE000)) => 12,
            (Some(0xD800..0xE000), _) => {
                repaired.push_str("\\ufffd");
                rest = &rest[6..];
                continue;
            }
            (Some(_), _) => 6,
            // Some other escape: the backslash and the (ASCII) character after it.
            (None, _) => rest.len().min(2),
        };
        repaired.push_str(rest.get(..taken).unwrap_or(rest));
        rest = rest.get(taken..).unwrap_or("");
    }
    repaired.push_str(rest);
    repaired
}

/// The code unit of a `\uXXXX` escape at the start of `text`.
fn code_unit(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lone_surrogates_are_replaced_and_pairs_kept() {
        let cases = [
            (r#""a\ud800b""#, "a\u{FFFD}b"),
            (r#""\udc00""#, "\u{FFFD}"),
            (r#""\ud800\ud83d\ude00""#, "\u{FFFD}\u{1F600}"),
            (r#""\\ud800""#, "\\ud800"),
            (r#""\n\u00e9\"x""#, "\n\u{e9}\"x"),
        ];
        for (json, expected) in cases {
            let text: String = serde_json::from_str(&replace_lone_surrogates(json)).unwrap();
            assert_eq!(text, expected, "{json}");
        }
        assert_eq!(replace_lone_surrogates(r"cut \"), r"cut \");
    }

    #[test]
    fn an_event_keeps_its_session_and_needs_no_params() {
        let message: Message<Event> =
            serde_json::from_str(r#"{"method":"A.b","sessionId":"S"}"#).unwrap();
        let Message::Event(event) = message else {
            panic!("{message:?}")
        };
        assert_eq!(event.session_id(), Some("S"));
    }
}
