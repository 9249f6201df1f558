//! Answers with a status that no response has; the request's query says which.

use witgate_plugin::{Failure, Reply, Request, RequestVerdict};

pub(crate) fn on_request(request: &mut Request) -> Result<RequestVerdict, Failure> {
    let target = request.path_with_query();
    let status = target.split_once('?').map_or("0", |(_, status)| status);
    Ok(RequestVerdict::Answer(Reply::new(status.parse()?)))
}
