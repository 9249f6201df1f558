//! The head of a request of HTTP/2, brought into the form of HTTP/1.1, in which everything else of the proxy reads it.
//!
//! hyper and h2 refuse what RFC 9113 calls malformed: upper-case names, `Connection` and its like, line breaks and NUL,
//! pseudo-header fields that are missing, repeated or out of place. What is left is looked at here.

use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header};
use hyper::ext::Protocol;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;

use super::websocket_key::{self, OwnKey};
use crate::failure::Failure;
use crate::framing;

/// Settles the head: one authority, which is in `Host`, a target in origin form, one `Cookie`, and a WebSocket that is
/// asked for as in HTTP/1.1.
///
/// # Errors
///
/// 400 when it has two readings, 431 when it has more fields than `most_fields`, 405 and 501 for a CONNECT that is no
/// WebSocket.
pub(crate) fn settle(parts: &mut Parts, most_fields: usize) -> Result<(), Failure> {
    join_cookies(&mut parts.headers)?;
    if parts.headers.len() > most_fields {
        return Err(Failure::client(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            format!("more than the listener's `limits.header-count` of {most_fields} fields"),
        ));
    }
    if parts.headers.values().any(is_padded) {
        return Err(Failure::bad_request(
            "a field's value begins or ends with white space",
        ));
    }
    settle_authority(parts)?;
    settle_target(parts)?;
    check_length(&parts.headers)?;
    // There is no way to say so in HTTP/2, where everybody takes trailers (RFC 9113 §8.1).
    parts
        .headers
        .insert(header::TE, HeaderValue::from_static("trailers"));
    if parts.headers.contains_key(header::TRAILER)
        && !parts.headers.contains_key(header::CONTENT_LENGTH)
    {
        // As it would be in HTTP/1.1, where trailers are announced and come in the last chunk.
        let chunked = HeaderValue::from_static("chunked");
        parts.headers.insert(header::TRANSFER_ENCODING, chunked);
    }
    if parts.method == Method::CONNECT {
        settle_connect(parts)?;
    }
    parts.version = Version::HTTP_11;
    Ok(())
}

/// RFC 9113 §8.2.3: crumbs are one field before they go into another context.
fn join_cookies(headers: &mut HeaderMap) -> Result<(), Failure> {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let (Some(_), Some(_)) = (crumbs.next(), crumbs.next()) else {
        return Ok(());
    };
    let crumbs: Vec<_> = headers.get_all(header::COOKIE).iter().collect();
    let crumbs: Vec<_> = crumbs.iter().map(|crumb| crumb.as_bytes()).collect();
    let joined = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
        .map_err(|_| Failure::bad_request("the Cookie fields are no field together"))?;
    headers.insert(header::COOKIE, joined);
    Ok(())
}

/// RFC 9113 §8.2.1. HTTP/1.1 would take it off, so that the upstream would read another value than plugins did.
fn is_padded(value: &HeaderValue) -> bool {
    let blank = |byte: Option<&u8>| byte.is_some_and(|byte| matches!(byte, b' ' | b'\t'));
    blank(value.as_bytes().first()) || blank(value.as_bytes().last())
}

/// RFC 9113 §8.3.1: `:authority` stands for `Host`, which may be there too and must say the same.
fn settle_authority(parts: &mut Parts) -> Result<(), Failure> {
    let Some(authority) = parts.uri.authority() else {
        return Ok(());
    };
    let value = HeaderValue::from_str(authority.as_str())
        .map_err(|_| Failure::bad_request("the authority is no host and port"))?;
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let agrees = |host: &HeaderValue| {
        host.as_bytes()
            .eq_ignore_ascii_case(authority.as_str().as_bytes())
    };
    if !hosts.all(agrees) {
        return Err(Failure::bad_request("`:authority` and Host do not agree"));
    }
    parts.headers.insert(header::HOST, value);
    Ok(())
}

/// As in HTTP/1.1: said once, as a number (RFC 9110 §8.6). h2 resets the stream for most that are none, and takes an empty
/// one for 0.
fn check_length(headers: &HeaderMap) -> Result<(), Failure> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let is_number = |length: &HeaderValue| framing::decimal(length.as_bytes()).is_some();
    match lengths.next().is_none_or(is_number) && lengths.next().is_none() {
        true => Ok(()),
        false => Err(Failure::bad_request(
            "the length of the body is not said once, as a number",
        )),
    }
}

fn settle_target(parts: &mut Parts) -> Result<(), Failure> {
    let target = match parts.uri.path_and_query() {
        Some(target) if target.as_str().starts_with('/') => target.clone(),
        Some(target) if target.as_str() == "*" && parts.method == Method::OPTIONS => target.clone(),
        // A CONNECT without a protocol.
        None => return Ok(()),
        Some(_) => return Err(Failure::bad_request("the path does not begin with a slash")),
    };
    parts.uri = Uri::from(target);
    Ok(())
}

/// RFC 8441: a WebSocket is asked for with CONNECT and `:protocol`. From here on it is asked for as in HTTP/1.1, with a
/// key of our own.
fn settle_connect(parts: &mut Parts) -> Result<(), Failure> {
    if !asks_for_protocol(parts.version, &parts.method, &parts.extensions) {
        // Refused where those of HTTP/1.1 are.
        return Ok(());
    }
    let protocol = parts.extensions.get::<Protocol>();
    if !protocol.is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket")) {
        return Err(Failure::client(
            StatusCode::NOT_IMPLEMENTED,
            "an extended CONNECT for a protocol other than WebSocket",
        ));
    }
    parts.method = Method::GET;
    let headers = &mut parts.headers;
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TE);
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_KEY, websocket_key::new());
    parts.extensions.insert(OwnKey);
    Ok(())
}

/// Whether it is an extended CONNECT.
pub(crate) fn asks_for_protocol(
    version: Version,
    method: &Method,
    extensions: &Extensions,
) -> bool {
    version == Version::HTTP_2
        && *method == Method::CONNECT
        && extensions.get::<Protocol>().is_some()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().version(Version::HTTP_2).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn the_authority_becomes_the_host_and_the_target_has_origin_form() {
        let mut parts = parts("https://a.example:8443/x?y", &[("cookie", "a=1")]);
        settle(&mut parts, 100).expect("it is sound");
        assert_eq!(parts.headers[header::HOST], "a.example:8443");
        assert_eq!(parts.uri.to_string(), "/x?y");
        assert_eq!(parts.version, Version::HTTP_11);
        assert_eq!(parts.headers[header::COOKIE], "a=1");
    }

    #[test]
    fn an_authority_and_a_host_that_differ_have_two_readings() {
        for (hosts, sound) in [
            (&["a.example"][..], true),
            (&["A.example"], true),
            (&["a.example", "a.example"], true),
            (&["b.example"], false),
            (&["a.example", "b.example"], false),
            (&[""], false),
        ] {
            let fields: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            let mut parts = parts("https://a.example/", &fields);
            let settled = settle(&mut parts, 100).map_err(|failure| failure.status);
            let expected = if sound {
                Ok(())
            } else {
                Err(StatusCode::BAD_REQUEST)
            };
            assert_eq!(settled, expected, "{hosts:?}");
        }
    }

    #[test]
    fn crumbs_are_one_cookie() {
        let crumbs = [
            ("cookie", "a=1"),
            ("x", "y"),
            ("cookie", "b=2"),
            ("cookie", "c=3"),
        ];
        let mut parts = parts("https://a.example/", &crumbs);
        settle(&mut parts, 3).expect("it is sound");
        let cookies: Vec<_> = parts.headers.get_all(header::COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3"]);
    }

    #[test]
    fn a_length_is_a_number_that_can_be_counted_to() {
        for (length, sound) in [
            ("0", true),
            ("18446744073709551615", true),
            ("18446744073709551616", false),
            ("666666666666666666666", false),
            ("", false),
            ("+1", false),
        ] {
            let settled = settle(
                &mut parts("https://a.example/", &[("content-length", length)]),
                9,
            );
            assert_eq!(settled.is_ok(), sound, "{length}");
        }
    }

    #[test]
    fn fields_are_counted_and_are_not_padded() {
        let three = [("a", "1"), ("b", "2"), ("c", "3")];
        let refused = settle(&mut parts("https://a.example/", &three), 2).expect_err("too many");
        assert_eq!(refused.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        for value in [" x", "x ", "\tx", " "] {
            let refused = settle(&mut parts("https://a.example/", &[("a", value)]), 9);
            assert_eq!(refused.expect_err(value).status, StatusCode::BAD_REQUEST);
        }
    }
}
