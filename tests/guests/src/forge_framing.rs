//! Tries to write headers that would make one message look like two. Answers with what became of each attempt.

use witgate_plugin::{Failure, Reply, Request, RequestVerdict};

const ATTEMPTS: [(&str, &[u8]); 8] = [
    ("content-length", b"0"),
    ("transfer-encoding", b"chunked"),
    ("connection", b"upgrade"),
    ("host", b"elsewhere"),
    (":path", b"/elsewhere"),
    ("x-a", b"1\r\nx-forged: 1"),
    ("x-b: 1\r\nx-forged", b"1"),
    ("x-c", b"\0"),
];

pub(crate) fn on_request(request: &mut Request) -> Result<RequestVerdict, Failure> {
    let taken: Vec<&str> = ATTEMPTS
        .iter()
        .filter(|(name, value)| request.set_header(name, value).is_ok())
        .map(|(name, _)| *name)
        .collect();
    match taken.as_slice() {
        [] => Ok(RequestVerdict::Answer(
            Reply::new(200).text("nothing was taken"),
        )),
        taken => Ok(RequestVerdict::Answer(
            Reply::new(200).text(taken.join(" ")),
        )),
    }
}
