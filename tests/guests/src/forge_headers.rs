//! Tries to write headers that no message may have, into the request, the response and a trailer; the response says in
//! `x-taken` how many were taken.

use witgate_plugin::{Failure, Request, RequestVerdict, Response, ResponseVerdict, trailers};

const NAMES: [&str; 8] = [
    "",
    ":path",
    ":status",
    "x a",
    "x-a\r\nx-forged: 1",
    "x-a\n",
    "x-\0",
    "x-ü",
];

const VALUES: [&[u8]; 7] = [
    b"1\r\nx-forged: 1",
    b"1\nx-forged: 1",
    b"1\rx-forged: 1",
    b"\0",
    b"\x7f",
    b" 1",
    b"1\t",
];

/// A name as long as a whole head may be.
fn huge() -> String {
    "x".repeat(64 << 10)
}

pub(crate) fn on_request(request: &mut Request) -> Result<RequestVerdict, Failure> {
    let names = NAMES.map(str::to_owned).into_iter().chain([huge()]);
    let mut taken = names
        .filter(|name| {
            request.set_header(name, "1").is_ok()
                || request.append_header(name, "1").is_ok()
                || trailers::announce(name).is_ok()
        })
        .count();
    taken += VALUES
        .iter()
        .filter(|value| request.set_header("x-a", value).is_ok())
        .count();
    taken += usize::from(request.set_authority("a\r\nb").is_ok());
    taken += usize::from(request.set_path_with_query("/a\r\nb").is_ok());
    match taken {
        0 => Ok(RequestVerdict::Next),
        taken => Err(Failure::new(format!("{taken} were taken in the request"))),
    }
}

pub(crate) fn on_response(response: &mut Response) -> Result<ResponseVerdict, Failure> {
    let names = NAMES.map(str::to_owned).into_iter().chain([huge()]);
    let mut taken = names
        .filter(|name| response.append_header(name, "1").is_ok())
        .count();
    taken += VALUES
        .iter()
        .filter(|value| response.set_header("x-a", value).is_ok())
        .count();
    response.set_header("x-taken", taken.to_string())?;
    Ok(ResponseVerdict::Next)
}
