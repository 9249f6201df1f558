//! The PROXY protocol, both versions: what a load balancer that passes bytes on says first of whom they are from.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt as _};

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;

/// How the binary version begins, which is no beginning of anything else.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of the other version, by its standard.
const LONGEST_LINE: usize = 107;
/// Bytes of addresses and of what may be added to them; a Unix socket's take 216.
const MOST_ADDED: usize = 4096;

/// Reads the header and not a byte more. `None` when it says that the load balancer speaks for itself, or for nobody
/// with an address.
///
/// # Errors
///
/// When there is none, or it cannot be read.
pub(super) async fn read(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; SIGNATURE.len()];
    socket.read_exact(&mut header).await?;
    match header == SIGNATURE {
        true => read_binary(socket, &mut header).await?,
        false => read_line(socket, &mut header).await?,
    }
    let source = match HeaderResult::parse(&header) {
        HeaderResult::V1(parsed) => match parsed.map_err(refused)?.addresses {
            v1::Addresses::Tcp4(tcp) => Some((IpAddr::from(tcp.source_address), tcp.source_port)),
            v1::Addresses::Tcp6(tcp) => Some((IpAddr::from(tcp.source_address), tcp.source_port)),
            v1::Addresses::Unknown => None,
        },
        HeaderResult::V2(parsed) => {
            let parsed = parsed.map_err(refused)?;
            match (parsed.command, parsed.addresses) {
                (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => {
                    Some((IpAddr::from(ip.source_address), ip.source_port))
                }
                (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => {
                    Some((IpAddr::from(ip.source_address), ip.source_port))
                }
                _ => None,
            }
        }
    };
    Ok(source.map(SocketAddr::from))
}

async fn read_binary(
    socket: &mut (impl AsyncRead + Unpin),
    header: &mut Vec<u8>,
) -> io::Result<()> {
    let mut rest = [0; 4];
    socket.read_exact(&mut rest).await?;
    header.extend(rest);
    let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
    if length > MOST_ADDED {
        return Err(refused(format!("{length} bytes are too many")));
    }
    let fixed = header.len();
    header.resize(fixed + length, 0);
    socket.read_exact(&mut header[fixed..]).await?;
    Ok(())
}

async fn read_line(socket: &mut (impl AsyncRead + Unpin), header: &mut Vec<u8>) -> io::Result<()> {
    if !header.starts_with(b"PROXY ") {
        return Err(refused("there is none"));
    }
    while !header.ends_with(b"\r\n") {
        if header.len() == LONGEST_LINE {
            return Err(refused("the line does not end"));
        }
        // One at a time, since what is behind the line is for somebody else.
        header.push(socket.read_u8().await?);
    }
    // A line feed or a carriage return of its own would be where others see the end of the line.
    let line = &header[..header.len() - 2];
    match line.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        true => Ok(()),
        false => Err(refused("the line is no text")),
    }
}

fn refused(why: impl std::fmt::Display) -> io::Error {
    let why = format!("no header of the PROXY protocol: {why}");
    io::Error::new(io::ErrorKind::InvalidData, why)
}
