//! Never comes back.

use witgate_plugin::{Failure, RequestVerdict};

pub(crate) fn on_request() -> Result<RequestVerdict, Failure> {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}
