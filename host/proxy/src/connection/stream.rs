//! A client's socket as HTTP sees it: with or without TLS, its bytes followed on their way in.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::activity::Activity;
use super::frames::Frames;
use super::linger::Linger;
use super::open::Place;
use super::socket::Socket;
use crate::framing::Framing;
use crate::refusal::Reason;

/// What HTTP is spoken over.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

/// The same call on whichever it is.
macro_rules! on_stream {
    ($this:expr, $stream:ident => $call:expr) => {
        match $this {
            Stream::Plain($stream) => $call,
            Stream::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_stream!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        on_stream!(self, stream => stream.is_write_vectored())
    }
}

/// Up to this size, pieces are written as one: that costs less than a vectored write, and is one record of TLS.
const SMALL: usize = 1024;

/// The pieces as one, if they are small.
fn joined<'a>(pieces: &[io::IoSlice<'_>], room: &'a mut [u8; SMALL]) -> Option<&'a [u8]> {
    let mut length = 0;
    for piece in pieces {
        let end = length + piece.len();
        room.get_mut(length..end)?.copy_from_slice(piece);
        length = end;
    }
    Some(&room[..length])
}

/// A client's stream that notes when bytes come, spoils what has two readings, and ends at a flood.
#[derive(Debug)]
pub(crate) struct Tracked {
    stream: Stream,
    activity: Arc<Activity>,
    protocol: Protocol,
    /// Our end is closed.
    linger: Option<Linger>,
    /// Which an upgraded connection keeps.
    place: Place,
}

#[derive(Debug)]
enum Protocol {
    Http1(Framing),
    Http2(Frames),
}

impl Tracked {
    pub(super) fn http1(stream: Stream, activity: Arc<Activity>, place: Place) -> Self {
        Self {
            stream,
            activity,
            protocol: Protocol::Http1(Framing::default()),
            linger: None,
            place,
        }
    }

    pub(super) fn http2(stream: Stream, activity: Arc<Activity>, place: Place) -> Self {
        Self {
            stream,
            activity,
            protocol: Protocol::Http2(Frames::new()),
            linger: None,
            place,
        }
    }

    pub(crate) fn into_parts(self) -> (Stream, Place) {
        (self.stream, self.place)
    }

    fn follow(&mut self, came: &mut [u8]) -> io::Result<()> {
        match &mut self.protocol {
            Protocol::Http1(framing) => {
                self.activity.bytes_came();
                if framing.asked().is_some() && self.activity.protocol_is_refused() {
                    framing.go_on();
                }
                if let Err(refusal) = framing.follow(came) {
                    self.activity.refuse(refusal.into());
                    tracing::debug!(%refusal, "a client's message is refused");
                }
                if let Some(asked) = framing.asked() {
                    self.activity.protocol_asked(asked);
                }
            }
            Protocol::Http2(frames) => {
                if let Err(flood) = frames.follow(came) {
                    self.activity.refuse(Reason::Flood);
                    return Err(io::Error::other(flood));
                }
                if frames.is_settled() {
                    self.activity.settled();
                }
                self.activity.set_partial_head(frames.is_in_block());
            }
        }
        Ok(())
    }

    fn wrote(&mut self, written: &Poll<io::Result<usize>>) {
        self.activity.set_write_blocked(written.is_pending());
        if let (Protocol::Http2(frames), Poll::Ready(Ok(bytes))) = (&mut self.protocol, written) {
            frames.wrote(*bytes);
        }
    }
}

impl AsyncRead for Tracked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Protocol::Http1(framing) = &self.protocol
            && let Some(refusal) = framing.refused()
        {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, refusal)));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let came = &mut buffer.filled_mut()[before..];
        if !came.is_empty() {
            self.follow(came)?;
        }
        polled
    }
}

impl AsyncWrite for Tracked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.activity.set_write_blocked(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        match &mut this.protocol {
            Protocol::Http1(framing) => {
                let linger = this.linger.get_or_insert_with(Linger::new);
                linger.poll(&mut this.stream, framing, cx)
            }
            Protocol::Http2(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut room = [0; SMALL];
        let written = match joined(pieces, &mut room) {
            Some(bytes) => Pin::new(&mut self.stream).poll_write(cx, bytes),
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, pieces),
        };
        self.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
