//! What a client sends first, looked at and left where it is.

use std::io;

use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Whether the first bytes are these. Waits as long as what has come could be their beginning.
pub(super) async fn begins_with(stream: &TcpStream, wanted: &[u8; 24]) -> io::Result<bool> {
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        let looked = stream.try_io(Interest::READABLE, || {
            let mut first = [0; 24];
            let (came, _) = recv(stream, &mut first, RecvFlags::PEEK)?;
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
