//! A WebSocket whose client is asked from time to time whether it still lives.

use socket2::SockRef;

use super::frame::Malformed;
use super::liveness::Liveness;
use super::ping::{Gaps, Mark, Passed, PongFilter};
use super::splice::{Relayed, pass_end, relay, write};
use super::{Broken, End};
use crate::body::Progress;

/// How much the kernel may hold for the client beyond what is on its way. A ping goes behind it, and a slow client
/// has to take it all before it can answer; the default is megabytes.
const UNSENT: u32 = 128 * 1024;

/// Sets up the client's socket.
pub(super) fn prepare(client: &End) {
    // Beneath TLS or HTTP/2, where others share what is beneath, they wait as long as it takes.
    let Some(stream) = client.link.tcp() else {
        return;
    };
    if let Err(error) = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT) {
        tracing::debug!(%error, "tunnel: pings to a slow client may wait behind much else");
    }
}

/// From the client to the upstream, without the answers to our pings.
pub(super) async fn up(
    client: &End,
    upstream: &End,
    early: &[u8],
    count: &Progress,
    liveness: &Liveness,
    mark: Mark,
) -> Result<(), Broken> {
    let mut filter = PongFilter::new(mark);
    count.add(early.len() as u64);
    if !early.is_empty() {
        liveness.heard();
    }
    let early = match filter.pass(early).map_err(|why| client.sent(why))? {
        Passed::Whole => early.to_vec(),
        Passed::Instead(bytes) => bytes,
    };
    send_up(upstream, &early, liveness).await?;
    loop {
        // Two quick peers would otherwise never let go of the worker.
        tokio::task::consume_budget().await;
        client.readable().await?;
        let relayed = relay(client, count, |piece| {
            liveness.heard();
            let passed = filter.pass(piece).map_err(|why| client.sent(why))?;
            if filter.has_ponged() {
                liveness.answered();
            }
            match passed {
                Passed::Whole => upstream.try_send(piece),
                Passed::Instead(bytes) if bytes.is_empty() => Ok(Relayed::All),
                Passed::Instead(bytes) => Ok(Relayed::Rest(bytes)),
            }
        })?;
        match relayed {
            Relayed::All => {}
            Relayed::Rest(rest) => send_up(upstream, &rest, liveness).await?,
            Relayed::End => {
                send_up(upstream, &filter.finish(), liveness).await?;
                pass_end(upstream).await;
                return Ok(());
            }
        }
    }
}

pub(super) async fn send_up(
    upstream: &End,
    bytes: &[u8],
    liveness: &Liveness,
) -> Result<(), Broken> {
    if !bytes.is_empty() {
        liveness.up.wait();
        write(upstream, bytes, || liveness.up.moved()).await?;
        liveness.upstream_took_all();
    }
    Ok(())
}

/// From the upstream to the client, with our pings between the frames.
pub(super) async fn down(
    upstream: &End,
    client: &End,
    early: &[u8],
    count: &Progress,
    liveness: &Liveness,
    mark: Mark,
) -> Result<(), Broken> {
    let mut gaps = Gaps::new();
    count.add(early.len() as u64);
    let looked = gaps.look(early).map_err(|why| upstream.sent(why))?;
    send_down(client, early, looked.asks, liveness).await?;
    loop {
        // Two quick peers would otherwise never let go of the worker.
        tokio::task::consume_budget().await;
        tokio::select! {
            biased;
            () = liveness.ping_due(), if gaps.is_open() => {
                send_down(client, &mark.ping(), true, liveness).await?;
                continue;
            }
            // The Close asks for an answer too, and is the last that the client is sent.
            () = liveness.ping_due(), if gaps.is_closed() => {
                liveness.asked();
                continue;
            }
            readable = upstream.readable() => readable?,
        }
        let mut asks = false;
        let relayed = relay(upstream, count, |piece| {
            liveness.down.moved();
            let looked = gaps.look(piece).map_err(|why| upstream.sent(why))?;
            asks = looked.asks;
            match looked.gap.filter(|_| liveness.is_ping_due()) {
                None => client.try_send(piece),
                Some(gap) => {
                    asks = true;
                    let (before, after) = piece.split_at(gap);
                    Ok(Relayed::Rest([before, &mark.ping(), after].concat()))
                }
            }
        })?;
        match relayed {
            Relayed::All if asks => liveness.asked(),
            Relayed::All => {}
            Relayed::Rest(rest) => send_down(client, &rest, asks, liveness).await?,
            Relayed::End => {
                pass_end(client).await;
                return Ok(());
            }
        }
    }
}

/// `asks`: whether the bytes hold something that the client has to answer.
pub(super) async fn send_down(
    client: &End,
    bytes: &[u8],
    asks: bool,
    liveness: &Liveness,
) -> Result<(), Broken> {
    if !bytes.is_empty() {
        liveness.down.wait();
        write(client, bytes, || liveness.down.moved()).await?;
        liveness.client_took_all();
        if asks {
            liveness.asked();
        }
    }
    Ok(())
}

impl End {
    /// It sent what is no WebSocket.
    fn sent(&self, why: Malformed) -> Broken {
        Broken {
            side: self.side,
            reason: why.to_string(),
        }
    }
}
