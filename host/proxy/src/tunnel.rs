//! An upgraded connection: bytes both ways, until either side ends.
//!
//! Where the route says so, the frames of a WebSocket are followed on their way, and its client is pinged; see
//! [`liveness`]. Where plugins look at its messages, these are taken out and put together anew; see [`inspect`].
//! Otherwise bytes are bytes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::access::{Entry, Outcome};
use crate::body::Progress;
use crate::config::Websocket;
use crate::connection::Tracked;
use crate::failure::Side;
use crate::messages::MessageChain;
use crate::upgrade_limits::Permit;

mod compose;
mod follow;
mod frame;
mod inspect;
mod join;
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

/// The client's end of a connection that it wants to upgrade.
pub(crate) fn offered(request: &mut Request<Incoming>) -> Option<OnUpgrade> {
    request
        .headers()
        .contains_key(http::header::UPGRADE)
        .then(|| hyper::upgrade::on(request))
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
            entry.log_upgrade();
            let counts = [&*entry.received, &entry.sent];
            splice(client, upstream, counts, messages, websocket).await
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
    stream: TcpStream,
}

impl End {
    fn broke(&self, error: io::Error) -> Broken {
        Broken {
            side: self.side,
            reason: error.to_string(),
        }
    }
}

async fn splice(
    client: Upgraded,
    upstream: Upgraded,
    [received, sent]: [&Progress; 2],
    messages: MessageChain,
    websocket: Option<Websocket>,
) -> Result<(), Broken> {
    let (Ok(client), Ok(upstream)) = (
        client.downcast::<TokioIo<Tracked>>(),
        upstream.downcast::<TokioIo<TcpStream>>(),
    ) else {
        let reason = "the connection is of an unexpected kind".into();
        return Err(Broken {
            side: Side::Host,
            reason,
        });
    };
    let (early_up, early_down) = (client.read_buf, upstream.read_buf);
    let (stream, _held_to_the_end) = client.io.into_inner().into_parts();
    let client = End {
        side: Side::Client,
        stream,
    };
    let upstream = End {
        side: Side::Upstream,
        stream: upstream.io.into_inner(),
    };
    if !messages.is_empty() {
        let (ends, early) = ([client, upstream], [&*early_up, &*early_down]);
        return inspect::run(ends, early, [received, sent], messages, websocket).await;
    }
    if let Some(limits) = websocket {
        watched::prepare(&client);
        let (liveness, mark) = (liveness::Liveness::new(limits), ping::Mark::random());
        let up = watched::up(&client, &upstream, &early_up, received, &liveness, mark);
        let down = watched::down(&upstream, &client, &early_down, sent, &liveness, mark);
        return tokio::select! {
            // The watch comes last, so that what has arrived by now is heard before anybody is judged.
            biased;
            ended = both_ways(up, down) => ended,
            broken = liveness.watch() => Err(broken),
        };
    }
    let up = async {
        received.add(early_up.len() as u64);
        splice::write(&upstream, &early_up, || {}).await?;
        splice::pump(&client, &upstream, received).await
    };
    let down = async {
        sent.add(early_down.len() as u64);
        splice::write(&client, &early_down, || {}).await?;
        splice::pump(&upstream, &client, sent).await
    };
    both_ways(up, down).await
}

/// Runs both directions. The end of one is passed on; the other gets a moment to end by itself.
async fn both_ways(
    up: impl Future<Output = Result<(), Broken>>,
    down: impl Future<Output = Result<(), Broken>>,
) -> Result<(), Broken> {
    let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
    let other = tokio::select! {
        biased;
        ended = &mut up => { ended?; tokio::time::timeout(LINGER, down).await }
        ended = &mut down => { ended?; tokio::time::timeout(LINGER, up).await }
    };
    other.unwrap_or(Ok(()))
}
