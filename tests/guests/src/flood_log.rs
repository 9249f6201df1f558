//! Logs a thousand lines in one call.

use witgate_plugin::{Failure, RequestVerdict, info};

pub(crate) fn on_request() -> Result<RequestVerdict, Failure> {
    for number in 0..1000 {
        info!("flood {number}");
    }
    Ok(RequestVerdict::Next)
}
