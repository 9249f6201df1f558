//! Panics.

use witgate_plugin::{Failure, MessageVerdict};

pub(crate) fn on_message() -> Result<MessageVerdict, Failure> {
    panic!("this guest panics at a message")
}
