//! `Via` (RFC 9110 §7.6.3): which proxies a request has passed.

use http::{HeaderValue, StatusCode, Version, header, request};

use crate::config::Via;
use crate::failure::Failure;

/// Adds us to the proxies that a request has passed; `version` is the one that it came in.
///
/// # Errors
///
/// 508 when we are among them already: it goes in a circle.
pub(crate) fn add(parts: &mut request::Parts, version: Version, via: &Via) -> Result<(), Failure> {
    let fields = parts.headers.get_all(header::VIA).iter();
    let hops = fields
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','));
    let mut names = hops.filter_map(|hop| hop.split_ascii_whitespace().nth(1));
    if names.any(|name| name.eq_ignore_ascii_case(&via.name)) {
        return Err(Failure::client(
            StatusCode::LOOP_DETECTED,
            "the request was here before: `Via` has the name of `server.via`",
        ));
    }
    let version = match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2.0",
        _ => "1.1",
    };
    let hop = HeaderValue::try_from(format!("{version} {}", via.name));
    let hop = hop.expect("a name is made of visible ASCII");
    parts.headers.append(header::VIA, hop);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_comes_a_second_time_is_refused() {
        let via = Via {
            name: "edge-1".into(),
        };
        for (fields, refused) in [
            (&[][..], false),
            (&["1.1 other, 1.0 edge-10 (edge-1)"], false),
            (&["1.1 a", "1.1 other,2 Edge-1 (x)"], true),
        ] {
            let mut request = http::Request::builder().uri("/");
            for field in fields {
                request = request.header(header::VIA, *field);
            }
            let (mut parts, ()) = request.body(()).expect("a request").into_parts();
            let added = add(&mut parts, Version::HTTP_10, &via);
            assert_eq!(added.is_err(), refused, "{fields:?}");
            let last = parts.headers.get_all(header::VIA).iter().next_back();
            if !refused {
                assert_eq!(last.expect("it was added"), "1.0 edge-1");
            }
        }
    }
}
