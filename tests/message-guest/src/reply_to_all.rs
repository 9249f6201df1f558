//! Replies to everything, replies included.

use witgate_plugin::{Message, MessageVerdict};

pub(crate) fn on_message() -> MessageVerdict {
    MessageVerdict::Reply(Message::Text("and to you".into()))
}
