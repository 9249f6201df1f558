//! Stores values as large as they can be and larger, under ever new keys.

use witgate_plugin::keyvalue::{self, ErrorKind};
use witgate_plugin::{Failure, Reply, RequestVerdict};

/// Four times the store that the test grants.
const KEYS: usize = 16;

pub(crate) fn on_request() -> Result<RequestVerdict, Failure> {
    let value = vec![b'x'; 1 << 20];
    let larger = vec![b'x'; (1 << 20) + 1];
    for key in 0..KEYS {
        keyvalue::set(&format!("large-{key}"), &value)?;
        let refused = keyvalue::set("larger", &larger).map_err(|error| error.kind());
        if refused != Err(ErrorKind::TooLarge) {
            return Err(Failure::new(format!("a value over the limit: {refused:?}")));
        }
    }
    let mut kept = 0;
    for key in 0..KEYS {
        kept += usize::from(keyvalue::get(&format!("large-{key}"))?.is_some());
    }
    let all = if kept < KEYS { "some" } else { "all" };
    Ok(RequestVerdict::Answer(Reply::new(200).text(all)))
}
