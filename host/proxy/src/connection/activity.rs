//! What a connection is doing, and since when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::config::ListenerLimits;
use crate::framing::Asked;
use crate::refusal::{Reason, Refusals};

/// What a connection is doing, and since when. Shared with its exchanges, which may end on their own. Only one thread
/// ever writes to it; the atomics are there because hyper wants a connection to be `Send`.
#[derive(Debug)]
pub(crate) struct Activity {
    base: Instant,
    /// Milliseconds since `base`, shifted left by two, and a state in the low bits.
    state: AtomicU64,
    /// Exchanges under way.
    open: AtomicUsize,
    /// Of these, tunnels.
    tunnels: AtomicUsize,
    /// Of HTTP/2: milliseconds since `base`, and one more, at which a head began that is not whole; 0 without one.
    partial_head: AtomicU64,
    /// Milliseconds since `base`, and one more, at which the client began to read nothing; 0 while it reads.
    write_blocked: AtomicU64,
    /// Where a request for another protocol stands.
    protocol: AtomicU8,
    /// HTTP/2.
    has_streams: bool,
    /// Of the listener.
    refusals: Arc<Refusals>,
    /// Something was refused that ends the connection: what comes of it is no further refusal.
    is_refused: AtomicBool,
    /// Whether the client has sent anything.
    spoke: AtomicBool,
}

/// An exchange under way. Dropped, it has ended.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Activity>);

impl Busy {
    /// The exchange failed by what its client did, which in HTTP/1 ends the connection.
    pub(crate) fn refused(&self, reason: Reason) {
        match self.0.has_streams {
            true => self.0.refusals.count(reason),
            false => self.0.refuse(reason),
        }
    }

    /// The exchange has become a tunnel, or a tunnel ends.
    pub(crate) fn set_tunnel(&self, is_tunnel: bool) {
        let tunnels = self.0.tunnels.load(Ordering::Relaxed);
        let now = match is_tunnel {
            true => tunnels + 1,
            false => tunnels.saturating_sub(1),
        };
        self.0.tunnels.store(now, Ordering::Relaxed);
    }
}

/// What a connection is shown to be doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    /// Nothing is under way, and nothing is read.
    pub(crate) is_idle: bool,
    /// Exchanges under way, tunnels included.
    pub(crate) exchanges: usize,
    pub(crate) tunnels: usize,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.exchange_ended();
    }
}

/// None was asked for, or none that was granted: HTTP goes on.
const PROTOCOL_REFUSED: u8 = 0;
/// Asked for, and nothing came behind the request.
const PROTOCOL_ASKED: u8 = 1;
/// Asked for, and the client went on sending.
const PROTOCOL_SENT: u8 = 2;

/// Part of a request's head has come, or the connection is new.
const HEAD: u64 = 0;
/// An exchange is under way.
const BUSY: u64 = 1;
/// Kept alive, waiting for the next request.
const IDLE: u64 = 2;

/// Whether a connection's time for what it does is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    No {
        look_again: Duration,
    },
    /// No request for too long.
    Idle,
    /// A head that does not come to its end.
    Head,
    /// A client that reads nothing of what it asked for.
    Reader,
}

impl Activity {
    pub(super) fn new(refusals: Arc<Refusals>, has_streams: bool) -> Self {
        Self {
            base: Instant::now(),
            state: AtomicU64::new(HEAD),
            open: AtomicUsize::new(0),
            tunnels: AtomicUsize::new(0),
            partial_head: AtomicU64::new(0),
            write_blocked: AtomicU64::new(0),
            protocol: AtomicU8::new(PROTOCOL_REFUSED),
            has_streams,
            refusals,
            is_refused: AtomicBool::new(false),
            spoke: AtomicBool::new(false),
        }
    }

    /// Counts what ends the connection, once.
    pub(super) fn refuse(&self, reason: Reason) {
        if !self.is_refused.swap(true, Ordering::Relaxed) {
            self.refusals.count(reason);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX >> 2)
    }

    fn set(&self, state: u64) {
        self.state.store(self.now() << 2 | state, Ordering::Relaxed);
    }

    /// For another thread, which may see these a moment apart.
    pub(super) fn shown(&self) -> State {
        State {
            is_idle: self.state.load(Ordering::Relaxed) & 3 == IDLE,
            exchanges: self.open.load(Ordering::Relaxed),
            tunnels: self.tunnels.load(Ordering::Relaxed),
        }
    }

    /// An exchange begins.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        // One thread writes, so that no locked instruction is needed.
        let open = self.open.load(Ordering::Relaxed);
        self.open.store(open + 1, Ordering::Relaxed);
        // Nothing is overdue during an exchange, so its time does not matter.
        self.state.store(BUSY, Ordering::Relaxed);
        Busy(self.clone())
    }

    fn exchange_ended(&self) {
        let open = self.open.load(Ordering::Relaxed) - 1;
        self.open.store(open, Ordering::Relaxed);
        if open == 0 {
            self.set(IDLE);
        }
    }

    /// Bytes of HTTP/1 came.
    pub(super) fn bytes_came(&self) {
        self.spoke.store(true, Ordering::Relaxed);
        if self.state.load(Ordering::Relaxed) & 3 == IDLE {
            self.set(HEAD);
        }
    }

    /// The age of a connection of HTTP/1 whose client has sent nothing.
    pub(super) fn silent_since_begin(&self) -> Option<Duration> {
        let spoke = self.spoke.load(Ordering::Relaxed);
        (!spoke).then(|| self.base.elapsed())
    }

    /// The client of HTTP/2 has said who it is, so that it waits for nothing but its own next request.
    pub(super) fn settled(&self) {
        if self.state.load(Ordering::Relaxed) & 3 == HEAD {
            self.set(IDLE);
        }
    }

    /// Whether a head of HTTP/2 has begun and is not whole.
    pub(super) fn set_partial_head(&self, is_partial: bool) {
        self.set_since(&self.partial_head, is_partial);
    }

    /// Whether bytes wait that the client does not take.
    pub(super) fn set_write_blocked(&self, is_blocked: bool) {
        self.set_since(&self.write_blocked, is_blocked);
    }

    fn set_since(&self, since: &AtomicU64, is: bool) {
        let was = since.load(Ordering::Relaxed) != 0;
        if is != was {
            let now = if is { self.now() + 1 } else { 0 };
            since.store(now, Ordering::Relaxed);
        }
    }

    pub(super) fn protocol_asked(&self, asked: Asked) {
        let protocol = if asked.more {
            PROTOCOL_SENT
        } else {
            PROTOCOL_ASKED
        };
        self.protocol.store(protocol, Ordering::Relaxed);
    }

    pub(super) fn protocol_is_refused(&self) -> bool {
        self.protocol.load(Ordering::Relaxed) == PROTOCOL_REFUSED
    }

    /// What comes from now on is HTTP. Whether the client has sent of the other protocol already.
    pub(super) fn refuse_protocol(&self) -> bool {
        self.protocol.swap(PROTOCOL_REFUSED, Ordering::Relaxed) == PROTOCOL_SENT
    }

    /// `stopping`: no further request is wanted.
    pub(super) fn overdue(&self, limits: &ListenerLimits, stopping: bool) -> Overdue {
        let elapsed = self.base.elapsed();
        let left = |since: u64, limit: Duration| {
            let since = elapsed.saturating_sub(Duration::from_millis(since));
            limit.checked_sub(since).filter(|left| !left.is_zero())
        };
        // The state may change any moment, and is to be looked at in time.
        let soonest = limits.header_timeout.min(limits.idle_timeout);
        let no = |left: Duration| Overdue::No {
            look_again: left.min(soonest),
        };
        let head = |since| left(since, limits.header_timeout).map_or(Overdue::Head, no);
        if let Some(since) = self.partial_head.load(Ordering::Relaxed).checked_sub(1) {
            return head(since);
        }
        if let Some(since) = self.write_blocked.load(Ordering::Relaxed).checked_sub(1) {
            return left(since, limits.body_timeout)
                .map_or(Overdue::Reader, |look_again| Overdue::No { look_again });
        }
        let idle = match stopping {
            true => limits.idle_timeout.min(limits.header_timeout),
            false => limits.idle_timeout,
        };
        let state = self.state.load(Ordering::Relaxed);
        match state & 3 {
            HEAD => head(state >> 2),
            IDLE => left(state >> 2, idle).map_or(Overdue::Idle, no),
            _ => no(soonest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> ListenerLimits {
        ListenerLimits {
            header_timeout: Duration::ZERO,
            idle_timeout: Duration::ZERO,
            ..ListenerLimits::default()
        }
    }

    #[test]
    fn nothing_is_overdue_until_the_last_of_several_exchanges_has_ended() {
        let activity = Arc::new(Activity::new(Arc::default(), true));
        assert_eq!(activity.overdue(&limits(), false), Overdue::Head);
        let (first, second) = (activity.begin(), activity.begin());
        drop(first);
        let look_again = Duration::ZERO;
        assert_eq!(
            activity.overdue(&limits(), false),
            Overdue::No { look_again }
        );
        drop(second);
        assert_eq!(activity.overdue(&limits(), false), Overdue::Idle);
    }

    #[test]
    fn a_head_of_http2_that_stops_is_overdue_also_while_exchanges_are_under_way() {
        let activity = Arc::new(Activity::new(Arc::default(), true));
        let _busy = activity.begin();
        activity.set_partial_head(true);
        assert_eq!(activity.overdue(&limits(), false), Overdue::Head);
        activity.set_partial_head(false);
        let look_again = Duration::ZERO;
        assert_eq!(
            activity.overdue(&limits(), false),
            Overdue::No { look_again }
        );
    }
}
