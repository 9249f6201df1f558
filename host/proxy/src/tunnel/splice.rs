//! Bytes one way, whatever they are.

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;

use bytes::Bytes;
use socket2::SockRef;

use super::{Broken, End};
use crate::body::Progress;

/// What is moved at once. One such buffer serves all tunnels of a worker, so an idle tunnel holds none.
const PIECE: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into());
}

/// What became of a piece.
pub(super) enum Relayed {
    All,
    /// What the receiver would not take yet.
    Rest(Vec<u8>),
    /// There was none: the sender has ended.
    End,
}

/// Moves bytes one way until the sender has ended, and passes the end on. `early` was read before.
pub(super) async fn one_way(
    from: &End,
    to: &End,
    early: Bytes,
    count: &Progress,
) -> Result<(), Broken> {
    count.add(early.len() as u64);
    write(to, &early, || {}).await?;
    drop(early);
    loop {
        // Two quick peers would otherwise never let go of the worker.
        tokio::task::consume_budget().await;
        from.readable().await?;
        match relay(from, count, |piece| to.try_send(piece))? {
            Relayed::All => {}
            Relayed::Rest(rest) => write(to, &rest, || {}).await?,
            Relayed::End => {
                pass_end(to);
                return Ok(());
            }
        }
    }
}

/// Reads what there is, and gives it to `send`.
pub(super) fn relay(
    from: &End,
    count: &Progress,
    send: impl FnOnce(&[u8]) -> Result<Relayed, Broken>,
) -> Result<Relayed, Broken> {
    BUFFER.with_borrow_mut(|buffer| {
        let length = match from.stream.try_read(buffer) {
            Ok(0) => return Ok(Relayed::End),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Relayed::All),
            Err(error) => return Err(from.broke(error)),
        };
        count.add(length as u64);
        send(&buffer[..length])
    })
}

/// Sends everything, and says whenever some of it was taken.
pub(super) async fn write(
    to: &End,
    mut bytes: &[u8],
    mut progressed: impl FnMut(),
) -> Result<(), Broken> {
    while !bytes.is_empty() {
        to.stream
            .writable()
            .await
            .map_err(|error| to.broke(error))?;
        match to.stream.try_write(bytes) {
            Ok(written) => {
                bytes = &bytes[written..];
                progressed();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(to.broke(error)),
        }
    }
    Ok(())
}

/// Tells the receiver that nothing more comes.
pub(super) fn pass_end(to: &End) {
    // The receiver may be gone already; then there is nobody to tell.
    if let Err(error) = SockRef::from(&to.stream).shutdown(Shutdown::Write) {
        tracing::trace!(%error, "tunnel: the receiver was gone before the sender's end");
    }
}

impl End {
    pub(super) async fn readable(&self) -> Result<(), Broken> {
        self.stream
            .readable()
            .await
            .map_err(|error| self.broke(error))
    }

    /// Sends what the socket takes at once.
    pub(super) fn try_send(&self, piece: &[u8]) -> Result<Relayed, Broken> {
        match self.stream.try_write(piece) {
            Ok(written) if written == piece.len() => Ok(Relayed::All),
            Ok(written) => Ok(Relayed::Rest(piece[written..].to_vec())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Ok(Relayed::Rest(piece.to_vec()))
            }
            Err(error) => Err(self.broke(error)),
        }
    }
}
