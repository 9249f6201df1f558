//! An upgraded connection: bytes both ways, until either side ends.
//!
//! Where the route says so, the frames of a WebSocket are followed on their way, and its client is pinged; see
//! [`liveness`]. Where plugins look at its messages, these are taken out and put together anew; see [`inspect`].
//! Otherwise bytes are bytes.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use crate::access::{Entry, Outcome};
use crate::body::Progress;
use crate::config::Websocket;
use crate::connection::{Place, Socket, Stream, Tracked, asks_for_protocol};
use crate::failure::Side;
use crate::messages::MessageChain;
use crate::upgrade_limits::Permit;
use crate::upstream;
use link::{Link, Other};

mod compose;
mod follow;
mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;
mod inspect;
mod join;
mod link;
mod liveness;
mod outbox;
mod ping;
mod splice;
mod watched;

/// How long the other direction may go on after one side has ended. Short: a client that left and whose upstream
/// connection stays open can hold up what it was attached to, as a DevTools client does with its whole browser.
const LINGER: Duration = Duration::from_secs(1);

/// An upgrade that the upstream granted. Travels with the response that says so.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    pub(crate) upstream: OnUpgrade,
    /// Counted as long as this, or the tunnel that it becomes, exists.
    pub(crate) permit: Arc<Permit>,
    /// The protocol is WebSocket.
    pub(crate) is_websocket: bool,
    /// Set when it is and the route has its client pinged.
    pub(crate) websocket: Option<Websocket>,
}

/// The client's end of a connection, or of a stream of HTTP/2, that it wants to upgrade.
pub(crate) fn offered(request: &mut Request<Incoming>) -> Option<OnUpgrade> {
    let is_offered =
        request.headers().contains_key(http::header::UPGRADE) || is_stream_offered(request);
    is_offered.then(|| hyper::upgrade::on(request))
}

/// Whether it is a stream of HTTP/2 (RFC 8441).
pub(crate) fn is_stream_offered(request: &Request<Incoming>) -> bool {
    let (version, method) = (request.version(), request.method());
    asks_for_protocol(version, method, request.extensions())
}

/// Moves bytes between the two ends until either has ended. The entry is logged at the end.
pub(crate) async fn run(
    client: OnUpgrade,
    granted: Granted,
    messages: MessageChain,
    mut entry: Box<Entry>,
) {
    let Granted {
        upstream,
        permit: _given_back_at_the_end,
        is_websocket: _,
        websocket,
    } = granted;
    // What stands in the log if the worker ends first.
    let cut = "the tunnel was cut off by a stop";
    entry.outcome = Outcome::Failed(Side::Host.as_str(), cut.into());
    let tunnelled = match tokio::try_join!(client, upstream) {
        Ok((client, upstream)) => {
            let (ends, early) = Ends::of(client, upstream);
            entry.log_upgrade();
            let counts = [&*entry.received, &entry.sent];
            relay(ends, early, counts, messages, websocket).await
        }
        Err(error) => Err(Broken {
            side: Side::Client,
            reason: error.to_string(),
        }),
    };
    entry.outcome = match tunnelled {
        Ok(()) => Outcome::Complete,
        Err(Broken { side, reason }) => {
            Outcome::Failed(side.as_str(), format!("the tunnel broke: {reason}").into())
        }
    };
}

/// Why a tunnel ended otherwise than by an end of either side.
#[derive(Debug)]
struct Broken {
    side: Side,
    reason: String,
}

/// One of the two sockets.
struct End {
    side: Side,
    link: Link,
}

impl End {
    fn broke(&self, error: io::Error) -> Broken {
        Broken {
            side: self.side,
            reason: error.to_string(),
        }
    }
}

/// Both sockets, and the client's place among the connections of its listener.
struct Ends {
    client: End,
    upstream: End,
    /// A stream of HTTP/2 has none of its own.
    _held_to_the_end: Option<Place>,
}

/// What had been read of what follows the heads: from the client, from the upstream.
type Early = [Bytes; 2];

impl Ends {
    fn of(client: Upgraded, upstream: Upgraded) -> (Self, Early) {
        let (client, early_up, permit) = match client.downcast::<TokioIo<Tracked>>() {
            Ok(parts) => {
                let (stream, permit) = parts.io.into_inner().into_parts();
                let link = match stream {
                    Stream::Plain(Socket::Tcp(stream)) => Link::Tcp(stream),
                    other => Link::Other(Other::new(other)),
                };
                (link, parts.read_buf, Some(permit))
            }
            Err(stream) => (other(stream), Bytes::new(), None),
        };
        let (upstream, early_down) = match upstream.downcast::<TokioIo<upstream::Socket>>() {
            Ok(parts) => {
                let link = match parts.io.into_inner() {
                    upstream::Socket::Tcp(stream) => Link::Tcp(stream),
                    other => Link::Other(Other::new(other)),
                };
                (link, parts.read_buf)
            }
            Err(stream) => (other(stream), Bytes::new()),
        };
        let ends = Self {
            client: End {
                side: Side::Client,
                link: client,
            },
            upstream: End {
                side: Side::Upstream,
                link: upstream,
            },
            _held_to_the_end: permit,
        };
        // Copied, since each is a part of the buffer that its head was read into, which would stay as long as the tunnel.
        let early = [early_up, early_down].map(|b| Bytes::copy_from_slice(&b));
        (ends, early)
    }
}

/// Its early bytes come out of it first.
fn other(stream: Upgraded) -> Link {
    Link::Other(Other::new(TokioIo::new(stream)))
}

type Relay<'a> = Pin<Box<dyn Future<Output = Result<(), Broken>> + 'a>>;

/// Each kind of tunnel in a box of its own, so that one which only moves bytes takes no room for the others: it may be
/// idle for days.
fn relay<'a>(
    ends: Ends,
    early: Early,
    counts: [&'a Progress; 2],
    messages: MessageChain,
    websocket: Option<Websocket>,
) -> Relay<'a> {
    match websocket {
        _ if !messages.is_empty() => Box::pin(async move {
            let Ends {
                client,
                upstream,
                _held_to_the_end,
            } = ends;
            let early = [&*early[0], &*early[1]];
            inspect::run([client, upstream], early, counts, messages, websocket).await
        }),
        Some(limits) => Box::pin(watch(ends, early, counts, limits)),
        None => Box::pin(move_bytes(ends, early, counts)),
    }
}

async fn watch(
    ends: Ends,
    [early_up, early_down]: Early,
    [received, sent]: [&Progress; 2],
    limits: Websocket,
) -> Result<(), Broken> {
    let (client, upstream) = (&ends.client, &ends.upstream);
    watched::prepare(client);
    let (liveness, mark) = (liveness::Liveness::new(limits), ping::Mark::random());
    let places = watched::Places::default();
    let up = pin!(watched::up(
        client, upstream, &early_up, received, &liveness, mark, &places
    ));
    let down = pin!(watched::down(
        upstream,
        client,
        &early_down,
        sent,
        &liveness,
        mark,
        &places
    ));
    let ended = tokio::select! {
        // The watch comes last, so that what has arrived by now is heard before anybody is judged.
        biased;
        ended = both_ways(up, down) => ended,
        () = places.end_in_time() => Ok(()),
        broken = liveness.watch() => Err(broken),
    };
    match places.told(&ends).await {
        Some(fault) => Err(fault),
        None => ended,
    }
}

async fn move_bytes(
    ends: Ends,
    [early_up, early_down]: Early,
    [received, sent]: [&Progress; 2],
) -> Result<(), Broken> {
    let (client, upstream) = (&ends.client, &ends.upstream);
    let up = pin!(splice::one_way(client, upstream, early_up, received));
    let down = pin!(splice::one_way(upstream, client, early_down, sent));
    both_ways(up, down).await
}

/// Runs both directions. The end of one is passed on; the other gets a moment to end by itself. They are pinned by
/// whoever has them: in here each would be kept twice, for as long as the tunnel is there.
async fn both_ways(
    mut up: Pin<&mut impl Future<Output = Result<(), Broken>>>,
    mut down: Pin<&mut impl Future<Output = Result<(), Broken>>>,
) -> Result<(), Broken> {
    let other = tokio::select! {
        biased;
        ended = &mut up => { ended?; tokio::time::timeout(LINGER, down).await }
        ended = &mut down => { ended?; tokio::time::timeout(LINGER, up).await }
    };
    other.unwrap_or(Ok(()))
}
