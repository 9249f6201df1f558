//! Lets the first piece of a body through and fails at the second.

use witgate_plugin::{Failure, ResponseVerdict, stream};

pub(crate) fn on_response() -> ResponseVerdict {
    let mut pieces = 0;
    ResponseVerdict::transform(stream(move |piece| {
        pieces += 1;
        match pieces {
            1 => Ok(piece),
            _ => Err(Failure::new("the second piece is not to its taste")),
        }
    }))
}
