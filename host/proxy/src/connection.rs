//! One client's connection: which protocol it speaks, and the timeouts that it is held to.

mod activity;
mod frames;
mod http1;
mod http2;
pub(crate) mod http2_head;
mod http2_stall;
mod linger;
mod open;
mod peek;
pub(crate) mod proxy_protocol;
mod secure;
mod socket;
mod stream;
pub(crate) mod websocket_key;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::coop::unconstrained;
use witgate_runtime::{PeerAddress, Scheme};

use crate::config::{ListenerLimits, Protocols};
use crate::listener::WorkerListener;
use crate::refusal::{Reason, Refusals};
use crate::seldom::Seldom;
use crate::tls::{Secured, Tls};
use crate::worker::Worker;

pub(crate) use activity::Busy;
use activity::{Activity, Overdue};
pub(crate) use http2_head::{asks_for_protocol, settle as settle_http2};
pub(crate) use open::{Connections, Place};
pub(crate) use socket::Socket;
pub(crate) use stream::{Stream, Tracked};

/// Whom a connection is with.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: PeerAddress,
    /// Its address without the port, as it is told to upstreams.
    pub(crate) forwarded_for: HeaderValue,
    /// What its TLS handshake told.
    pub(crate) tls: Option<Secured>,
}

impl Peer {
    pub(crate) fn new(address: impl Into<PeerAddress>) -> Self {
        let address = address.into();
        let text = address.client().to_string();
        let forwarded_for = HeaderValue::try_from(text).expect("an address is visible ASCII");
        Self {
            address,
            forwarded_for,
            tls: None,
        }
    }

    /// What it speaks to us by.
    pub(crate) fn scheme(&self) -> Scheme {
        match self.tls {
            Some(_) => Scheme::Https,
            None => Scheme::Http,
        }
    }
}

/// What the exchanges of a listener are served with: a generation, and what its configuration says of the listener.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) worker: Rc<Worker>,
    /// Index into the configuration's listeners.
    pub(crate) listener: usize,
    pub(crate) name: Arc<str>,
    pub(crate) limits: ListenerLimits,
    pub(crate) protocols: Protocols,
    tls: Option<Tls>,
    pub(crate) refusals: Arc<Refusals>,
    /// A load balancer says first whom it speaks for.
    proxy_protocol: bool,
}

impl Context {
    pub(crate) fn new(worker: Rc<Worker>, listener: usize) -> Self {
        let config = worker.listener(listener);
        Self {
            listener,
            name: config.name.clone(),
            limits: config.limits.clone(),
            protocols: config.protocols,
            tls: config.tls.clone(),
            refusals: worker.refusals(listener),
            proxy_protocol: config.proxy_protocol,
            worker,
        }
    }
}

/// A connection on whichever protocol.
struct Served {
    listener: Rc<WorkerListener>,
    peer: Rc<Peer>,
    /// One of the listener's `limits.connections`.
    permit: OwnedSemaphorePermit,
}

impl Served {
    /// Shows the connection to operators, as long as what this gives lives.
    fn begin(
        self,
        protocol: &'static str,
        activity: &Arc<Activity>,
    ) -> (Rc<WorkerListener>, Place) {
        let context = self.listener.context();
        let of = (context.name.clone(), self.peer.address);
        let connections = &context.worker.connections;
        let place = connections.begin(self.permit, of, protocol, activity.clone());
        (self.listener, place)
    }

    /// Those on heads and on idleness, for the whole connection.
    fn limits(&self) -> ListenerLimits {
        self.listener.context().limits.clone()
    }

    fn activity(&self, has_streams: bool) -> Arc<Activity> {
        let refusals = self.listener.context().refusals.clone();
        Arc::new(Activity::new(refusals, has_streams))
    }
}

/// Serves a connection to its end.
///
/// Each request is served by the generation that is current when it comes; the limits on heads and on idleness are
/// those of the connection's beginning, as are its protocols and its TLS.
pub(crate) async fn serve(
    listener: Rc<WorkerListener>,
    address: PeerAddress,
    socket: Socket,
    permit: OwnedSemaphorePermit,
) {
    let mut served = Served {
        listener,
        peer: Rc::new(Peer::new(address)),
        permit,
    };
    let (protocols, is_plain) = {
        let context = served.listener.context();
        let is_plain = context.tls.is_none() && !context.proxy_protocol;
        (context.protocols, is_plain)
    };
    let plain_http1 = is_plain && !protocols.http2;
    // What takes more is in a box, so that a plain connection of HTTP/1 has no room for it.
    let begun = match plain_http1 {
        true => Some((Stream::Plain(socket), false)),
        false => Box::pin(secure::begin(&mut served, protocols, socket)).await,
    };
    match begun {
        Some((stream, false)) => http1::serve(served, stream).await,
        Some((stream, true)) => Box::pin(http2::serve(served, stream)).await,
        None => {}
    }
}

/// How many more requests a connection may make.
struct KeepAlive(Cell<u64>);

impl KeepAlive {
    /// By `limits.requests`.
    fn new(most: Option<u64>) -> Self {
        Self(Cell::new(most.unwrap_or(u64::MAX)))
    }

    /// Counts a request: whether it is the last one.
    fn is_last(&self) -> bool {
        let left = self.0.get().saturating_sub(1);
        self.0.set(left);
        left == 0
    }
}

/// A connection of hyper's.
trait Driven: Future<Output = hyper::Result<()>> {
    /// One that is asked to end before its client has sent anything ends at once, and the request that is on its way is
    /// lost.
    const LOSES_FIRST: bool;

    /// Takes no further request, and ends when those under way have.
    fn graceful_shutdown(self: Pin<&mut Self>);
}

/// How long after its beginning a connection may have sent nothing when a stop is asked for. Its client has seen it
/// accepted, so a request is on its way.
const FIRST_REQUEST: Duration = Duration::from_secs(4);

/// What ends a connection's wait, but for bytes.
enum Event {
    Ended(hyper::Result<()>),
    /// The first bytes have come that were waited for.
    Begun,
    /// It is to take nothing more.
    Stop,
    Clock,
}

/// Drives a connection to its end, which `end` or a stop asks for, or which comes when its time is over.
async fn drive<C: Driven>(
    mut connection: Pin<&mut C>,
    activity: &Activity,
    limits: &ListenerLimits,
    listener: &WorkerListener,
    end: impl Future<Output = ()>,
) {
    let mut stop = listener.end_requested();
    let mut stop = std::pin::pin!(async {
        tokio::select! {
            () = stop.requested() => {}
            () = end => {}
        }
    });
    let mut asked = false;
    let mut stopping = false;
    // A client may stop to read at any time.
    let most = limits.header_timeout.min(limits.idle_timeout);
    let most = most.min(limits.body_timeout);
    let mut clock = std::pin::pin!(tokio::time::sleep(most));
    let mut seldom = Seldom::default();
    loop {
        let event = poll_fn(|cx| {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(Event::Ended(ended));
            }
            if asked && !stopping && activity.silent_since_begin().is_none() {
                return Poll::Ready(Event::Begun);
            }
            seldom.poll(cx, |cx| {
                if !asked && stop.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Stop);
                }
                // Also when this turn is spent on bytes that came.
                let clock = std::pin::pin!(unconstrained(clock.as_mut()));
                clock.poll(cx).map(|()| Event::Clock)
            })
        });
        let look_again = match event.await {
            Event::Ended(ended) => {
                if let Err(error) = ended {
                    if let Some(reason) = Reason::of_connection(&error) {
                        activity.refuse(reason);
                    }
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
            Event::Stop => {
                asked = true;
                let silent = activity.silent_since_begin().filter(|_| C::LOSES_FIRST);
                match silent.and_then(|silent| FIRST_REQUEST.checked_sub(silent)) {
                    Some(left) => left,
                    None => {
                        stopping = true;
                        connection.as_mut().graceful_shutdown();
                        // So long it may take to answer our goodbye, as one of HTTP/2 has to.
                        limits.header_timeout
                    }
                }
            }
            Event::Begun => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
                limits.header_timeout
            }
            Event::Clock if asked && !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
                limits.header_timeout
            }
            Event::Clock => match activity.overdue(limits, stopping) {
                Overdue::No { look_again } => look_again,
                Overdue::Idle if !stopping => {
                    asked = true;
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                    limits.header_timeout
                }
                // One of HTTP/2 that does not answer our goodbye.
                Overdue::Idle => return,
                Overdue::Head => {
                    activity.refuse(Reason::SlowHead);
                    tracing::debug!("connection closed: no whole request head in time");
                    return;
                }
                Overdue::Reader => {
                    activity.refuse(Reason::SlowReader);
                    tracing::debug!("connection closed: the client reads nothing");
                    return;
                }
            },
        };
        clock
            .as_mut()
            .reset(tokio::time::Instant::now() + look_again.min(limits.body_timeout));
    }
}
