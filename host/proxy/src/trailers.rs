//! Which trailers are sent on: what belongs to one connection is asked and said anew on the next.
//!
//! hyper sends the trailers that a chunked message's `Trailer` announces, and to a client only when its request said
//! `TE: trailers`. What is to be decided here is what stands in these fields.

use http::{Extensions, HeaderMap, HeaderValue, Response, header, request};
use witgate_runtime::{announce_trailers, announced_trailers};

use crate::body::Body;
use crate::head::remove_hop_by_hop;

/// In a request's extensions: its sender takes trailers (RFC 9110 §10.1.4).
#[derive(Debug, Clone, Copy)]
struct Taken;

/// Whether the client takes trailers.
pub(crate) fn are_taken(request: &Extensions) -> bool {
    request.get::<Taken>().is_some()
}

/// Notes whether the sender of a request takes trailers; to be called before the fields of its connection are gone.
pub(crate) fn note_taken(request: &mut request::Parts) {
    let fields = request.headers.get_all(header::TE).iter();
    let tokens = fields
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','));
    if tokens
        .map(str::trim)
        .any(|token| token.eq_ignore_ascii_case("trailers"))
    {
        request.extensions.insert(Taken);
    }
}

/// Takes off what belongs to one connection, except that a chunked message goes on announcing its trailers.
pub(crate) fn remove_all_but_announcement(headers: &mut HeaderMap) {
    match headers.contains_key(header::TRANSFER_ENCODING) {
        true => keep_announcement(headers),
        false => remove_hop_by_hop(headers),
    }
}

/// The same of a head that says nothing of how its body is framed, as those of components.
pub(crate) fn keep_announcement(headers: &mut HeaderMap) {
    let announced = announced_trailers(headers);
    remove_hop_by_hop(headers);
    if !announced.is_empty() {
        announce_trailers(headers, &announced);
    }
}

/// Asks an upstream for trailers on behalf of a client that takes them.
pub(crate) fn ask(headers: &mut HeaderMap) {
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("TE"));
}

/// Takes the announcement off a response whose trailers will not be sent.
pub(crate) fn settle(response: &mut Response<Body>, request: &Extensions) {
    if !are_taken(request) || response.body().exact_size().is_some() {
        response.headers_mut().remove(header::TRAILER);
    }
}

/// Has the head of a body that was held back say how it is framed: by its length, or in chunks when trailers follow.
pub(crate) fn frame_held(headers: &mut HeaderMap, body: &Body) {
    match body.trailers() {
        Some(trailers) => {
            headers.remove(header::CONTENT_LENGTH);
            announce_trailers(headers, trailers.keys());
        }
        None => {
            let length = body.exact_size().expect("a held body is of one piece");
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            headers.remove(header::TRAILER);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, Request};

    use super::*;

    #[test]
    fn only_a_client_that_says_so_takes_trailers() {
        for (fields, taken) in [
            (&[][..], false),
            (&["gzip"], false),
            (&["gzip;q=0.5, Trailers"], true),
            (&["gzip", "trailers"], true),
        ] {
            let (mut parts, ()) = Request::new(()).into_parts();
            for field in fields {
                parts
                    .headers
                    .append(header::TE, HeaderValue::from_static(field));
            }
            note_taken(&mut parts);
            assert_eq!(are_taken(&parts.extensions), taken, "{fields:?}");
        }
    }

    #[test]
    fn an_announcement_goes_on_with_a_chunked_message_and_names_what_may_follow() {
        let headers = |coding: &[&'static str]| {
            let mut headers = HeaderMap::new();
            headers.insert(
                header::TRAILER,
                HeaderValue::from_static("X-Sum, Set-Cookie"),
            );
            for coding in coding {
                headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static(coding));
            }
            remove_all_but_announcement(&mut headers);
            headers
        };
        assert_eq!(headers(&["chunked"])[header::TRAILER], "x-sum");
        assert!(headers(&[]).is_empty());
    }

    #[test]
    fn a_held_body_has_a_length_or_trailers() {
        let mut headers = HeaderMap::new();
        let trailers = [(
            HeaderName::from_static("x-sum"),
            HeaderValue::from_static("1"),
        )];
        let body = Body::whole("body".into(), trailers.into_iter().collect());
        frame_held(&mut headers, &body);
        assert_eq!(headers[header::TRAILER], "x-sum");
        assert_eq!(headers.len(), 1);
        frame_held(&mut headers, &Body::whole("body".into(), HeaderMap::new()));
        assert_eq!(headers[header::CONTENT_LENGTH], "4");
        assert_eq!(headers.len(), 1);
    }
}
