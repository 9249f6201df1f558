//! One connection to an endpoint, and those that wait for their next exchange.
//!
//! A connection is driven by whoever has it: by the exchange that waits for a response, then by whoever reads the
//! response's body. That takes no task of its own, and no wake-up between two tasks on the way of each piece. While
//! nobody has it, it stands still; that the other side has closed it shows when it is taken, before anything is sent.
//! A connection whose response comes before its request has gone out is driven by a task, so that neither direction
//! waits for the other.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::Socket;
use crate::alarm::Alarm;
use crate::body::{Body, Progress};

/// Of a type that hyper does not name.
type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>>>>;

pub(super) struct Connection {
    sender: SendRequest<Body>,
    /// `None` once the connection has ended, or a task drives it.
    driver: Option<Driver>,
    pub(super) alarm: Alarm,
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
    pub(super) async fn new(socket: Socket) -> hyper::Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        Ok(Self {
            sender,
            driver: Some(Box::pin(connection.with_upgrades())),
            alarm: Alarm::default(),
        })
    }

    /// Moves whatever can be moved.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && let Poll::Ready(ended) = driver.as_mut().poll(cx)
        {
            self.driver = None;
            note_end(ended);
        }
    }

    /// Sends a request and waits for the head of its response: as long as the request's body still moves, and `limit`
    /// after that.
    pub(super) async fn send(
        &mut self,
        request: Request<Body>,
        progress: &Progress,
        limit: Duration,
    ) -> Result<Response<Incoming>, Unanswered> {
        let mut moved = progress.bytes();
        let mut end = tokio::time::Instant::now() + limit;
        let mut sending = std::pin::pin!(self.sender.try_send_request(request));
        poll_fn(|cx| {
            self.drive(cx);
            if let Poll::Ready(sent) = sending.as_mut().poll(cx) {
                return Poll::Ready(sent.map_err(|error| Unanswered::Broken(Box::new(error))));
            }
            while self.alarm.poll_at(cx, end).is_ready() {
                if progress.bytes() == moved && !progress.is_waiting() {
                    return Poll::Ready(Err(Unanswered::InTime));
                }
                moved = progress.bytes();
                end = tokio::time::Instant::now() + limit;
            }
            Poll::Pending
        })
        .await
    }

    /// Leaves the driving to a task.
    pub(super) fn detach(&mut self) {
        if let Some(driver) = self.driver.take() {
            tokio::task::spawn_local(async { note_end(driver.await) });
        }
    }

    /// It would take another request right now.
    fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until it would take another request, or has ended.
    async fn ready(&mut self) {
        poll_fn(|cx| {
            self.drive(cx);
            self.sender.poll_ready(cx).map(drop)
        })
        .await;
    }
}

fn note_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        // The exchange that was on it has its own line; an idle connection that breaks harms nobody.
        tracing::debug!(%error, "upstream connection ended");
    }
}

/// Unused connections to one endpoint.
#[derive(Debug)]
pub(super) struct Pool {
    idle: RefCell<Vec<Idle>>,
    most: usize,
    longest: Duration,
    /// `host:port`.
    pub(super) name: Arc<str>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    pub(super) fn new(name: Arc<str>, most: usize, longest: Duration) -> Self {
        let idle = RefCell::default();
        Self {
            idle,
            most,
            longest,
            name,
        }
    }

    /// The connection that was used last: the others can grow old and be closed.
    pub(super) fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(last) = idle.pop() {
            // Those below are older still, or not ready; the sweep closes them.
            if last.since.elapsed() >= self.longest {
                return None;
            }
            if last.connection.is_ready() {
                return Some(last.connection);
            }
        }
        None
    }

    fn put(&self, connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.most {
            idle.push(Idle {
                connection,
                since: Instant::now(),
            });
        }
    }

    /// Closes connections that were unused for too long, and those that the other side has closed.
    pub(super) fn sweep(&self) {
        // Nobody waits for these; whoever takes one is woken from then on.
        let mut nobody = Context::from_waker(Waker::noop());
        self.idle.borrow_mut().retain_mut(|idle| {
            idle.connection.drive(&mut nobody);
            !idle.connection.is_closed() && idle.since.elapsed() < self.longest
        });
    }
}

/// The use of a connection for one exchange. Dropped before the response's end, it closes the connection.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(super) pool: Rc<Pool>,
    pub(super) connection: Connection,
}

impl Lease {
    /// Moves whatever can be moved, the body of the response first of all.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        self.connection.drive(cx);
    }

    /// The timer of the connection, for as long as its response is read.
    pub(crate) fn take_alarm(&mut self) -> Alarm {
        std::mem::take(&mut self.connection.alarm)
    }

    /// Gives the connection back: its response has been read to the end.
    pub(crate) fn release(mut self, alarm: Alarm) {
        self.connection.alarm = alarm;
        if self.connection.is_ready() {
            self.pool.put(self.connection);
        } else if !self.connection.is_closed() {
            // The end of the response was seen before the end of the exchange.
            tokio::task::spawn_local(async move {
                self.connection.ready().await;
                if self.connection.is_ready() {
                    self.pool.put(self.connection);
                }
            });
        }
    }
}
