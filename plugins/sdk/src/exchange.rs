use std::error::Error;
use std::fmt;

use crate::bindings::witgate::plugin::exchange;

/// What stays the same for the whole of the current exchange, and the notes that ride with it.
#[derive(Debug)]
pub struct Exchange(());

impl Exchange {
    /// Identifier of the exchange, as it stands in the access log: 1 to 128 visible ASCII characters.
    pub fn id(&self) -> String {
        exchange::id()
    }

    /// Name of the listener that accepted the connection.
    pub fn listener(&self) -> String {
        exchange::listener()
    }

    /// Name of the route that was chosen.
    pub fn route(&self) -> String {
        exchange::route()
    }

    /// Address and port of the other end of the TCP connection: `192.0.2.7:51324`, `[2001:db8::1]:443`.
    pub fn peer_address(&self) -> String {
        exchange::peer_address()
    }

    /// Address of the client, without port. The peer's own, unless the peer is a trusted proxy that named another.
    pub fn client_address(&self) -> String {
        exchange::client_address()
    }

    /// `http` or `https`: what the client used to reach the outermost trusted proxy.
    pub fn client_scheme(&self) -> String {
        exchange::client_scheme()
    }

    /// Host and optional port as the client sent them, checked against RFC 3986 §3.2.2; empty when it sent none.
    pub fn client_authority(&self) -> String {
        exchange::client_authority()
    }

    /// Path and query as the client sent them, before the route's `strip-prefix` and before any plugin.
    pub fn client_path_with_query(&self) -> String {
        exchange::client_path_with_query()
    }

    /// A note left on this exchange: `PLUGIN.NOTE` for another plugin's, a name without a dot for this plugin's own.
    pub fn attribute(&self, name: &str) -> Option<String> {
        exchange::attribute(name)
    }

    /// Leaves a note for the plugins that follow and for the access log. The host puts the plugin's name in front of
    /// `name`; a second write of a name replaces the first. Anybody who reads the log can read it.
    ///
    /// # Errors
    ///
    /// [`AttributeErrorKind::InvalidName`] unless `name` is 1 to 64 characters of `a`–`z`, `0`–`9`, `-` and `_`;
    /// [`AttributeErrorKind::TooLarge`] for a value over 1,024 bytes or a 17th note on one exchange.
    pub fn set_attribute(&self, name: &str, value: &str) -> Result<(), AttributeError> {
        exchange::set_attribute(name, value).map_err(|error| AttributeError {
            name: name.to_owned(),
            kind: match error {
                exchange::AttributeError::InvalidName => AttributeErrorKind::InvalidName,
                exchange::AttributeError::TooLarge => AttributeErrorKind::TooLarge,
            },
        })
    }

    /// In a transform and in `on_message`: the exchange whose body or message that is. Hooks are given theirs. Where there
    /// is none, as in `Plugin::new`, its functions trap.
    pub fn current() -> Self {
        Self(())
    }
}

/// A note that the host refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeError {
    name: String,
    kind: AttributeErrorKind,
}

/// Why the host refused a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttributeErrorKind {
    /// The name is empty, too long or holds another character. Rename it.
    InvalidName,
    /// The value is over 1,024 bytes, or the plugin's 16 notes on this exchange are used up.
    TooLarge,
}

impl AttributeError {
    /// Why the note was refused.
    pub fn kind(&self) -> AttributeErrorKind {
        self.kind
    }
}

impl fmt::Display for AttributeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.kind {
            AttributeErrorKind::InvalidName => "is not a legal name",
            AttributeErrorKind::TooLarge => "is over 1024 bytes, or one note too many",
        };
        write!(f, "attribute `{}` {reason}", self.name)
    }
}

impl Error for AttributeError {}
