//! A standard middleware: it may answer itself, and otherwise passes the request on and marks the response.

use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::wit_future;

wit_bindgen::generate!({
    path: "../../wit/0.3",
    world: "middleware",
    with: {
        "wasi:http/types@0.3.2": wasip3::http::types,
        "wasi:clocks/types@0.3.2": wasip3::clocks::types,
    },
    generate_all,
});

struct Component;

export!(Component);

impl exports::wasi::http::handler::Guest for Component {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        match request.get_path_with_query().as_deref() {
            Some("/closed") => return Ok(closed()),
            Some("/twice") => {
                let first = get("/first", request.get_authority().as_deref());
                drop(wasi::http::handler::handle(first).await?);
            }
            _ => {}
        }
        mark(wasi::http::handler::handle(request).await?)
    }
}

/// The same response with one more field.
fn mark(response: Response) -> Result<Response, ErrorCode> {
    let status = response.get_status_code();
    let headers = response.get_headers().clone();
    let (_, taken) = wit_future::new(|| Ok(()));
    let (body, trailers) = Response::consume_body(response, taken);
    let wrong = |error| ErrorCode::InternalError(Some(format!("{error:?}")));
    headers.append("x-middleware", b"passed").map_err(wrong)?;
    let (marked, _) = Response::new(headers, Some(body), trailers);
    let refused = || ErrorCode::InternalError(Some("an impossible status".to_owned()));
    marked.set_status_code(status).map_err(|()| refused())?;
    Ok(marked)
}

fn closed() -> Response {
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _) = Response::new(Fields::new(), None, trailers);
    response.set_status_code(403).expect("403 is a status");
    response
}

fn get(path: &str, authority: Option<&str>) -> Request {
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (request, _) = Request::new(Fields::new(), None, trailers, None);
    request
        .set_path_with_query(Some(path))
        .expect("a legal path");
    request
        .set_authority(authority)
        .expect("the authority of another request");
    request
}
