//! Calls itself without end.

use witgate_plugin::{Failure, RequestVerdict};

pub(crate) fn on_request() -> Result<RequestVerdict, Failure> {
    match deeper(1) {
        0 => Ok(RequestVerdict::Next),
        depth => Err(Failure::new(format!("came back from {depth}"))),
    }
}

#[expect(unconditional_recursion, reason = "it is there to overflow the stack")]
fn deeper(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    deeper(frame[0] + 1) + frame[63]
}
