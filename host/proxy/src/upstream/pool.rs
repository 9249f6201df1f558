//! A target on one worker: its unused connections, and what is under way to it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::connection::Connection;
use super::limits::Permit;
use super::shared::Shared;
use super::target::Target;
use crate::alarm::Alarm;

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
    /// Requests that would take a connection that another one gives back.
    pub(super) wanted: Cell<u32>,
    pub(super) returned: Notify,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
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
            wanted: Cell::new(0),
            returned: Notify::new(),
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

    /// Closes one connection that nobody uses. Whether there was one.
    pub(super) fn give_up_one(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        match idle.is_empty() {
            true => false,
            false => {
                idle.remove(0);
                true
            }
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

/// The use of a target, and of a connection to it, for one exchange. Dropped before the response's end, it closes the
/// connection.
#[derive(Debug)]
pub(crate) struct Lease {
    target: Rc<WorkerTarget>,
    connection: Option<Connection>,
    _request: Permit,
}

impl Lease {
    pub(super) fn new(target: Rc<WorkerTarget>, connection: Connection, request: Permit) -> Self {
        target.in_flight.set(target.in_flight.get() + 1);
        Self {
            target,
            connection: Some(connection),
            _request: request,
        }
    }

    pub(super) fn connection(&mut self) -> &mut Connection {
        self.connection
            .as_mut()
            .expect("only the end takes the connection, and that takes the lease")
    }

    /// Moves whatever can be moved, the body of the response first of all.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        self.connection().drive(cx);
    }

    /// The timer of the connection, for as long as its response is read.
    pub(crate) fn take_alarm(&mut self) -> Alarm {
        std::mem::take(&mut self.connection().alarm)
    }

    /// Gives the connection back: its response has been read to the end.
    pub(crate) fn release(mut self, alarm: Alarm) {
        let Some(mut connection) = self.connection.take() else {
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
