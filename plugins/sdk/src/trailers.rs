//! Fields that follow a body (RFC 9110 §6.5): a digest, a signature, a status that is known at the end only.
//!
//! [`announce`] is for hooks; it is needed for a body that is sent on as it comes. The other functions are for
//! [`Transform::finish`](crate::Transform::finish), and panic elsewhere (the call is a trap). Nothing may depend on the
//! arrival of a trailer: a client that has not said `TE: trailers` gets none.

use std::error::Error;
use std::fmt;

use crate::bindings::witgate::plugin::trailers::{self, TrailerError as Wit};

/// Announces a trailer in the head that the current hook looks at.
///
/// # Errors
///
/// [`TrailerErrorKind::InvalidName`], [`Forbidden`](TrailerErrorKind::Forbidden) or
/// [`TooLarge`](TrailerErrorKind::TooLarge).
pub fn announce(name: &str) -> Result<(), TrailerError> {
    trailers::announce(name).map_err(|e| TrailerError::new(name, e))
}

/// The first value of a trailer of the body that has ended.
pub fn get(name: &str) -> Option<Vec<u8>> {
    trailers::get(name)
}

/// All values of a trailer, in order.
pub fn values(name: &str) -> Vec<Vec<u8>> {
    trailers::values(name)
}

/// The distinct names of all trailers, lower case, in no particular order.
pub fn names() -> Vec<String> {
    trailers::names()
}

/// Replaces all values of a trailer by one.
///
/// # Errors
///
/// Any [`TrailerErrorKind`]; nothing was changed then.
pub fn set(name: &str, value: impl AsRef<[u8]>) -> Result<(), TrailerError> {
    trailers::set(name, value.as_ref()).map_err(|e| TrailerError::new(name, e))
}

/// Adds a value behind those that are there.
///
/// # Errors
///
/// Any [`TrailerErrorKind`]; nothing was changed then.
pub fn append(name: &str, value: impl AsRef<[u8]>) -> Result<(), TrailerError> {
    trailers::append(name, value.as_ref()).map_err(|e| TrailerError::new(name, e))
}

/// Removes all values of a trailer; no error when there was none.
///
/// # Errors
///
/// [`TrailerErrorKind::InvalidName`] and [`Forbidden`](TrailerErrorKind::Forbidden).
pub fn remove(name: &str) -> Result<(), TrailerError> {
    trailers::remove(name).map_err(|e| TrailerError::new(name, e))
}

/// An edit of the trailers that the host refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrailerError {
    name: String,
    kind: TrailerErrorKind,
}

/// Why the host refused an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrailerErrorKind {
    /// Not an RFC 9110 token, a pseudo field, or empty. Check the name.
    InvalidName,
    /// Holds CR, LF, NUL or another control byte. Encode or drop the value.
    InvalidValue,
    /// No trailer may have this name (RFC 9110 §6.5.1). Send it as a header.
    Forbidden,
    /// The head has been sent and does not announce it. Call [`announce`] in the hook that returns the transform.
    NotAnnounced,
    /// Over the listener's limit on header count or size. Write less.
    TooLarge,
}

impl TrailerError {
    /// Why the edit was refused.
    pub fn kind(&self) -> TrailerErrorKind {
        self.kind
    }

    fn new(name: &str, error: Wit) -> Self {
        let kind = match error {
            Wit::InvalidName => TrailerErrorKind::InvalidName,
            Wit::InvalidValue => TrailerErrorKind::InvalidValue,
            Wit::Forbidden => TrailerErrorKind::Forbidden,
            Wit::NotAnnounced => TrailerErrorKind::NotAnnounced,
            Wit::TooLarge => TrailerErrorKind::TooLarge,
        };
        Self {
            name: name.to_owned(),
            kind,
        }
    }
}

impl fmt::Display for TrailerError {
    // The value is left out: it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.kind {
            TrailerErrorKind::InvalidName => "is not a legal name",
            TrailerErrorKind::InvalidValue => "cannot take this value",
            TrailerErrorKind::Forbidden => "may not be one",
            TrailerErrorKind::NotAnnounced => "was not announced in the head",
            TrailerErrorKind::TooLarge => "would outgrow the limit on a head's size",
        };
        write!(f, "trailer `{}` {reason}", self.name)
    }
}

impl Error for TrailerError {}
