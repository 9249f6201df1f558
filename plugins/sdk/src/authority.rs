use std::net::Ipv6Addr;

/// Whether this is a host and an optional port (RFC 3986 §3.2.2 and §3.2.3), as [`Request::set_authority`] takes it:
/// letters, digits, `-`, `.` and `_`, or an IPv6 address in brackets; no user information, no percent-encoding.
///
/// [`Request::set_authority`]: crate::Request::set_authority
///
/// ```
/// # use witgate_plugin::is_authority;
/// assert!(is_authority("localhost:9222") && is_authority("[2001:db8::1]:443"));
/// assert!(!is_authority("user@host") && !is_authority("http://host") && !is_authority(""));
/// ```
pub fn is_authority(text: &str) -> bool {
    let (host_is_legal, after) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, after)) => (address.parse::<Ipv6Addr>().is_ok(), after),
            None => return false,
        },
        None => {
            let host = text.bytes().take_while(|&byte| byte != b':').count();
            let (host, after) = text.split_at(host);
            (is_name(host), after)
        }
    };
    host_is_legal && (after.is_empty() || after.strip_prefix(':').is_some_and(is_port))
}

fn is_name(host: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (1..=255).contains(&host.len()) && host.bytes().all(legal)
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::is_authority;

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
            "ü",
        ] {
            assert!(!is_authority(bad), "{bad:?}");
        }
    }
}
