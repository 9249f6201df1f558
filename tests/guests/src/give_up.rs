//! Returns an error value, which is no trap: the instance stays.

use witgate_plugin::{Failure, RequestVerdict};

pub(crate) fn on_request() -> Result<RequestVerdict, Failure> {
    Err(Failure::new("the moon is in the wrong place"))
}
