//! Lines to a syslog daemon, by RFC 5424: one datagram each.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::line::rfc3339;

/// The daemon facility (3), informational (6).
const PRIORITY: u8 = 3 * 8 + 6;

/// Bytes of a message: daemons take at least 2 KiB (RFC 5424 §6.1), and the usual ones 8.
const LONGEST: usize = 8 << 10;

/// How long a daemon that reads nothing may hold up the next line.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Syslog {
    socket: Socket,
    /// Our host, name and process, as each message says them.
    origin: String,
}

enum Socket {
    Unix(UnixDatagram, PathBuf),
    Udp(UdpSocket, SocketAddr),
}

impl Syslog {
    pub(super) fn socket(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self::new(Socket::Unix(socket, path.to_owned())))
    }

    pub(super) fn udp(address: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self::new(Socket::Udp(socket, address)))
    }

    fn new(socket: Socket) -> Self {
        let name = rustix::system::uname();
        let name = name.nodename().to_string_lossy();
        let legal = |byte: u8| byte.is_ascii_graphic();
        let host = match !name.is_empty() && name.len() <= 255 && name.bytes().all(legal) {
            true => &*name,
            false => "-",
        };
        let origin = format!("{host} witgate {} access -", std::process::id());
        Self { socket, origin }
    }

    /// Sends one line; all of it counts as taken.
    pub(super) fn send(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = line.trim_ascii();
        let header = format!(
            "<{PRIORITY}>1 {} {} ",
            rfc3339(SystemTime::now()),
            self.origin
        );
        let message = [header.as_bytes(), text].concat();
        let message = &message[..message.len().min(LONGEST)];
        match &self.socket {
            Socket::Unix(socket, path) => socket.send_to(message, path)?,
            Socket::Udp(socket, address) => socket.send_to(message, *address)?,
        };
        Ok(line.len())
    }
}
