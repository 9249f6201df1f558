//! The handshake of a WebSocket that a client of HTTP/2 asked for: HTTP/1.1 has one, and RFC 8441 has none.

use std::hash::{BuildHasher, RandomState};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, header};
use sha1::{Digest as _, Sha1};

/// In the extensions of a request: its key was made here, so the answer to it is checked here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnKey;

/// What a server adds to the key (RFC 6455 §1.3).
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// 16 bytes that no server has seen before.
pub(super) fn new() -> HeaderValue {
    // The standard library's hash keys are random; the key has to be new, not secret.
    let halves = [0_u8, 1].map(|half| RandomState::new().hash_one(half).to_be_bytes());
    let key = STANDARD.encode(halves.as_flattened());
    HeaderValue::from_str(&key).expect("base64 is visible ASCII")
}

/// Whether a response shows that its sender has understood the key of the request (RFC 6455 §4.1).
pub(crate) fn is_accepted(request: &HeaderMap, response: &HeaderMap) -> bool {
    let Some(key) = request.get(header::SEC_WEBSOCKET_KEY) else {
        return false;
    };
    let digest = Sha1::new()
        .chain_update(key.as_bytes())
        .chain_update(MAGIC)
        .finalize();
    let expected = STANDARD.encode(digest);
    let accepted = response.get(header::SEC_WEBSOCKET_ACCEPT);
    accepted.is_some_and(|accepted| accepted.as_bytes() == expected.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_standard_is_accepted_and_nothing_else() {
        let (mut request, mut response) = (HeaderMap::new(), HeaderMap::new());
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        request.insert(header::SEC_WEBSOCKET_KEY, key);
        assert!(!is_accepted(&request, &response));
        let accept = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        response.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        assert!(is_accepted(&request, &response));
        request.insert(header::SEC_WEBSOCKET_KEY, new());
        assert!(!is_accepted(&request, &response));
    }

    #[test]
    fn keys_have_16_bytes_and_differ() {
        assert_eq!(new().len(), 24);
        assert_ne!(new(), new());
    }
}
