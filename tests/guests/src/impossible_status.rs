//! Answers with a status that no response has.

use witgate_plugin::{Failure, Reply, RequestVerdict};

pub(crate) fn on_request() -> Result<RequestVerdict, Failure> {
    Ok(RequestVerdict::Answer(Reply::new(0)))
}
