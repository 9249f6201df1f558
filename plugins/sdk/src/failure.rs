use std::error::Error;
use std::fmt;

use crate::bindings::witgate::plugin::types;

/// Why a plugin could not do its part of an exchange.
///
/// One sentence for the operator's log: lower case, without secrets, never shown to the client. The exchange ends by
/// the plugin's `on-failure` policy (500 by default), the instance stays in use. A panic, in contrast, throws the
/// instance away and with it every transform that lives in it.
///
/// Every [`Error`] turns into a failure by `?`. For that reason it is itself none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    reason: String,
}

impl Failure {
    /// A failure with this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
        }
    }

    /// The reason.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}

impl Failure {
    pub(crate) fn into_wit(self) -> types::Failure {
        types::Failure {
            reason: self.reason,
        }
    }
}
