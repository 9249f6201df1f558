//! [`Framing`] beside hyper: what it lets through, hyper reads as the same messages.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http::{Method, Request, Response, request};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Framing, Refusal, State};
use crate::fuzzing::pieces;

/// Follows any bytes, in any pieces, and has hyper read what comes of it.
pub fn framing(data: &[u8]) {
    let Some((bytes, pieces)) = pieces(data) else {
        return;
    };
    let (messages, refusal, end) = by_framing(bytes);
    let mut framing = Framing::default();
    let mut followed = bytes.to_vec();
    let mut stream = Stream::default();
    for piece in pieces {
        let piece = piece.start.min(end)..piece.end.min(end);
        let _refusal = framing.follow(&mut followed[piece.clone()]);
        stream.pieces.push_back(followed[piece].to_vec());
    }
    assert_eq!(
        framing.refused(),
        refusal,
        "it depends on where the bytes are cut"
    );
    stream.is_refused = refusal.is_some();
    for (at, read) in by_hyper(stream).iter().enumerate() {
        let message = messages.get(at);
        let message = message.unwrap_or_else(|| panic!("hyper reads one more: {read:?}"));
        is_same(message, read);
    }
}

/// A message as one of the two has it.
#[derive(Debug, Default)]
struct Message<H> {
    head: H,
    body: Vec<u8>,
    is_whole: bool,
}

/// Where [`Framing`] sees the messages, byte by byte; why it refuses the rest; and where HTTP ends, for another protocol.
fn by_framing(bytes: &[u8]) -> (Vec<Message<Vec<u8>>>, Option<Refusal>, usize) {
    let mut framing = Framing::default();
    let mut messages: Vec<Message<Vec<u8>>> = Vec::new();
    let mut head = Vec::new();
    for (at, byte) in bytes.iter().enumerate() {
        let before = framing.state;
        if let Err(refusal) = framing.follow(&mut [*byte]) {
            // What is refused is the rest from somewhere in this line.
            return (messages, Some(refusal), bytes.len());
        }
        let is_behind = matches!(framing.state, State::Start { .. } | State::Asked { .. });
        match before {
            State::Start { .. } | State::Fields => {
                head.push(*byte);
                if head == b"\r\n" {
                    head.clear();
                }
                if before == State::Fields && framing.state != State::Fields {
                    let head = std::mem::take(&mut head);
                    let (body, is_whole) = (Vec::new(), is_behind);
                    messages.push(Message {
                        head,
                        body,
                        is_whole,
                    });
                }
            }
            State::Content(_) | State::Chunk(3..) => body(&mut messages).body.push(*byte),
            _ => {}
        }
        if is_behind && !matches!(before, State::Start { .. }) {
            body(&mut messages).is_whole = true;
        }
        if let State::Asked { .. } = framing.state {
            return (messages, None, at + 1);
        }
    }
    (messages, None, bytes.len())
}

fn body(messages: &mut [Message<Vec<u8>>]) -> &mut Message<Vec<u8>> {
    messages.last_mut().expect("content stands behind a head")
}

/// What hyper hands out, as a server that answers when a request is whole.
fn by_hyper(stream: Stream) -> Vec<Message<request::Parts>> {
    let read: Rc<RefCell<Vec<Message<request::Parts>>>> = Rc::default();
    let service = service_fn(|request: Request<Incoming>| {
        let read = read.clone();
        async move {
            let (head, mut body) = request.into_parts();
            let refused = head.method == Method::CONNECT;
            let at = read.borrow().len();
            let (content, is_whole) = (Vec::new(), false);
            read.borrow_mut().push(Message {
                head,
                body: content,
                is_whole,
            });
            let mut is_whole = true;
            while let Some(frame) = body.frame().await {
                match frame.map(|frame| frame.into_data()) {
                    Ok(Ok(data)) => read.borrow_mut()[at].body.extend(data),
                    Ok(Err(_trailers)) => {}
                    Err(_) => is_whole = false,
                }
            }
            read.borrow_mut()[at].is_whole = is_whole;
            let status = if refused { 405 } else { 200 };
            let response = Response::builder()
                .status(status)
                .body(Empty::<Bytes>::new());
            Ok::<_, Infallible>(response.expect("a response"))
        }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut context = Context::from_waker(Waker::noop());
    // The stream is always ready.
    let ends = (0..100_000).any(|_| connection.as_mut().poll(&mut context).is_ready());
    assert!(ends, "hyper waits for ever");
    read.take()
}

#[track_caller]
fn is_same(message: &Message<Vec<u8>>, read: &Message<request::Parts>) {
    let text = String::from_utf8_lossy(&message.head);
    let mut lines = message.head.split(|byte| *byte == b'\n');
    let mut request = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
    assert_eq!(
        request.next(),
        Some(read.head.method.as_str().as_bytes()),
        "{text}"
    );
    let target = String::from_utf8_lossy(request.next().unwrap_or_default()).into_owned();
    if target.starts_with('/') {
        let target = target.split('#').next().unwrap_or_default();
        assert_eq!(read.head.uri.to_string(), *target, "{text}");
    }
    let mut fields: Vec<(String, Vec<u8>)> = lines.filter_map(field).collect();
    let found = read.head.headers.iter();
    let mut found: Vec<(String, Vec<u8>)> = found
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
        .collect();
    // Those of one name keep their order.
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    assert_eq!(fields, found, "{text}");
    assert!(
        message.body.starts_with(&read.body),
        "hyper has another body: {message:?} {read:?}"
    );
    if read.is_whole {
        assert!(message.is_whole, "only hyper has all of it: {message:?}");
        assert_eq!(message.body.len(), read.body.len(), "{text}");
    }
}

/// Name in lower case and value of a line that is not blank.
fn field(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let line = line.strip_suffix(b"\r").filter(|line| !line.is_empty())?;
    let colon = line
        .iter()
        .position(|byte| *byte == b':')
        .expect("hyper knows no field without a colon");
    let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
    let is_space = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let value = &line[colon + 1..];
    let from = value
        .iter()
        .position(|byte| !is_space(byte))
        .unwrap_or(value.len());
    let to = value
        .iter()
        .rposition(|byte| !is_space(byte))
        .map_or(from, |last| last + 1);
    Some((name, value[from..to].to_vec()))
}

/// Gives the pieces one by one; takes everything.
#[derive(Debug, Default)]
struct Stream {
    pieces: VecDeque<Vec<u8>>,
    is_refused: bool,
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(mut piece) = self.pieces.pop_front() else {
            let refused = io::Error::from(io::ErrorKind::InvalidData);
            return Poll::Ready(if self.is_refused {
                Err(refused)
            } else {
                Ok(())
            });
        };
        let rest = piece.split_off(piece.len().min(buffer.remaining()));
        buffer.put_slice(&piece);
        if !rest.is_empty() {
            self.pieces.push_front(rest);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
