//! Values that outlive an instance and are shared by all workers, in a store that the operator granted.
//!
//! ```no_run
//! use std::time::Duration;
//! use witgate_plugin::keyvalue::{self, Error};
//!
//! /// At most a hundred requests a minute for each client, over all workers.
//! fn is_over_the_limit(client: &str) -> Result<bool, Error> {
//!     let count = keyvalue::increment_for(&format!("client:{client}"), 1, Duration::from_secs(60))?;
//!     Ok(count > 100)
//! }
//! ```
//!
//! A key is 1 to 256 bytes and the plugin's own, a value at most 64 KiB unless the operator says otherwise. It is for
//! hooks and bodies' transforms: in [`Plugin::new`] it traps. The operator grants it by `grant.keyvalue = {}`, which is
//! the store in memory, or names one that outlives the process or is shared with other machines.
//!
//! [`Plugin::new`]: crate::Plugin::new

use std::error;
use std::fmt;
use std::time::Duration;

use crate::bindings::witgate::plugin::keyvalue as wit;

/// The value of a key, if there is one.
///
/// # Errors
///
/// See [`ErrorKind`], here and for all others.
pub fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
    wit::get(key).map_err(Error::new)
}

/// Sets a key until it is deleted.
///
/// # Errors
///
/// As [`get`].
pub fn set(key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
    wit::set(key, value.as_ref(), None).map_err(Error::new)
}

/// Sets a key for so long, counted in whole milliseconds.
///
/// # Errors
///
/// As [`get`].
pub fn set_for(key: &str, value: impl AsRef<[u8]>, ttl: Duration) -> Result<(), Error> {
    wit::set(key, value.as_ref(), Some(milliseconds(ttl))).map_err(Error::new)
}

/// Deletes a key, and says whether it was there.
///
/// # Errors
///
/// As [`get`].
pub fn delete(key: &str) -> Result<bool, Error> {
    wit::delete(key).map_err(Error::new)
}

/// Adds to a number and gives the sum, in one step. A key that is not there counts as 0.
///
/// # Errors
///
/// As [`get`].
pub fn increment(key: &str, by: i64) -> Result<i64, Error> {
    wit::increment(key, by, None).map_err(Error::new)
}

/// As [`increment`]; a key that is not there is made for so long, and one that is keeps the time that it has.
///
/// # Errors
///
/// As [`get`].
pub fn increment_for(key: &str, by: i64, ttl: Duration) -> Result<i64, Error> {
    wit::increment(key, by, Some(milliseconds(ttl))).map_err(Error::new)
}

/// Sets a key if its value still is the expected one (`None`: if there is no such key), in one step, and says whether it
/// did.
///
/// # Errors
///
/// As [`get`].
pub fn compare_and_set(
    key: &str,
    expected: Option<&[u8]>,
    value: impl AsRef<[u8]>,
    ttl: Option<Duration>,
) -> Result<bool, Error> {
    let ttl = ttl.map(milliseconds);
    wit::compare_and_set(key, expected, value.as_ref(), ttl).map_err(Error::new)
}

fn milliseconds(ttl: Duration) -> u64 {
    ttl.as_millis().try_into().unwrap_or(u64::MAX)
}

/// A call that did nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    detail: String,
}

/// Why a call did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operator has not granted a store, or only to be read.
    NotGranted,
    /// An empty key, or one over 256 bytes.
    InvalidKey,
    /// A value over the grant's `value-size`.
    TooLarge,
    /// What is stored is no integer of 64 bits in decimal digits, or the sum would be none.
    NotANumber,
    /// The store has no room. The one in memory never says so.
    Full,
    /// The store is not there at the moment. What was asked for may have been done.
    Unavailable,
}

impl Error {
    /// What to act on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    fn new(error: wit::Error) -> Self {
        let (kind, detail) = match error {
            wit::Error::NotGranted => (ErrorKind::NotGranted, String::new()),
            wit::Error::InvalidKey => (ErrorKind::InvalidKey, String::new()),
            wit::Error::TooLarge(limit) => (ErrorKind::TooLarge, limit.to_string()),
            wit::Error::NotANumber => (ErrorKind::NotANumber, String::new()),
            wit::Error::Full => (ErrorKind::Full, String::new()),
            wit::Error::Unavailable(why) => (ErrorKind::Unavailable, why),
        };
        Self { kind, detail }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = &self.detail;
        match self.kind {
            ErrorKind::NotGranted => f.write_str(
                "no store is granted for this; set `grant.keyvalue`, or widen its `operations`",
            ),
            ErrorKind::InvalidKey => f.write_str("a key is 1 to 256 bytes long"),
            ErrorKind::TooLarge => write!(
                f,
                "a value is over the {detail} bytes of `grant.keyvalue.value-size`"
            ),
            ErrorKind::NotANumber => {
                f.write_str("what is stored is no 64-bit integer, or the sum would be none")
            }
            ErrorKind::Full => f.write_str("the store is full; raise its `size`"),
            ErrorKind::Unavailable => write!(f, "the store is not available: {detail}"),
        }
    }
}

impl error::Error for Error {}
