//! Makes transforms that it neither returns nor drops.

use witgate_plugin::__private::transform::{Failure as Refusal, GuestTransform, Transform};
use witgate_plugin::{Failure, RequestVerdict};

struct Leaked;

impl GuestTransform for Leaked {
    fn push(&self, chunk: Vec<u8>) -> Result<Vec<u8>, Refusal> {
        Ok(chunk)
    }

    fn finish(&self) -> Result<Vec<u8>, Refusal> {
        Ok(Vec::new())
    }
}

/// More in three exchanges than an instance may have.
const HANDLES: usize = 40_000;

pub(crate) fn on_request() -> Result<RequestVerdict, Failure> {
    for _ in 0..HANDLES {
        std::mem::forget(Transform::new(Leaked));
    }
    Ok(RequestVerdict::Next)
}
