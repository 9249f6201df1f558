//! Answers with a header that no message may have; the request's query says which.

use witgate_plugin::{Failure, Reply, Request, RequestVerdict};

pub(crate) fn on_request(request: &mut Request) -> Result<RequestVerdict, Failure> {
    let target = request.path_with_query();
    let reply = Reply::new(200);
    let reply = match target.split_once('?').map_or("", |(_, which)| which) {
        "break-in-name" => reply.header("x-a\r\nx-forged", "1"),
        "break-in-value" => reply.header("x-a", "1\r\nx-forged: 1"),
        "nul" => reply.header("x-a", "\0"),
        "pseudo" => reply.header(":status", "200"),
        "empty" => reply.header("", "1"),
        "huge-name" => reply.header("x".repeat(64 << 10), "1"),
        "many" => (0..1000).fold(reply, |reply, n| reply.header(format!("x-{n}"), "1")),
        "length" => reply.header("content-length", "1"),
        "coding" => reply.header("transfer-encoding", "chunked"),
        "trailer" => reply.header("trailer", "x-a"),
        other => return Err(Failure::new(format!("there is no {other}"))),
    };
    Ok(RequestVerdict::Answer(reply))
}
