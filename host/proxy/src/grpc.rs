//! Answers of our own to calls of gRPC. Such a client looks for `grpc-status` in a 200, so that it would know an error of
//! the proxy only as "not gRPC". It gets a response that is nothing but a head ("Trailers-Only" in the protocol).
//!
//! The numbers are those of gRPC's "HTTP to gRPC Status Code Mapping", which clients use where nobody answers in gRPC.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use crate::body::Body;
use crate::failure::OfFailure;
use crate::reply::OwnReply;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A request that is a call of gRPC, or gRPC-Web.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    content_type: HeaderValue,
}

impl Call {
    /// By the `Content-Type`: `application/grpc`, and what begins with it and goes on with `+`, `;` or `-web`. Each call is a
    /// `POST`; for another method a 200 could be taken for a page by a cache, or for a tunnel by who asked for one.
    pub(crate) fn of(method: &Method, request: &HeaderMap) -> Option<Self> {
        if method != Method::POST {
            return None;
        }
        let content_type = request.get(header::CONTENT_TYPE)?;
        let bytes = content_type.as_bytes();
        let (kind, rest) = bytes.split_at_checked(b"application/grpc".len())?;
        let is_call = kind.eq_ignore_ascii_case(b"application/grpc")
            && (matches!(rest.first(), None | Some(b'+' | b';' | b' '))
                || rest.to_ascii_lowercase().starts_with(b"-web"));
        is_call.then(|| Self {
            content_type: content_type.clone(),
        })
    }

    /// Says in gRPC what went wrong, if the response is an error that the proxy or a plugin made. What the upstream says
    /// is the upstream's, whatever it is.
    pub(crate) fn settle(&self, response: &mut Response<Body>) {
        let made = response.extensions();
        let is_own = made.get::<OfFailure>().is_some() || made.get::<OwnReply>().is_some();
        let status = response.status();
        let is_error = status.is_client_error() || status.is_server_error();
        if !is_own || !is_error || response.headers().contains_key(&STATUS) {
            return;
        }
        *response.status_mut() = StatusCode::OK;
        *response.body_mut() = Body::empty();
        let headers = response.headers_mut();
        for name in [
            header::CONTENT_LENGTH,
            header::CONTENT_ENCODING,
            header::CONTENT_RANGE,
            header::ETAG,
            header::TRAILER,
        ] {
            headers.remove(name);
        }
        headers.insert(header::CONTENT_TYPE, self.content_type.clone());
        headers.insert(STATUS, HeaderValue::from(code(status)));
        headers.insert(MESSAGE, message(status));
    }
}

fn code(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,                   // INTERNAL
        401 => 16,                   // UNAUTHENTICATED
        403 => 7,                    // PERMISSION_DENIED
        404 => 12,                   // UNIMPLEMENTED
        429 | 502 | 503 | 504 => 14, // UNAVAILABLE
        _ => 2,                      // UNKNOWN
    }
}

/// The number, because several have one code, and its standard words. Nothing in them has to be escaped.
fn message(status: StatusCode) -> HeaderValue {
    let number = status.as_u16();
    let message = match status.canonical_reason() {
        Some(words) => format!("HTTP {number}: {}", words.to_ascii_lowercase()),
        None => format!("HTTP {number}"),
    };
    HeaderValue::try_from(message).expect("the words of a status are visible ASCII and spaces")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    fn call(content_type: &'static str) -> Option<Call> {
        let content_type = HeaderValue::from_static(content_type);
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]);
        assert!(Call::of(&Method::GET, &headers).is_none());
        Call::of(&Method::POST, &headers)
    }

    #[test]
    fn a_call_is_told_by_its_content_type() {
        for is in [
            "application/grpc",
            "Application/GRPC",
            "application/grpc+proto",
            "application/grpc; charset=utf-8",
            "application/grpc-web+json",
        ] {
            assert!(call(is).is_some(), "{is}");
        }
        for is_not in [
            "application/grpcx",
            "application/json",
            "application/grp",
            "",
        ] {
            assert!(call(is_not).is_none(), "{is_not}");
        }
        assert!(Call::of(&Method::POST, &HeaderMap::new()).is_none());
    }

    #[test]
    fn a_failure_is_a_head_with_the_code_that_stands_for_its_status() {
        let call = call("application/grpc+proto").expect("a call");
        for (status, code, message) in [
            (400, "13", "HTTP 400: bad request"),
            (401, "16", "HTTP 401: unauthorized"),
            (403, "7", "HTTP 403: forbidden"),
            (404, "12", "HTTP 404: not found"),
            (413, "2", "HTTP 413: payload too large"),
            (429, "14", "HTTP 429: too many requests"),
            (502, "14", "HTTP 502: bad gateway"),
            (504, "14", "HTTP 504: gateway timeout"),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let mut response = Failure::client(status, "why").response();
            call.settle(&mut response);
            let headers = response.headers();
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(headers[STATUS], code);
            assert_eq!(headers[MESSAGE], message);
            assert_eq!(headers[header::CONTENT_TYPE], "application/grpc+proto");
            assert!(http_body::Body::is_end_stream(response.body()));
        }
    }

    #[test]
    fn what_an_upstream_says_stays() {
        let call = call("application/grpc").expect("a call");
        let mut response = Response::new(Body::full("no"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        call.settle(&mut response);
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert!(response.headers().is_empty());
    }
}
