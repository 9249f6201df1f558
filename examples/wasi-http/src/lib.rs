//! Greets whoever the query names, and sends back what it is sent.

use wstd::http::{Body, Error, Method, Request, Response, StatusCode};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let name = request
        .uri()
        .query()
        .and_then(|query| query.strip_prefix("name="));
    Ok(match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => {
            Response::new(format!("hello, {}\n", name.unwrap_or("world")).into())
        }
        (&Method::POST, "/echo") => Response::new(request.into_body()),
        _ => Response::builder()
            .status(StatusCode::NOT_FOUND)
            .body(Body::empty())?,
    })
}
