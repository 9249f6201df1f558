//! Never comes back.

use witgate_plugin::{Failure, MessageVerdict};

pub(crate) fn on_message() -> Result<MessageVerdict, Failure> {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}
