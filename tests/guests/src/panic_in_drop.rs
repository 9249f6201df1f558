//! Panics when a transform is dropped, whose body went through well.

use witgate_plugin::{Failure, ResponseVerdict, Transform};

struct Bomb;

impl Transform for Bomb {
    fn push(&mut self, piece: Vec<u8>) -> Result<Vec<u8>, Failure> {
        Ok(piece)
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("this guest panics when it cleans up");
    }
}

pub(crate) fn on_response() -> ResponseVerdict {
    ResponseVerdict::hold(Bomb)
}
