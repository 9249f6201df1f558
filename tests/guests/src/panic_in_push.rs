//! Panics at the first piece of a response's body.

use witgate_plugin::{ResponseVerdict, stream};

pub(crate) fn on_response() -> ResponseVerdict {
    ResponseVerdict::hold(stream(|_| panic!("this guest panics at a piece of a body")))
}
