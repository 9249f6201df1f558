//! An upgraded connection: bytes both ways, until either side ends.

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::access::{Entry, Outcome};
use crate::body::Progress;
use crate::connection::Tracked;
use crate::failure::Side;

/// How long the other direction may go on after one side has ended. Short: a client that left and whose upstream
/// connection stays open can hold up what it was attached to, as a DevTools client does with its whole browser.
const LINGER: Duration = Duration::from_secs(1);

/// What is moved at once. One such buffer serves all tunnels of a worker, so an idle tunnel holds none.
const PIECE: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into());
}

/// The client's end of a connection that it wants to upgrade.
pub(crate) fn offered(request: &mut Request<Incoming>) -> Option<OnUpgrade> {
    request
        .headers()
        .contains_key(http::header::UPGRADE)
        .then(|| hyper::upgrade::on(request))
}

/// Moves bytes between the two ends until either has ended. The entry is logged at the end.
pub(crate) async fn run(client: OnUpgrade, upstream: OnUpgrade, mut entry: Box<Entry>) {
    // What stands in the log if the worker ends first.
    let cut = "the tunnel was cut off by a stop";
    entry.outcome = Outcome::Failed(Side::Host.as_str(), cut.into());
    let tunnelled = match tokio::try_join!(client, upstream) {
        Ok((client, upstream)) => splice(client, upstream, &entry.received, &entry.sent).await,
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
    received: &Progress,
    sent: &Progress,
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
    let up = async {
        received.add(early_up.len() as u64);
        write(&upstream, &early_up).await?;
        pump(&client, &upstream, received).await
    };
    let down = async {
        sent.add(early_down.len() as u64);
        write(&client, &early_down).await?;
        pump(&upstream, &client, sent).await
    };
    let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
    // The end of one direction is passed on; the other gets a moment to end by itself.
    let other = tokio::select! {
        ended = &mut up => { ended?; tokio::time::timeout(LINGER, down).await }
        ended = &mut down => { ended?; tokio::time::timeout(LINGER, up).await }
    };
    other.unwrap_or(Ok(()))
}

/// Moves bytes one way until the sender has ended, and passes the end on.
async fn pump(from: &End, to: &End, count: &Progress) -> Result<(), Broken> {
    loop {
        // Two quick peers would otherwise never let go of the worker.
        tokio::task::consume_budget().await;
        from.stream
            .readable()
            .await
            .map_err(|error| from.broke(error))?;
        match relay(from, to, count)? {
            Relayed::All => {}
            Relayed::Rest(rest) => write(to, &rest).await?,
            Relayed::End => {
                // The receiver may be gone already; then there is nobody to tell.
                if let Err(error) = SockRef::from(&to.stream).shutdown(Shutdown::Write) {
                    tracing::trace!(%error, "tunnel: the receiver was gone before the sender's end");
                }
                return Ok(());
            }
        }
    }
}

enum Relayed {
    All,
    /// What the receiver would not take yet.
    Rest(Vec<u8>),
    End,
}

fn relay(from: &End, to: &End, count: &Progress) -> Result<Relayed, Broken> {
    BUFFER.with_borrow_mut(|buffer| {
        let length = match from.stream.try_read(buffer) {
            Ok(0) => return Ok(Relayed::End),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Relayed::All),
            Err(error) => return Err(from.broke(error)),
        };
        count.add(length as u64);
        let piece = &buffer[..length];
        match to.stream.try_write(piece) {
            Ok(written) if written == length => Ok(Relayed::All),
            Ok(written) => Ok(Relayed::Rest(piece[written..].to_vec())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Ok(Relayed::Rest(piece.to_vec()))
            }
            Err(error) => Err(to.broke(error)),
        }
    })
}

async fn write(to: &End, mut bytes: &[u8]) -> Result<(), Broken> {
    while !bytes.is_empty() {
        to.stream
            .writable()
            .await
            .map_err(|error| to.broke(error))?;
        match to.stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(to.broke(error)),
        }
    }
    Ok(())
}
