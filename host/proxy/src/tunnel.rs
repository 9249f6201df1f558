//! An upgraded connection: bytes both ways, until either side ends.

use std::cell::{Cell, RefCell};
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
use crate::connection::Tracked;

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
    let (client, upstream) = match tokio::try_join!(client, upstream) {
        Ok(ends) => ends,
        Err(error) => {
            entry.outcome = Outcome::Failed(
                "client",
                format!("the upgrade was not completed: {error}").into(),
            );
            return;
        }
    };
    let received = entry.received.clone();
    let sent = Cell::new(0);
    let spliced = splice(client, upstream, &received, &sent).await;
    entry.sent = sent.get();
    entry.outcome = match spliced {
        Ok(()) => Outcome::Complete,
        Err(error) => Outcome::Failed("client", format!("the tunnel broke: {error}").into()),
    };
}

async fn splice(
    client: Upgraded,
    upstream: Upgraded,
    received: &Cell<u64>,
    sent: &Cell<u64>,
) -> io::Result<()> {
    let (Ok(client), Ok(upstream)) = (
        client.downcast::<TokioIo<Tracked>>(),
        upstream.downcast::<TokioIo<TcpStream>>(),
    ) else {
        return Err(io::Error::other("the connection is of an unexpected kind"));
    };
    let (client, early_up) = (client.io.into_inner().into_stream(), client.read_buf);
    let (upstream, early_down) = (upstream.io.into_inner(), upstream.read_buf);
    let up = async {
        received.set(received.get() + early_up.len() as u64);
        write(&upstream, &early_up).await?;
        pump(&client, &upstream, received).await
    };
    let down = async {
        sent.set(sent.get() + early_down.len() as u64);
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
async fn pump(from: &TcpStream, to: &TcpStream, count: &Cell<u64>) -> io::Result<()> {
    loop {
        from.readable().await?;
        match relay(from, to, count)? {
            Relayed::All => {}
            Relayed::Rest(rest) => write(to, &rest).await?,
            Relayed::End => {
                // The receiver may be gone already; then there is nobody to tell.
                if let Err(error) = SockRef::from(to).shutdown(Shutdown::Write) {
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

fn relay(from: &TcpStream, to: &TcpStream, count: &Cell<u64>) -> io::Result<Relayed> {
    BUFFER.with_borrow_mut(|buffer| {
        let length = match from.try_read(buffer) {
            Ok(0) => return Ok(Relayed::End),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Relayed::All),
            Err(error) => return Err(error),
        };
        count.set(count.get() + length as u64);
        let piece = &buffer[..length];
        match to.try_write(piece) {
            Ok(written) if written == length => Ok(Relayed::All),
            Ok(written) => Ok(Relayed::Rest(piece[written..].to_vec())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Ok(Relayed::Rest(piece.to_vec()))
            }
            Err(error) => Err(error),
        }
    })
}

async fn write(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
