//! The sockets that a tunnel moves bytes between.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::AbortHandle;

/// A socket whose bytes are read and written as they are. What is encrypted has a task that does that, and is spoken
/// to by a pair of sockets: tunnels wait for sockets and not for streams, so that an idle one holds no buffer.
#[derive(Debug)]
pub(super) enum Wire {
    Tcp(TcpStream),
    Bridged(
        UnixStream,
        #[expect(dead_code, reason = "held for its end")] Bridge,
    ),
}

/// Ends its task when it is dropped.
#[derive(Debug)]
pub(super) struct Bridge(AbortHandle);

impl Drop for Bridge {
    fn drop(&mut self) {
        self.0.abort();
    }
}

macro_rules! each {
    ($wire:expr, $inner:ident => $do:expr) => {
        match $wire {
            Wire::Tcp($inner) => $do,
            Wire::Bridged($inner, _) => $do,
        }
    };
}

impl Wire {
    /// Of a stream that is no socket.
    pub(super) fn bridge(
        mut stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    ) -> io::Result<Self> {
        let (here, mut there) = UnixStream::pair()?;
        let task = tokio::task::spawn_local(async move {
            if let Err(error) = copy_bidirectional(&mut stream, &mut there).await {
                tracing::debug!(%error, "tunnel: an encrypted end broke");
            }
        });
        Ok(Self::Bridged(here, Bridge(task.abort_handle())))
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        each!(self, socket => socket.readable().await)
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        each!(self, socket => socket.writable().await)
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        each!(self, socket => socket.try_read(buffer))
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        each!(self, socket => socket.try_write(bytes))
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        each!(self, socket => socket.as_fd())
    }
}
