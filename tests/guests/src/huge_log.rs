//! Logs a line of a megabyte, with line breaks in it.

use witgate_plugin::{Failure, RequestVerdict, info};

pub(crate) fn on_request() -> Result<RequestVerdict, Failure> {
    info!("huge\n{}", "x".repeat(1 << 20));
    Ok(RequestVerdict::Next)
}
