//! The token as it comes: `Authorization: Bearer HEADER.PAYLOAD.SIGNATURE` (RFC 7515 §3.1, RFC 6750 §2.1).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::Refused;

/// A token in its parts, nothing of it believed yet.
pub(crate) struct Token {
    pub(crate) algorithm: String,
    pub(crate) key_id: Option<String>,
    /// What is signed.
    pub(crate) signed: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

/// What of the header matters.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that whoever does not know them must refuse (RFC 7515 §4.1.11). None is known here.
    crit: Option<serde_json::Value>,
}

/// Larger ones are refused unread.
const LONGEST: usize = 16 << 10;

impl Token {
    /// From all values of `Authorization`.
    pub(crate) fn of(values: &[Vec<u8>]) -> Result<Self, Refused> {
        let value = match values {
            [] => return Err(Refused::NoToken),
            [value] => value.trim_ascii(),
            _ => return Err(Refused::Invalid("two tokens")),
        };
        let end = value
            .iter()
            .position(|&byte| byte == b' ')
            .unwrap_or(value.len());
        let (scheme, rest) = value.split_at(end);
        if !scheme.eq_ignore_ascii_case(b"bearer") {
            return Err(Refused::NoToken);
        }
        Self::parse(rest.trim_ascii_start()).ok_or(Refused::Invalid("malformed"))
    }

    fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let mut parts = text.split(|&byte| byte == b'.');
        let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let decode = |part| URL_SAFE_NO_PAD.decode(part).ok();
        let read: Header = serde_json::from_slice(&decode(header)?).ok()?;
        if read.crit.is_some() {
            return None;
        }
        Some(Self {
            algorithm: read.alg,
            key_id: read.kid,
            signed: text.get(..header.len() + 1 + payload.len())?.to_vec(),
            payload: decode(payload)?,
            signature: decode(signature)?,
        })
    }
}
