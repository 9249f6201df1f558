//! A transform that never comes to its end.

use witgate_plugin::{ResponseVerdict, buffer};

pub(crate) fn on_response() -> ResponseVerdict {
    ResponseVerdict::hold(buffer(1 << 20, |_| {
        let mut turns = 0_u64;
        loop {
            turns = std::hint::black_box(turns.wrapping_add(1));
        }
    }))
}
