//! A request as one target gets it.

use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Method, Request, Uri, Version, header};

use super::Outgoing;
use crate::body::Body;
use crate::config::Endpoint;
use crate::trailers;

/// Sending it twice is the same as sending it once (RFC 9110 §9.2.2).
pub(super) fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

/// The request as this endpoint gets it by HTTP/1.1, with one `Host`.
pub(super) fn request(outgoing: &Outgoing<'_>, endpoint: &Endpoint, body: Body) -> Request<Body> {
    let head: &Parts = outgoing.head;
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = head.headers.clone();
    let headers = request.headers_mut();
    if let Some(traced) = &outgoing.traced {
        traced.stamp(headers);
    }
    if outgoing.use_upstream_authority || !headers.contains_key(header::HOST) {
        headers.insert(header::HOST, endpoint.authority.clone());
    }
    let body = request.body();
    let unknown = !http_body::Body::is_end_stream(body) && body.exact_size().is_none();
    let headers = request.headers_mut();
    if unknown && !headers.contains_key(header::CONTENT_LENGTH) {
        // Said outright: a GET would otherwise be sent without its body.
        headers.insert(
            header::TRANSFER_ENCODING,
            HeaderValue::from_static("chunked"),
        );
    } else {
        headers.remove(header::TRAILER);
    }
    if outgoing.upgrade.is_none() && trailers::are_taken(&head.extensions) {
        trailers::ask(headers);
    }
    let protocol = outgoing
        .upgrade
        .and_then(|protocol| HeaderValue::from_str(protocol).ok());
    if let Some(protocol) = protocol {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
    request
}

/// The same by HTTP/2: the host and the scheme are part of the target, and nothing is said of the connection (RFC 9113
/// §8.2.2, §8.3.1).
pub(super) fn request_http2(
    outgoing: &Outgoing<'_>,
    endpoint: &Endpoint,
    encrypted: bool,
    body: Body,
) -> Request<Body> {
    let mut request = request(outgoing, endpoint, body);
    let headers = request.headers_mut();
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::CONNECTION);
    let host = headers.remove(header::HOST);
    *request.version_mut() = Version::HTTP_2;
    let mut target = request.uri().clone().into_parts();
    target.scheme = Some(match encrypted {
        true => Scheme::HTTPS,
        false => Scheme::HTTP,
    });
    target.authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    // One that cannot be put together is sent as it is; hyper says what is wrong with it.
    if let Ok(target) = Uri::from_parts(target) {
        *request.uri_mut() = target;
    }
    request
}
