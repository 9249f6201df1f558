//! The rules by which plugins may edit heads.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::bindings::types::HeadError;
use crate::exchange::HeadLimits;

/// Fields that the host owns, because they frame the message or manage the connection (RFC 9110 §7.6.1, RFC 9112
/// §6). A plugin that could write them could make one message look like two.
const OWNED: [HeaderName; 9] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// A name that a plugin may write.
pub(crate) fn writable_name(name: &str) -> Result<HeaderName, HeadError> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| HeadError::InvalidName)?;
    if OWNED.contains(&name) {
        return Err(HeadError::Forbidden);
    }
    Ok(name)
}

/// A value that a plugin may write: no CR, LF, NUL or other control byte but tab, no space at either end (which a
/// receiver would take off, RFC 9110 §5.5).
pub(crate) fn value(value: &[u8]) -> Result<HeaderValue, HeadError> {
    let edge = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    if edge(value.first()) || edge(value.last()) {
        return Err(HeadError::InvalidValue);
    }
    HeaderValue::from_bytes(value).map_err(|_| HeadError::InvalidValue)
}

/// How a value joins those that are there.
#[derive(Clone, Copy)]
pub(crate) enum Edit {
    Set,
    Append,
}

/// A field that a plugin may write.
pub(crate) fn field(name: &str, bytes: &[u8]) -> Result<(HeaderName, HeaderValue), HeadError> {
    Ok((writable_name(name)?, value(bytes)?))
}

/// Writes a field within the limits.
pub(crate) fn put(
    headers: &mut HeaderMap,
    limits: HeadLimits,
    edit: Edit,
    (name, value): (HeaderName, HeaderValue),
) -> Result<(), HeadError> {
    let freed = match edit {
        Edit::Set => headers
            .get_all(&name)
            .iter()
            .map(|v| (1, name.as_str().len() + v.len()))
            .fold((0, 0), add),
        Edit::Append => (0, 0),
    };
    let added = name.as_str().len() + value.len();
    if headers.len() - freed.0 + 1 > limits.count || size(headers) - freed.1 + added > limits.size {
        return Err(HeadError::TooLarge);
    }
    match edit {
        Edit::Set => drop(headers.insert(name, value)),
        Edit::Append => drop(headers.append(name, value)),
    }
    Ok(())
}

/// Checks a field and writes it within the limits.
pub(crate) fn write(
    headers: &mut HeaderMap,
    limits: HeadLimits,
    edit: Edit,
    name: &str,
    bytes: &[u8],
) -> Result<(), HeadError> {
    put(headers, limits, edit, field(name, bytes)?)
}

fn add(a: (usize, usize), b: (usize, usize)) -> (usize, usize) {
    (a.0 + b.0, a.1 + b.1)
}

pub(crate) fn size(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum()
}

/// Whether this is a host and an optional port by RFC 3986 §3.2.2 and §3.2.3, without user information: what may
/// stand in `Host` (RFC 9110 §7.2). At most 255 bytes for the host, as in DNS.
pub fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, after)) => {
                if address.parse::<std::net::Ipv6Addr>().is_err() {
                    return false;
                }
                match after.strip_prefix(':') {
                    Some(port) => return is_port(port),
                    None => return after.is_empty(),
                }
            }
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    // Letters, digits and the punctuation of names; percent-encoding and the sub-delims that RFC 3986 would allow
    // occur in no name that can be resolved, and some of them end a string in JSON, HTML or a log line.
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    !host.is_empty() && host.len() <= 255 && host.bytes().all(legal) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { count: 3, size: 60 };

    #[test]
    fn framing_and_pseudo_headers_cannot_be_written() {
        let mut headers = HeaderMap::new();
        for name in [
            "Content-Length",
            "transfer-encoding",
            "HOST",
            "connection",
            "upgrade",
            "te",
            "trailer",
        ] {
            let refused = write(&mut headers, LIMITS, Edit::Set, name, b"1");
            assert!(
                matches!(refused, Err(HeadError::Forbidden)),
                "{name}: {refused:?}"
            );
        }
        for name in ["", ":path", "a b", "x\r\ny", "ü"] {
            let refused = write(&mut headers, LIMITS, Edit::Set, name, b"1");
            assert!(
                matches!(refused, Err(HeadError::InvalidName)),
                "{name:?}: {refused:?}"
            );
        }
        assert!(headers.is_empty());
    }

    #[test]
    fn a_value_cannot_break_out_of_its_line() {
        for bytes in [
            &b"a\r\nb: c"[..],
            b"a\nb",
            b"a\0b",
            b" padded",
            b"padded\t",
            b"\x7f",
        ] {
            assert!(
                matches!(value(bytes), Err(HeadError::InvalidValue)),
                "{bytes:?}"
            );
        }
        assert!(value(b"caf\xe9 \t ok").is_ok());
        assert!(value(b"").is_ok());
    }

    #[test]
    fn a_head_cannot_outgrow_its_limits_but_a_value_can_be_replaced_at_the_limit() {
        let mut headers = HeaderMap::new();
        for name in ["a", "b", "c"] {
            write(&mut headers, LIMITS, Edit::Append, name, b"0123456789")
                .expect("within the limits");
        }
        assert!(matches!(
            write(&mut headers, LIMITS, Edit::Append, "d", b""),
            Err(HeadError::TooLarge)
        ));
        assert!(write(&mut headers, LIMITS, Edit::Set, "a", b"9876543210").is_ok());
        let long = [b'x'; 60];
        assert!(matches!(
            write(&mut headers, LIMITS, Edit::Set, "a", &long),
            Err(HeadError::TooLarge)
        ));
    }

    #[test]
    fn an_authority_is_a_host_and_an_optional_port_and_nothing_else() {
        for good in [
            "localhost",
            "localhost:9222",
            "127.0.0.1:80",
            "[::1]",
            "[2001:db8::1]:443",
            "a_b.example-1.com",
        ] {
            assert!(is_authority(good), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a:",
            "a:b",
            "a:99999",
            "a b",
            "user@host",
            "a/b",
            "[::1",
            "[::1]x",
            "[x]:80",
            "::1",
            "x\"},\"y\":{\"z",
            "a,b",
            "a:+1",
            "host\r\nx: y",
            "a%2f",
        ] {
            assert!(!is_authority(bad), "{bad:?}");
        }
    }
}
