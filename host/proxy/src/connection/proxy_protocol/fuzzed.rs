//! The header of the PROXY protocol beside a plain reading of its standard.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::{LONGEST_LINE, MOST_ADDED, SIGNATURE, read};

/// Reads any bytes as a connection that has to begin by a header. Not a byte behind it may be taken, or the client's
/// request would lack its beginning; and whoever is named stands there.
pub fn proxy_protocol(data: &[u8]) {
    let mut rest = data;
    let outcome = {
        let mut reading = pin!(read(&mut rest));
        match reading
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => panic!("all bytes are there"),
        }
    };
    let Ok(named) = outcome else {
        return;
    };
    let taken = &data[..data.len() - rest.len()];
    match taken.strip_prefix(SIGNATURE) {
        Some(binary) => {
            assert!(taken.len() <= SIGNATURE.len() + 4 + MOST_ADDED);
            assert_eq!(by_binary(binary), Some(named), "{taken:?}");
        }
        None => {
            assert!(taken.len() <= LONGEST_LINE && taken.ends_with(b"\r\n"));
            assert_eq!(by_line(taken), Some(named), "{taken:?}");
        }
    }
}

/// Version 1 (§2.1).
fn by_line(line: &[u8]) -> Option<Option<SocketAddr>> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
    assert!(!line.contains("\r\n"), "the line ends with the first CRLF");
    let mut words = line.split(' ');
    let (proxy, family) = (words.next()?, words.next()?);
    let address = |words: &mut std::str::Split<'_, char>| {
        let (source, _, port, _) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let address: IpAddr = source.parse().ok()?;
        words
            .next()
            .is_none()
            .then_some((address, port.parse().ok()?))
    };
    match (proxy, family) {
        ("PROXY", "UNKNOWN") => Some(None),
        ("PROXY", "TCP4") => {
            let address = address(&mut words).filter(|(ip, _)| ip.is_ipv4());
            Some(Some(SocketAddr::from(address?)))
        }
        ("PROXY", "TCP6") => {
            let address = address(&mut words).filter(|(ip, _)| ip.is_ipv6());
            Some(Some(SocketAddr::from(address?)))
        }
        _ => None,
    }
}

/// Version 2 (§2.2), behind the signature.
fn by_binary(header: &[u8]) -> Option<Option<SocketAddr>> {
    let [version, family, high, low, addresses @ ..] = header else {
        return None;
    };
    assert_eq!(
        addresses.len(),
        usize::from(u16::from_be_bytes([*high, *low]))
    );
    let port = |at: usize| {
        let port = addresses.get(at..at + 2)?;
        Some(u16::from_be_bytes([port[0], port[1]]))
    };
    match (version, family >> 4) {
        (0x20, _) => Some(None),
        (0x21, 1) => {
            let ip: [u8; 4] = addresses.get(..4)?.try_into().ok()?;
            Some(Some(SocketAddr::from((Ipv4Addr::from(ip), port(8)?))))
        }
        (0x21, 2) => {
            let ip: [u8; 16] = addresses.get(..16)?.try_into().ok()?;
            Some(Some(SocketAddr::from((Ipv6Addr::from(ip), port(32)?))))
        }
        (0x21, _) => Some(None),
        _ => None,
    }
}
