//! Makes a body that is held back grow without end.

use witgate_plugin::{ResponseVerdict, stream};

pub(crate) fn on_response() -> ResponseVerdict {
    ResponseVerdict::hold(stream(|_| Ok(vec![b'x'; 2 << 20])))
}
