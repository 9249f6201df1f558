//! One connection to a target.
//!
//! A connection is driven by whoever has it: by the exchange that waits for a response, then by whoever reads the
//! response's body. That takes no task of its own, and no wake-up between two tasks on the way of each piece. While
//! nobody has it, it stands still; that the other side has closed it shows when it is taken, before anything is sent.
//! A connection whose response comes before its request has gone out is driven by a task, so that neither direction
//! waits for the other.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::Socket;
use super::bells::Bells;
use super::pool::Slot;
use super::waits::Waits;
use crate::alarm::Alarm;
use crate::body::{Body, Progress};

/// Of a type that hyper does not name.
type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>>>>;

/// Keep it boxed: it is moved with its exchange, and then with the body of its response.
pub(super) struct Connection {
    sender: SendRequest<Body>,
    /// `None` once the connection has ended, or a task drives it.
    driver: Option<Driver>,
    bells: Bells,
    pub(super) alarm: Alarm,
    slot: Option<Slot>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("sender", &self.sender)
            .finish_non_exhaustive()
    }
}

/// A request that got no response.
pub(super) enum Unanswered {
    /// Within the time for it.
    InTime,
    Broken(Box<TrySendError<Request<Body>>>),
}

impl Connection {
    pub(super) async fn new(socket: Socket, slot: Option<Slot>) -> hyper::Result<Box<Self>> {
        // Head and body in one piece: most requests have no body, and one write is cheaper than a vectored one.
        let mut builder = http1::Builder::new();
        builder.writev(false);
        let (sender, connection) = builder.handshake(TokioIo::new(socket)).await?;
        Ok(Box::new(Self {
            sender,
            driver: Some(Box::pin(connection.with_upgrades())),
            bells: Bells::new(),
            alarm: Alarm::default(),
            slot,
        }))
    }

    /// Moves whatever can be moved.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.driver, cx);
    }

    /// Hands over a request, which goes out when its [`answer`](Self::answer) is waited for: at once.
    pub(super) fn begin(&mut self, request: Request<Body>) -> Sending {
        self.bells.hush();
        Box::pin(self.sender.try_send_request(request))
    }

    /// Waits for the head of a response: as long as the request's body still moves, and `waits.response` after that.
    pub(super) async fn answer(
        &mut self,
        sending: &mut Sending,
        progress: &Progress,
        waits: &Waits,
    ) -> Result<Response<Incoming>, Unanswered> {
        let (driver, bells) = (&mut self.driver, &mut self.bells);
        let poll = |cx: &mut Context<'_>| {
            bells.poll(cx, |cx| drive(driver, cx), |cx| sending.as_mut().poll(cx))
        };
        answer(poll, progress, waits, &mut self.alarm).await
    }

    /// The next piece of a response's body.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Incoming,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let come = self.bells.read(|cx| Pin::new(&mut *body).poll_frame(cx));
        if come.is_ready() {
            return come;
        }
        let driver = &mut self.driver;
        self.bells.poll(
            cx,
            |cx| drive(driver, cx),
            |cx| Pin::new(&mut *body).poll_frame(cx),
        )
    }

    /// Leaves the driving to a task.
    pub(super) fn detach(&mut self) {
        if let Some(driver) = self.driver.take() {
            tokio::task::spawn_local(async { note_end(driver.await) });
        }
    }

    /// Somebody waits for a connection to the same upstream, wherever.
    pub(super) fn is_wanted_elsewhere(&self) -> bool {
        self.slot.as_ref().is_some_and(Slot::is_wanted)
    }

    /// It would take another request right now.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until it would take another request, or has ended.
    pub(super) async fn ready(&mut self) {
        poll_fn(|cx| {
            self.drive(cx);
            self.sender.poll_ready(cx).map(drop)
        })
        .await;
    }
}

fn drive(driver: &mut Option<Driver>, cx: &mut Context<'_>) {
    if let Some(running) = driver
        && let Poll::Ready(ended) = running.as_mut().poll(cx)
    {
        *driver = None;
        note_end(ended);
    }
}

/// What becomes of a request that was handed over.
type Sent = Result<Response<Incoming>, TrySendError<Request<Body>>>;

/// A request that was handed over. In a box, since it has room for a request that could not be.
pub(super) type Sending = Pin<Box<dyn Future<Output = Sent>>>;

/// Waits for the head of a response: as long as the request's body still moves, and `waits.response` after that.
/// `poll` asks for it, and has the connection driven where nobody else does.
pub(super) async fn answer(
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<Sent>,
    progress: &Progress,
    waits: &Waits,
    alarm: &mut Alarm,
) -> Result<Response<Incoming>, Unanswered> {
    let mut moved = progress.bytes();
    let mut end = waits.end_of(waits.response);
    poll_fn(|cx| {
        if let Poll::Ready(sent) = poll(cx) {
            return Poll::Ready(sent.map_err(|error| Unanswered::Broken(Box::new(error))));
        }
        while alarm.poll_at(cx, end).is_ready() {
            if waits.are_over() || progress.bytes() == moved && !progress.is_waiting() {
                return Poll::Ready(Err(Unanswered::InTime));
            }
            moved = progress.bytes();
            end = waits.end_of(waits.response);
        }
        Poll::Pending
    })
    .await
}

pub(super) fn note_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        // The exchange that was on it has its own line; an idle connection that breaks harms nobody.
        tracing::debug!(%error, "upstream connection ended");
    }
}
