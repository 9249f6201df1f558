//! Makes a long message of a short one.

use witgate_plugin::{Message, MessageVerdict};

pub(crate) fn on_message() -> MessageVerdict {
    MessageVerdict::Replace(Message::Binary(vec![0; 2 << 20]))
}
