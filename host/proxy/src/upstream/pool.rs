//! A target on one worker: its unused connections, and what is under way to it.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use tokio::sync::{Mutex, Notify};

use super::connection::Connection;
use super::http2::{Multiplexed, Stream};
use super::limits::Permit;
use super::shared::Shared;
use super::target::Target;
use crate::alarm::Alarm;

/// Connections of HTTP/2 to one target, which allows so few streams on each that another one is opened.
const MOST_MULTIPLEXED: usize = 8;

/// A target on this worker.
#[derive(Debug)]
pub(super) struct WorkerTarget {
    pub(super) shared: Arc<Target>,
    pub(super) in_flight: Cell<u32>,
    /// Where it stands in the order by weight.
    pub(super) turn: Cell<i64>,
    idle: RefCell<Vec<Idle>>,
    most: usize,
    longest: Duration,
    /// Connections of HTTP/2.
    multiplexed: RefCell<Vec<Multiplexed>>,
    /// Held by who opens one, so that others wait for that.
    pub(super) opening: Mutex<()>,
    /// With `protocol = "auto"`: it was asked, and speaks HTTP/1.1 alone.
    pub(super) speaks_http1: Cell<bool>,
    /// Requests that would take a connection that another one gives back.
    pub(super) wanted: Cell<u32>,
    pub(super) returned: Notify,
}

#[derive(Debug)]
struct Idle {
    connection: Box<Connection>,
    since: Instant,
}

impl WorkerTarget {
    pub(super) fn new(shared: Arc<Target>, most: usize, longest: Duration) -> Self {
        Self {
            shared,
            in_flight: Cell::new(0),
            turn: Cell::new(0),
            idle: RefCell::default(),
            most,
            longest,
            multiplexed: RefCell::default(),
            opening: Mutex::default(),
            speaks_http1: Cell::new(false),
            wanted: Cell::new(0),
            returned: Notify::new(),
        }
    }

    /// The connection that was used last: the others can grow old and be closed.
    pub(super) fn take(&self) -> Option<Box<Connection>> {
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

    fn put(&self, connection: Box<Connection>) {
        let wanted = self.wanted.get() > 0;
        if !wanted && connection.is_wanted_elsewhere() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.most || wanted {
            idle.push(Idle {
                connection,
                since: Instant::now(),
            });
        }
        if wanted {
            self.returned.notify_one();
        }
    }

    /// A place on a connection of HTTP/2. `None` when one more may be opened.
    pub(super) fn stream(&self) -> Option<Stream> {
        let mut all = self.multiplexed.borrow_mut();
        all.retain(|connection| !connection.is_gone());
        let with_room = all.iter().find(|connection| connection.has_room());
        let found = with_room.or_else(|| {
            let all_full = all.len() >= MOST_MULTIPLEXED;
            all.iter()
                .filter(|_| all_full)
                .min_by_key(|connection| connection.streams())
        });
        found.map(Multiplexed::stream)
    }

    /// Keeps a new connection of HTTP/2, and gives the first place on it.
    pub(super) fn keep(&self, connection: Multiplexed) -> Stream {
        let stream = connection.stream();
        self.multiplexed.borrow_mut().push(connection);
        stream
    }

    /// Closes one connection that nobody uses. Whether there was one.
    pub(super) fn give_up_one(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        if !idle.is_empty() {
            idle.remove(0);
            return true;
        }
        let mut multiplexed = self.multiplexed.borrow_mut();
        let unused = multiplexed
            .iter()
            .position(|connection| connection.idle().is_some());
        unused.map(|at| multiplexed.remove(at)).is_some()
    }

    /// Closes connections that were unused for too long, and those that the other side has closed.
    pub(super) fn sweep(&self) {
        // Nobody waits for these; whoever takes one is woken from then on.
        let mut nobody = Context::from_waker(Waker::noop());
        self.idle.borrow_mut().retain_mut(|idle| {
            idle.connection.drive(&mut nobody);
            !idle.connection.is_closed() && idle.since.elapsed() < self.longest
        });
        // Dropping one ends it when its streams have ended.
        self.multiplexed.borrow_mut().retain(|connection| {
            !connection.is_gone() && connection.idle().is_none_or(|idle| idle < self.longest)
        });
    }
}

/// The use of a target, and of a connection to it, for one exchange. Dropped before the response's end, it closes the
/// connection.
#[derive(Debug)]
pub(crate) struct Lease {
    target: Rc<WorkerTarget>,
    used: Option<Used>,
    _request: Permit,
}

/// What an exchange has of a connection.
#[derive(Debug)]
pub(super) enum Used {
    /// All of it.
    Whole(Box<Connection>),
    Stream(Stream),
}

impl Lease {
    pub(super) fn new(target: Rc<WorkerTarget>, used: Used, request: Permit) -> Self {
        target.in_flight.set(target.in_flight.get() + 1);
        Self {
            target,
            used: Some(used),
            _request: request,
        }
    }

    pub(super) fn used(&mut self) -> &mut Used {
        self.used
            .as_mut()
            .expect("only the end takes it, and that takes the lease")
    }

    /// The next piece of the response's body.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Incoming,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        match self.used() {
            Used::Whole(connection) => connection.poll_frame(cx, body),
            Used::Stream(_) => Pin::new(body).poll_frame(cx),
        }
    }

    /// The timer of the connection, for as long as its response is read.
    pub(crate) fn take_alarm(&mut self) -> Alarm {
        match self.used() {
            Used::Whole(connection) => std::mem::take(&mut connection.alarm),
            Used::Stream(_) => Alarm::default(),
        }
    }

    /// Gives the connection back: its response has been read to the end.
    pub(crate) fn release(mut self, alarm: Alarm) {
        let Some(Used::Whole(mut connection)) = self.used.take() else {
            return;
        };
        connection.alarm = alarm;
        if connection.is_ready() {
            self.target.put(connection);
        } else if !connection.is_closed() {
            // The end of the response was seen before the end of the exchange.
            let target = self.target.clone();
            tokio::task::spawn_local(async move {
                connection.ready().await;
                if connection.is_ready() {
                    target.put(connection);
                }
            });
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let in_flight = &self.target.in_flight;
        in_flight.set(in_flight.get() - 1);
    }
}

/// An open connection's place among those of its upstream, where these are limited.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) upstream: Arc<Shared>,
    pub(super) _permit: tokio::sync::OwnedSemaphorePermit,
}

impl Slot {
    pub(super) fn is_wanted(&self) -> bool {
        let connections = self.upstream.limits.connections.as_ref();
        connections.is_some_and(|connections| connections.are_waited_for())
    }
}
