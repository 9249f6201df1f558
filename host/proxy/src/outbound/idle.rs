//! Connections that wait for the next request, on each worker its own.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use witgate_runtime::Origin;

use super::{Client, Connection};

/// How long one is kept. Servers close idle connections after 5 s to 75 s; this is for bursts, and a request that crosses
/// such a close is lost.
const LONGEST: Duration = Duration::from_secs(4);

/// To one origin: as many as a plugin may use at once by default.
const MOST_TO_ONE: usize = 16;

/// To all origins.
const MOST: usize = 128;

struct Idle {
    /// Another trusts others, and has to look at the server's certificate itself.
    client: Client,
    origin: Origin,
    connection: Connection,
    since: Instant,
}

thread_local! {
    /// The oldest first.
    static IDLE: RefCell<VecDeque<Idle>> = const { RefCell::new(VecDeque::new()) };
    /// Whether somebody closes those that nobody takes.
    static SWEPT: Cell<bool> = const { Cell::new(false) };
}

impl Idle {
    fn is_for(&self, client: &Client, origin: &Origin) -> bool {
        self.client == *client && self.origin == *origin
    }
}

/// The one of this client to this origin that was used last.
pub(super) fn take(client: &Client, origin: &Origin) -> Option<Connection> {
    IDLE.with_borrow_mut(|idle| {
        drop_old(idle);
        let at = idle.iter().rposition(|one| one.is_for(client, origin))?;
        idle.remove(at).map(|one| one.connection)
    })
}

/// Keeps one for later, in place of the oldest if there are too many.
pub(super) fn put(client: &Client, origin: &Origin, connection: Connection) {
    IDLE.with_borrow_mut(|idle| {
        drop_old(idle);
        let same = |one: &Idle| one.is_for(client, origin);
        if idle.iter().filter(|one| same(one)).count() >= MOST_TO_ONE {
            let oldest = idle.iter().position(same);
            drop(oldest.and_then(|at| idle.remove(at)));
        } else if idle.len() >= MOST {
            drop(idle.pop_front());
        }
        idle.push_back(Idle {
            client: client.clone(),
            origin: origin.clone(),
            connection,
            since: Instant::now(),
        });
    });
    if !SWEPT.replace(true) {
        tokio::spawn(sweep());
    }
}

/// Closes what nobody takes, for as long as there is any.
async fn sweep() {
    loop {
        tokio::time::sleep(LONGEST).await;
        let none_left = IDLE.with_borrow_mut(|idle| {
            drop_old(idle);
            idle.is_empty()
        });
        if none_left {
            SWEPT.set(false);
            return;
        }
    }
}

fn drop_old(idle: &mut VecDeque<Idle>) {
    while idle
        .front()
        .is_some_and(|one| one.since.elapsed() >= LONGEST)
    {
        drop(idle.pop_front());
    }
}
