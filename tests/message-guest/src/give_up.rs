//! Returns an error value.

use witgate_plugin::{Failure, MessageVerdict};

pub(crate) fn on_message() -> Result<MessageVerdict, Failure> {
    Err(Failure::new("the moon is in the wrong place"))
}
