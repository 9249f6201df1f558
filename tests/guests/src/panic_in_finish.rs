//! Panics at the end of a response's body.

use witgate_plugin::{ResponseVerdict, buffer};

pub(crate) fn on_response() -> ResponseVerdict {
    ResponseVerdict::hold(buffer(1 << 20, |_| {
        panic!("this guest panics at the end of a body")
    }))
}
