//! Panics when the exchange is over.

use witgate_plugin::Failure;

pub(crate) fn on_complete() -> Result<(), Failure> {
    panic!("this guest panics at the end")
}
