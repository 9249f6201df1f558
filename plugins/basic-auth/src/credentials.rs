//! What a client presents: `Authorization: Basic base64(NAME:PASSWORD)` (RFC 7617 §2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A name and a password.
pub(crate) struct Credentials {
    pub(crate) name: String,
    pub(crate) password: Vec<u8>,
}

/// Far more than anybody types; base64 of a name and a password.
const LONGEST: usize = 1024;

impl Credentials {
    /// From all values of `Authorization`; `None` when they are none, or more than one, of which another reader of the
    /// request might take the other.
    pub(crate) fn of(values: &[Vec<u8>]) -> Option<Self> {
        let [value] = values else { return None };
        let value = value.trim_ascii();
        let end = value.iter().position(|&byte| byte == b' ')?;
        let (scheme, rest) = value.split_at(end);
        let rest = rest.trim_ascii_start();
        if !scheme.eq_ignore_ascii_case(b"basic") || rest.len() > LONGEST {
            return None;
        }
        let decoded = STANDARD.decode(rest).ok()?;
        let colon = decoded.iter().position(|&byte| byte == b':')?;
        let (name, password) = decoded.split_at(colon);
        Some(Self {
            name: String::from_utf8(name.to_owned()).ok()?,
            password: password[1..].to_owned(),
        })
    }
}
