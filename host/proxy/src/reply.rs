//! Responses that no upstream made: fixed ones and those of plugins.

use http::{HeaderMap, Method, Response};
use witgate_runtime::{Reply, ReplyBody};

use crate::body::Body;
use crate::config::FixedReply;
use crate::failure::Failure;
use crate::file::{self, FileCache, Mount};

/// In the extensions of a response that a route or a plugin made, and no upstream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnReply;

/// The reply of a route.
pub(crate) fn fixed(reply: &FixedReply) -> Response<Body> {
    let mut response = Response::new(Body::full(reply.body.clone()));
    *response.status_mut() = reply.status;
    response.headers_mut().extend(reply.headers.iter().cloned());
    response.extensions_mut().insert(OwnReply);
    response
}

/// The reply of a plugin, its file opened.
///
/// # Errors
///
/// As [`file::serve`].
pub(crate) fn of_plugin(
    reply: Reply,
    mounts: &[Mount],
    files: &FileCache,
    method: &Method,
    request: &HeaderMap,
) -> Result<Response<Body>, Failure> {
    let body = match reply.body {
        ReplyBody::Empty => Body::empty(),
        ReplyBody::Bytes(bytes) => Body::full(bytes),
        ReplyBody::File(file) => {
            let mut response = file::serve(mounts, files, &file, method, request, reply.status)?;
            let of_file = std::mem::replace(response.headers_mut(), reply.headers);
            // What the host knows of the file, or says of its absence, goes over what the plugin said.
            for (name, value) in &of_file {
                response.headers_mut().insert(name, value.clone());
            }
            response.extensions_mut().insert(OwnReply);
            return Ok(response);
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    response.extensions_mut().insert(OwnReply);
    Ok(response)
}
