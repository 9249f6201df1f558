//! What a client sends first, looked at and left where it is.

use std::io;

use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;

use super::socket::Socket;

/// Whether the first bytes are these. Waits as long as what has come could be their beginning.
pub(super) async fn begins_with(socket: &Socket, wanted: &[u8; 24]) -> io::Result<bool> {
    loop {
        let ready = socket.ready(Interest::READABLE).await?;
        let looked = socket.try_io(Interest::READABLE, || {
            let mut first = [0; 24];
            let (came, _) = recv(socket, &mut first, RecvFlags::PEEK)?;
            let may_begin = wanted.starts_with(&first[..came]);
            match may_begin && came < wanted.len() && !ready.is_read_closed() {
                // The next bytes to come, or the end, make it readable anew.
                true => Err(io::ErrorKind::WouldBlock.into()),
                false => Ok(may_begin && came == wanted.len()),
            }
        });
        match looked {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            looked => return looked,
        }
    }
}

/// The first byte; `None` at the end.
pub(super) async fn first_byte(socket: &Socket) -> io::Result<Option<u8>> {
    loop {
        socket.ready(Interest::READABLE).await?;
        let looked = socket.try_io(Interest::READABLE, || {
            let mut first = [0];
            let (came, _) = recv(socket, &mut first, RecvFlags::PEEK)?;
            Ok(first[..came].first().copied())
        });
        match looked {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            looked => return looked,
        }
    }
}
