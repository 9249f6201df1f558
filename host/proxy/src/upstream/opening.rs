//! How connections come to be, and who waits for one where their number is limited.

use std::rc::Weak;
use std::sync::Arc;
use std::time::Duration;

use http::Version;
use tokio::time::timeout_at;

use super::connection::Connection;
use super::http2::Multiplexed;
use super::limits::{self, Exhausted};
use super::pool::{Slot, Used, WorkerTarget};
use super::{Outgoing, WorkerUpstream};
use crate::failure::Failure;
use crate::metrics::Refused;

impl WorkerUpstream {
    /// A place on a new connection, or on one that somebody opened meanwhile. Whether it was there before.
    pub(super) async fn open_http2(
        &self,
        target: &WorkerTarget,
        outgoing: &Outgoing<'_>,
    ) -> Result<(Used, bool), Unconnected> {
        let limit = self.shared.config.connect_timeout;
        let turn = timeout_at(outgoing.waits.end_of(limit), target.opening.lock()).await;
        let Ok(_turn) = turn else {
            let name = &target.shared.name;
            let why = format!("{name}: no connection within {limit:?}");
            return Err(Unconnected::Failed(Failure::gateway_timeout(why)));
        };
        if let Some(stream) = target.stream() {
            return Ok((Used::Stream(stream), true));
        }
        match self.connect(target, outgoing, false).await? {
            Opened::Http1(connection) => {
                target.speaks_http1.set(true);
                Ok((Used::Whole(connection), false))
            }
            Opened::Http2(connection) => Ok((Used::Stream(target.keep(connection)), false)),
        }
    }

    /// A connection that nobody had, or one that came back while this waited for its turn.
    pub(super) async fn connect(
        &self,
        target: &WorkerTarget,
        outgoing: &Outgoing<'_>,
        http1_only: bool,
    ) -> Result<Opened, Unconnected> {
        let limit = self.shared.config.connect_timeout;
        let end = outgoing.waits.end_of(limit);
        let slot = match &self.shared.limits.connections {
            None => None,
            Some(limited) => match self.slot(limited, target, end).await? {
                Turn::Slot(slot) => Some(slot),
                Turn::Connection(connection) => return Ok(Opened::Http1(connection)),
            },
        };
        let name = &target.shared.name;
        let connecting = self.shared.connect(&target.shared, http1_only);
        let (socket, version) = match timeout_at(end, connecting).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(why)) => {
                let why = format!("{name}: {why}");
                return Err(Unconnected::Failed(Failure::bad_gateway(why)));
            }
            Err(_) => {
                let why = format!("{name}: no connection within {limit:?}");
                return Err(Unconnected::Failed(Failure::gateway_timeout(why)));
            }
        };
        let opened = match version {
            Version::HTTP_2 => Multiplexed::new(socket, slot).await.map(Opened::Http2),
            _ => Connection::new(socket, slot).await.map(Opened::Http1),
        };
        opened
            .map_err(|error| Unconnected::Failed(Failure::bad_gateway(format!("{name}: {error}"))))
    }

    /// Waits for one of the upstream's connections, where their number is limited.
    async fn slot(
        &self,
        limited: &limits::Connections,
        target: &WorkerTarget,
        end: tokio::time::Instant,
    ) -> Result<Turn, Unconnected> {
        let slot = |permit| {
            Turn::Slot(Slot {
                upstream: self.shared.clone(),
                _permit: permit,
            })
        };
        if let Ok(permit) = limited.permits.clone().try_acquire_owned() {
            return Ok(slot(permit));
        }
        let refused = |limit| Unconnected::Refused(self.refused(limit));
        let _waiting = limited
            .wait()
            .map_err(|Exhausted| refused(Refused::Pending))?;
        let _wanted = Wanted::new(target);
        let turn = async {
            let mut permit = std::pin::pin!(limited.permits.clone().acquire_owned());
            loop {
                tokio::select! {
                    Ok(permit) = &mut permit => return slot(permit),
                    () = target.returned.notified() => {
                        if let Some(connection) = target.take() {
                            return Turn::Connection(connection);
                        }
                    }
                }
            }
        };
        let turn = timeout_at(end, turn).await;
        turn.map_err(|_| refused(Refused::Connections))
    }
}

/// Closes an unused connection whenever a request on some worker waits for one, as long as a generation uses the
/// upstream. Only where connections are limited.
pub(crate) async fn yield_connections(upstream: Weak<WorkerUpstream>) {
    let shared = match upstream.upgrade() {
        Some(upstream) => Arc::downgrade(&upstream.shared),
        None => return,
    };
    loop {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let Some(limited) = &shared.limits.connections else {
            return;
        };
        let wanted = tokio::time::timeout(YIELD, limited.wanted.notified()).await;
        let Some(upstream) = upstream.upgrade() else {
            return;
        };
        if wanted.is_ok() || limited.are_waited_for() {
            upstream.targets().iter().any(|target| target.give_up_one());
        }
    }
}

/// How often it is looked whether the upstream is still used, and whether somebody waits who was not heard.
const YIELD: Duration = Duration::from_secs(1);

/// Why there is no connection.
pub(super) enum Unconnected {
    Failed(Failure),
    /// There are too many.
    Refused(Failure),
}

/// A new connection.
pub(super) enum Opened {
    Http1(Box<Connection>),
    Http2(Multiplexed),
}

enum Turn {
    Slot(Slot),
    Connection(Box<Connection>),
}

/// Would take a connection that comes back, as long as it exists.
struct Wanted<'a>(&'a WorkerTarget);

impl<'a> Wanted<'a> {
    fn new(target: &'a WorkerTarget) -> Self {
        target.wanted.set(target.wanted.get() + 1);
        Self(target)
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.wanted.set(self.0.wanted.get() - 1);
    }
}
