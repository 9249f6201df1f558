//! Closes with a code that stands for the lack of one.

use witgate_plugin::{CloseReason, MessageVerdict};

pub(crate) fn on_message() -> MessageVerdict {
    MessageVerdict::Close(CloseReason::new(1006, "as if the connection had broken"))
}
