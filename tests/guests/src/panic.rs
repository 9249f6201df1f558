//! Panics.

use witgate_plugin::{Failure, RequestVerdict};

pub(crate) fn on_request() -> Result<RequestVerdict, Failure> {
    panic!("this guest panics")
}
