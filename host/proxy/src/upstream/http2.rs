//! Connections of HTTP/2, which many requests share.
//!
//! Each has a task that drives it, and ends when the other side does, or when nobody sends on it any more.

use std::cell::Cell;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Context;
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::Socket;
use super::connection::{Sending, Unanswered, answer, note_end};
use super::pool::Slot;
use super::waits::Waits;
use crate::alarm::Alarm;
use crate::body::{Body, Progress};

/// Bytes of one response that wait to be read: memory that a slow client holds.
const STREAM_WINDOW: u32 = 256 << 10;
/// The same of all responses on one connection: dozens of slow clients, so that they do not stop the others.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Bytes of one request that wait to be sent.
const SEND_BUFFER: usize = 128 << 10;
/// Bytes of a response's head, as the listeners have it by default.
const HEAD_SIZE: u32 = 64 << 10;
/// How long a connection with requests under way is believed without a byte; then it is asked (PING), and given up when
/// it does not answer. Servers count PINGs, and some take more than two in a minute for an attack.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection.
#[derive(Debug)]
pub(super) struct Multiplexed {
    sender: SendRequest<Body>,
    state: Rc<State>,
}

#[derive(Debug)]
struct State {
    streams: Cell<usize>,
    /// How many the other side allows.
    most: Cell<usize>,
    /// It takes no more requests.
    gone: Cell<bool>,
    used: Cell<Instant>,
}

/// A place for one request on a connection.
#[derive(Debug)]
pub(super) struct Stream {
    sender: SendRequest<Body>,
    state: Rc<State>,
}

/// What an error of a connection or a stream means for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The other side says that it has not looked at it (RFC 9113 §8.7).
    Unprocessed,
    /// What it sends is not HTTP/2.
    NotHttp2,
    /// We broke it off, since its body did.
    BrokenOff,
}

impl Multiplexed {
    /// Begins to speak HTTP/2 by prior knowledge, or after ALPN said so.
    pub(super) async fn new(socket: Socket, slot: Option<Slot>) -> hyper::Result<Self> {
        let (sender, connection) = http2::Builder::new(OnWorker)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(HEAD_SIZE)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(socket))
            .await?;
        let state = Rc::new(State {
            streams: Cell::new(0),
            most: Cell::new(connection.current_max_send_streams()),
            gone: Cell::new(false),
            used: Cell::new(Instant::now()),
        });
        let seen = state.clone();
        tokio::task::spawn_local(async move {
            let _counts_as_open = slot;
            let mut connection = std::pin::pin!(connection);
            let ended = poll_fn(|cx| {
                let polled = connection.as_mut().poll(cx);
                if polled.is_pending() {
                    seen.most.set(connection.current_max_send_streams());
                }
                polled
            });
            note_end(ended.await);
            seen.gone.set(true);
        });
        Ok(Self { sender, state })
    }

    pub(super) fn is_gone(&self) -> bool {
        self.state.gone.get() || self.sender.is_closed()
    }

    pub(super) fn streams(&self) -> usize {
        self.state.streams.get()
    }

    pub(super) fn has_room(&self) -> bool {
        self.state.streams.get() < self.state.most.get()
    }

    /// For how long nobody has used it.
    pub(super) fn idle(&self) -> Option<Duration> {
        (self.streams() == 0).then(|| self.state.used.get().elapsed())
    }

    /// A place on it. Without room the request waits for its turn on the connection.
    pub(super) fn stream(&self) -> Stream {
        let state = self.state.clone();
        state.streams.set(state.streams.get() + 1);
        Stream {
            sender: self.sender.clone(),
            state,
        }
    }
}

impl Stream {
    /// As of a connection of HTTP/1.1.
    pub(super) fn begin(&mut self, request: Request<Body>) -> Sending {
        Box::pin(self.sender.try_send_request(request))
    }

    /// As of a connection of HTTP/1.1.
    pub(super) async fn answer(
        &mut self,
        sending: &mut Sending,
        progress: &Progress,
        waits: &Waits,
    ) -> Result<Response<Incoming>, Unanswered> {
        let mut alarm = Alarm::default();
        let poll = |cx: &mut Context<'_>| sending.as_mut().poll(cx);
        let answered = answer(poll, progress, waits, &mut alarm).await;
        if let Err(Unanswered::Broken(error)) = &answered {
            let reset = cause(error.error()).is_some_and(h2::Error::is_reset);
            self.state.gone.set(self.state.gone.get() || !reset);
        }
        answered
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.state.streams.set(self.state.streams.get() - 1);
        self.state.used.set(Instant::now());
    }
}

fn cause(error: &hyper::Error) -> Option<&h2::Error> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        source = cause.source();
    }
    None
}

pub(super) fn judge(error: &hyper::Error) -> Option<Verdict> {
    let cause = cause(error)?;
    let reason = cause.reason();
    if cause.is_remote() {
        // A stream ends by the GOAWAY of the other side only when its number is above the last that is looked at.
        let unprocessed = cause.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM)
            || cause.is_go_away() && reason == Some(h2::Reason::NO_ERROR);
        return unprocessed.then_some(Verdict::Unprocessed);
    }
    if cause.is_go_away() && cause.is_library() {
        return Some(Verdict::NotHttp2);
    }
    (cause.is_reset() && !cause.is_library()).then_some(Verdict::BrokenOff)
}

/// Runs what belongs to a connection beside it, on its worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnWorker;

impl<F: Future<Output = ()> + 'static> Executor<F> for OnWorker {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}
