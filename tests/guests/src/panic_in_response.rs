//! Panics at the head of a response.

use witgate_plugin::{Failure, ResponseVerdict};

pub(crate) fn on_response() -> Result<ResponseVerdict, Failure> {
    panic!("this guest panics at a response")
}
