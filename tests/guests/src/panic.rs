//! Panics.

use witgate_plugin::{Failure, RequestVerdict};

// The log names it.
#[inline(never)]
pub(crate) fn on_request() -> Result<RequestVerdict, Failure> {
    panic!("this guest panics")
}
