//! Answers with files outside its mount; the request's query says which.

use witgate_plugin::{Failure, File, Reply, Request, RequestVerdict};

pub(crate) fn on_request(request: &mut Request) -> Result<RequestVerdict, Failure> {
    let target = request.path_with_query();
    let file = target.split_once('?').map_or("/", |(_, file)| file);
    Ok(RequestVerdict::Answer(
        Reply::new(200).file(File::new(file)),
    ))
}
