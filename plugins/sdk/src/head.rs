use std::error::Error;
use std::fmt;

use crate::bindings::witgate::plugin::types;

/// An edit of a message head that the host refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadError {
    subject: String,
    kind: HeadErrorKind,
}

/// Why the host refused an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadErrorKind {
    /// Not an RFC 9110 token, a pseudo header (`:path`), or empty. Check the name.
    InvalidName,
    /// Holds CR, LF, NUL or another control byte, or is no valid authority, path or status. Encode or drop the value.
    InvalidValue,
    /// The host owns this field (`Connection`, `Content-Length`, `Host`, `Keep-Alive`, `Proxy-Connection`, `TE`,
    /// `Trailer`, `Transfer-Encoding`, `Upgrade`). Use the method made for it, or leave it.
    Forbidden,
    /// The head would outgrow the listener's limit on header count or size. Write less.
    TooLarge,
}

impl HeadError {
    /// Why the edit was refused.
    pub fn kind(&self) -> HeadErrorKind {
        self.kind
    }

    /// What was to be edited: a header's name, or `authority`, `path-with-query`, `status`.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    pub(crate) fn new(subject: &str, error: types::HeadError) -> Self {
        let kind = match error {
            types::HeadError::InvalidName => HeadErrorKind::InvalidName,
            types::HeadError::InvalidValue => HeadErrorKind::InvalidValue,
            types::HeadError::Forbidden => HeadErrorKind::Forbidden,
            types::HeadError::TooLarge => HeadErrorKind::TooLarge,
        };
        Self {
            subject: subject.to_owned(),
            kind,
        }
    }
}

impl fmt::Display for HeadError {
    // The value is left out: it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.kind {
            HeadErrorKind::InvalidName => "is not a legal header name",
            HeadErrorKind::InvalidValue => "cannot take this value",
            HeadErrorKind::Forbidden => "belongs to the host",
            HeadErrorKind::TooLarge => "would outgrow the limit on the head's size",
        };
        write!(f, "`{}` {reason}", self.subject)
    }
}

impl Error for HeadError {}

/// The six header functions, which `request` and `response` have alike.
macro_rules! header_methods {
    ($interface:ident) => {
        /// The first value of a header, or `None` when there is none. Names are compared without regard to case.
        pub fn header(&self, name: &str) -> Option<Vec<u8>> {
            $interface::header(name)
        }

        /// All values of a header, in order.
        pub fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
            $interface::header_values(name)
        }

        /// The distinct names of all headers, lower case, in no particular order.
        pub fn header_names(&self) -> Vec<String> {
            $interface::header_names()
        }

        /// Replaces all values of a header by one.
        ///
        /// # Errors
        ///
        /// Any [`HeadErrorKind`](crate::HeadErrorKind); nothing was changed then.
        pub fn set_header(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), HeadError> {
            $interface::set_header(name, value.as_ref()).map_err(|e| HeadError::new(name, e))
        }

        /// Adds a value behind those that are there.
        ///
        /// # Errors
        ///
        /// Any [`HeadErrorKind`](crate::HeadErrorKind); nothing was changed then.
        pub fn append_header(
            &mut self,
            name: &str,
            value: impl AsRef<[u8]>,
        ) -> Result<(), HeadError> {
            $interface::append_header(name, value.as_ref()).map_err(|e| HeadError::new(name, e))
        }

        /// Removes all values of a header; no error when there was none.
        ///
        /// # Errors
        ///
        /// `InvalidName` and `Forbidden`.
        pub fn remove_header(&mut self, name: &str) -> Result<(), HeadError> {
            $interface::remove_header(name).map_err(|e| HeadError::new(name, e))
        }
    };
}
pub(crate) use header_methods;
