//! Either end's connection: a plain socket, or whatever else bytes can be read from and written to.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::LINGER;
use super::splice::with_buffer;

pub(super) enum Link {
    /// Bytes go from socket to socket, through one buffer that all tunnels share.
    Tcp(TcpStream),
    Other(Other),
}

/// With TLS, or a stream of HTTP/2: nobody can tell whether there is something to read without reading it.
pub(super) struct Other {
    io: RefCell<Box<dyn ReadWrite>>,
    came: RefCell<Came>,
}

pub(super) trait ReadWrite: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> ReadWrite for T {}

/// What was read and not taken yet. An idle tunnel holds no memory.
enum Came {
    Nothing,
    Bytes(Vec<u8>, usize),
    End,
}

impl Other {
    pub(super) fn new(io: impl ReadWrite + 'static) -> Self {
        Self {
            io: RefCell::new(Box::new(io)),
            came: RefCell::new(Came::Nothing),
        }
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !matches!(*self.came.borrow(), Came::Nothing) {
            return Poll::Ready(Ok(()));
        }
        let came = ready!(with_buffer(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            let mut io = self.io.borrow_mut();
            ready!(Pin::new(&mut **io).poll_read(cx, &mut buffer))?;
            Poll::Ready(io::Result::Ok(buffer.filled().to_vec()))
        }));
        let came = match came {
            // A client of TLS that is gone seldom says so before.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Came::End,
            Err(error) => return Poll::Ready(Err(error)),
            Ok(bytes) if bytes.is_empty() => Came::End,
            Ok(bytes) => Came::Bytes(bytes, 0),
        };
        self.came.replace(came);
        Poll::Ready(Ok(()))
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut came = self.came.borrow_mut();
        let (length, is_all) = match &mut *came {
            Came::Nothing => return Err(io::ErrorKind::WouldBlock.into()),
            Came::End => return Ok(0),
            Came::Bytes(bytes, taken) => {
                let rest = &bytes[*taken..];
                let length = rest.len().min(buffer.len());
                buffer[..length].copy_from_slice(&rest[..length]);
                *taken += length;
                (length, *taken == bytes.len())
            }
        };
        if is_all {
            *came = Came::Nothing;
        }
        Ok(length)
    }

    async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| Pin::new(&mut **self.io.borrow_mut()).poll_write(cx, bytes)).await
    }

    async fn flush(&self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut **self.io.borrow_mut()).poll_flush(cx)).await
    }

    async fn shutdown(&self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut **self.io.borrow_mut()).poll_shutdown(cx)).await
    }
}

impl Link {
    pub(super) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Other(_) => None,
        }
    }

    /// Waits until there is something to read, or the end.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            Self::Other(other) => poll_fn(|cx| other.poll_readable(cx)).await,
        }
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(buffer),
            Self::Other(other) => other.try_read(buffer),
        }
    }

    /// Writes what is taken at once: nothing but by a socket.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Other(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Writes everything, and says whenever some of it was taken.
    pub(super) async fn write(
        &self,
        mut bytes: &[u8],
        mut progressed: impl FnMut(),
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match self {
                Self::Tcp(stream) => {
                    stream.writable().await?;
                    match stream.try_write(bytes) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                        written => written?,
                    }
                }
                Self::Other(other) => other.write(bytes).await?,
            };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[written..];
            progressed();
        }
        match self {
            Self::Tcp(_) => Ok(()),
            Self::Other(other) => other.flush().await,
        }
    }

    /// Says that nothing more comes.
    pub(super) async fn end(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
            // What is before it may have to wait for the receiver.
            Self::Other(other) => timeout(LINGER, other.shutdown()).await.unwrap_or(Ok(())),
        }
    }
}
