//! Drops what cannot be dropped.

use witgate_plugin::{Message, MessageVerdict};

pub(crate) fn on_message(message: &Message) -> MessageVerdict {
    match message {
        Message::Close(_) => MessageVerdict::Drop,
        _ => MessageVerdict::Forward,
    }
}
