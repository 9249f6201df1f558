//! Takes a MiB with each exchange and never gives it back.

use std::hint::black_box;

use witgate_plugin::{Failure, RequestVerdict};

pub(crate) fn on_request() -> Result<RequestVerdict, Failure> {
    std::mem::forget(black_box(vec![1_u8; 1 << 20]));
    Ok(RequestVerdict::Next)
}
