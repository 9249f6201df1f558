//! Stores ever new keys.

use witgate_plugin::{Failure, Reply, RequestVerdict, keyvalue};

/// With what a key takes beside itself, several times the store that the test grants.
const KEYS: usize = 100_000;

pub(crate) fn on_request() -> Result<RequestVerdict, Failure> {
    let mut refused = 0;
    for key in 0..KEYS {
        refused += usize::from(keyvalue::increment(&format!("flood-{key}"), 1).is_err());
    }
    let first = keyvalue::get("flood-0")?.is_some();
    let last = keyvalue::get(&format!("flood-{}", KEYS - 1))?.is_some();
    let text = format!("refused {refused}, first {first}, last {last}");
    Ok(RequestVerdict::Answer(Reply::new(200).text(text)))
}
