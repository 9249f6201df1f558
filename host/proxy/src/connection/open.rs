//! The connections that are open, for an operator who looks. A worker writes down its own when one begins and when it ends;
//! nothing is done about them in between.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use witgate_runtime::PeerAddress;

use super::activity::{Activity, State};

/// The open connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    /// By a number that grows, so that the oldest stand first. Locked by the worker for each connection twice.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    last: u64,
    list: BTreeMap<u64, Begun>,
}

#[derive(Debug)]
struct Begun {
    listener: Arc<str>,
    peer: PeerAddress,
    protocol: &'static str,
    at: Instant,
    activity: Arc<Activity>,
}

/// A connection as it is shown.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) listener: Arc<str>,
    pub(crate) peer: PeerAddress,
    pub(crate) protocol: &'static str,
    pub(crate) age: Duration,
    pub(crate) state: State,
}

/// What a connection holds as long as it is open, also when it is a tunnel by then.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    all: Arc<Connections>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.open().list.remove(&self.number);
    }
}

impl Connections {
    fn open(&self) -> MutexGuard<'_, Open> {
        // Each is put in and taken out as a whole.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection speaks HTTP from now on.
    pub(super) fn begin(
        self: &Arc<Self>,
        permit: OwnedSemaphorePermit,
        (listener, peer): (Arc<str>, PeerAddress),
        protocol: &'static str,
        activity: Arc<Activity>,
    ) -> Place {
        let mut open = self.open();
        open.last += 1;
        let number = open.last;
        let begun = Begun {
            listener,
            peer,
            protocol,
            at: Instant::now(),
            activity,
        };
        open.list.insert(number, begun);
        Place {
            _permit: permit,
            all: self.clone(),
            number,
        }
    }

    /// How many there are, and the oldest of them.
    pub(crate) fn oldest(&self, most: usize) -> (usize, Vec<Shown>) {
        let open = self.open();
        let shown = open.list.values().take(most).map(|begun| Shown {
            listener: begun.listener.clone(),
            peer: begun.peer,
            protocol: begun.protocol,
            age: begun.at.elapsed(),
            state: begun.activity.shown(),
        });
        (open.list.len(), shown.collect())
    }
}
