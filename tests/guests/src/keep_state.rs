//! Remembers in a global what only one exchange should know, and tells the next.

use std::cell::Cell;

use witgate_plugin::{Failure, Reply, RequestVerdict, info};

thread_local! {
    static SEEN: Cell<u64> = const { Cell::new(0) };
}

pub(crate) fn configure() {
    info!("configured");
}

pub(crate) fn on_request() -> Result<RequestVerdict, Failure> {
    SEEN.set(SEEN.get() + 1);
    Ok(RequestVerdict::Answer(
        Reply::new(200).text(format!("seen {}", SEEN.get())),
    ))
}
