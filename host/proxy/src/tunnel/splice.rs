//! Bytes one way, whatever they are.

use std::cell::RefCell;
use std::io;

use bytes::Bytes;

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
                pass_end(to).await;
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
        let length = match from.link.try_read(buffer) {
            Ok(0) => return Ok(Relayed::End),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Relayed::All),
            Err(error) => return Err(from.broke(error)),
        };
        count.add(length as u64);
        send(&buffer[..length])
    })
}

/// Lends the buffer that all tunnels of a worker share.
pub(super) fn with_buffer<T>(use_it: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| use_it(buffer))
}

/// Sends everything, and says whenever some of it was taken.
pub(super) async fn write(to: &End, bytes: &[u8], progressed: impl FnMut()) -> Result<(), Broken> {
    if bytes.is_empty() {
        return Ok(());
    }
    let written = to.link.write(bytes, progressed).await;
    written.map_err(|error| to.broke(error))
}

/// Tells the receiver that nothing more comes.
pub(super) async fn pass_end(to: &End) {
    // The receiver may be gone already; then there is nobody to tell.
    if let Err(error) = to.link.end().await {
        tracing::trace!(%error, "tunnel: the receiver was gone before the sender's end");
    }
}

impl End {
    pub(super) async fn readable(&self) -> Result<(), Broken> {
        self.link
            .readable()
            .await
            .map_err(|error| self.broke(error))
    }

    /// Sends what the socket takes at once.
    pub(super) fn try_send(&self, piece: &[u8]) -> Result<Relayed, Broken> {
        match self.link.try_write(piece) {
            Ok(written) if written == piece.len() => Ok(Relayed::All),
            Ok(written) => Ok(Relayed::Rest(piece[written..].to_vec())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Ok(Relayed::Rest(piece.to_vec()))
            }
            Err(error) => Err(self.broke(error)),
        }
    }
}
