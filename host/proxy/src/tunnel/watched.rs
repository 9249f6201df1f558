//! A WebSocket whose client is asked from time to time whether it still lives.

use std::cell::{Cell, RefCell};

use socket2::SockRef;
use tokio::sync::Notify;
use tokio::time::timeout;
use witgate_runtime::Close;

use super::compose::Composer;
use super::frame::{Malformed, Sender};
use super::liveness::Liveness;
use super::ping::{Gaps, Mark, Passed, PongFilter, Sound};
use super::splice::{Relayed, pass_end, relay, write};
use super::{Broken, End, Ends, LINGER};
use crate::body::Progress;
use crate::failure::Side;

/// How much the kernel may hold for the client beyond what is on its way. A ping goes behind it, and a slow client
/// has to take it all before it can answer; the default is megabytes.
const UNSENT: u32 = 128 * 1024;

/// What ends a tunnel when an end has sent what is no frame, and where a Close may then stand.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// What went upstream ended with a whole frame, and no Close.
    up: Cell<bool>,
    /// What went to the client did.
    down: Cell<bool>,
    fault: RefCell<Option<Broken>>,
    faulty: Notify,
}

impl Places {
    /// One end has sent what is no frame. The other gets what stood before that, and a Close. What it answers goes on, and
    /// what else the faulty end sends is read, so that its socket is not reset before it has read its own Close.
    async fn refuse(
        &self,
        from: &End,
        to: &End,
        why: Malformed,
        sound: &Sound,
        count: &Progress,
    ) -> Result<(), Broken> {
        *self.fault.borrow_mut() = Some(Broken {
            side: from.side,
            reason: why.to_string(),
        });
        self.faulty.notify_one();
        self.place(to).set(false);
        let mut bytes = sound.bytes.clone();
        if sound.is_open {
            bytes.extend(protocol_error(to));
        }
        write(to, &bytes, || {}).await?;
        discard(from, count).await
    }

    /// The one who sends to this end has ended. After a fault, it has not heard why unless by a Close.
    async fn end(&self, to: &End, is_open: bool) -> Result<(), Broken> {
        self.place(to).set(false);
        if is_open && self.has_fault() {
            write(to, &protocol_error(to), || {}).await?;
        }
        pass_end(to).await;
        Ok(())
    }

    fn has_fault(&self) -> bool {
        self.fault.borrow().is_some()
    }

    fn place(&self, to: &End) -> &Cell<bool> {
        match to.side {
            Side::Client => &self.down,
            _ => &self.up,
        }
    }

    /// Once there is a fault, gives both ends a moment to answer the Close.
    pub(super) async fn end_in_time(&self) {
        self.faulty.notified().await;
        tokio::time::sleep(LINGER).await;
    }

    /// The fault, if there is one, once each end that has had no Close was sent one (RFC 6455 §7.1.7).
    pub(super) async fn told(&self, ends: &Ends) -> Option<Broken> {
        let fault = self.fault.take()?;
        for to in [&ends.upstream, &ends.client] {
            if !self.place(to).get() {
                continue;
            }
            // Who does not take it now never will.
            match timeout(LINGER, write(to, &protocol_error(to), || {})).await {
                Ok(Ok(())) => pass_end(to).await,
                Ok(Err(_)) | Err(_) => {
                    tracing::debug!("tunnel: an end did not hear why it is over")
                }
            }
        }
        Some(fault)
    }
}

/// A Close as this end has to get it.
fn protocol_error(to: &End) -> Vec<u8> {
    let sender = match to.side {
        Side::Client => Sender::Server,
        _ => Sender::Client,
    };
    let (code, reason) = (1002, "protocol error".to_owned());
    let mut frame = Vec::new();
    Composer::new(sender).close(&Close { code, reason }, &mut frame);
    frame
}

/// Reads until the sender has ended, so that its socket is not reset before it has read its Close.
pub(super) async fn discard(from: &End, count: &Progress) -> Result<(), Broken> {
    loop {
        tokio::task::consume_budget().await;
        from.readable().await?;
        if let Relayed::End = relay(from, count, |_| Ok(Relayed::All))? {
            return Ok(());
        }
    }
}

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
    places: &Places,
) -> Result<(), Broken> {
    places.up.set(true);
    let mut filter = PongFilter::new(mark);
    count.add(early.len() as u64);
    if !early.is_empty() {
        liveness.heard();
    }
    let early = match filter.pass(early) {
        Ok(Passed::Whole) => early.to_vec(),
        Ok(Passed::Instead(bytes)) => bytes,
        Err(why) => {
            let sound = filter.before_fault();
            return places.refuse(client, upstream, why, &sound, count).await;
        }
    };
    places.up.set(false);
    send_up(upstream, &early, liveness).await?;
    loop {
        places.up.set(filter.is_open());
        // Two quick peers would otherwise never let go of the worker.
        tokio::task::consume_budget().await;
        client.readable().await?;
        let mut fault = None;
        let relayed = relay(client, count, |piece| {
            liveness.heard();
            places.up.set(false);
            let passed = match filter.pass(piece) {
                Ok(passed) => passed,
                Err(why) => {
                    fault = Some(why);
                    return Ok(Relayed::All);
                }
            };
            if filter.has_ponged() {
                liveness.answered();
            }
            match passed {
                Passed::Whole => upstream.try_send(piece),
                Passed::Instead(bytes) if bytes.is_empty() => Ok(Relayed::All),
                Passed::Instead(bytes) => Ok(Relayed::Rest(bytes)),
            }
        })?;
        if let Some(why) = fault {
            let sound = filter.before_fault();
            return places.refuse(client, upstream, why, &sound, count).await;
        }
        match relayed {
            Relayed::All => {}
            Relayed::Rest(rest) => send_up(upstream, &rest, liveness).await?,
            Relayed::End => {
                send_up(upstream, &filter.finish(), liveness).await?;
                return places.end(upstream, filter.is_open()).await;
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
    places: &Places,
) -> Result<(), Broken> {
    places.down.set(true);
    let mut gaps = Gaps::new();
    count.add(early.len() as u64);
    let looked = match gaps.look(early) {
        Ok(looked) => looked,
        Err(why) => {
            let sound = gaps.before_fault(early);
            return places.refuse(upstream, client, why, &sound, count).await;
        }
    };
    places.down.set(false);
    send_down(client, early, looked.asks, liveness).await?;
    loop {
        places.down.set(gaps.is_open());
        // Two quick peers would otherwise never let go of the worker.
        tokio::task::consume_budget().await;
        tokio::select! {
            biased;
            () = liveness.ping_due(), if gaps.is_open() => {
                places.down.set(false);
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
        let (mut asks, mut fault, mut last) = (false, None, None);
        let relayed = relay(upstream, count, |piece| {
            liveness.down.moved();
            places.down.set(false);
            let looked = match gaps.look(piece) {
                Ok(looked) => looked,
                Err(why) => {
                    fault = Some((why, gaps.before_fault(piece)));
                    return Ok(Relayed::All);
                }
            };
            if places.has_fault()
                && let Some(end) = gaps.before_close()
            {
                last = Some(piece[..end].to_vec());
                return Ok(Relayed::All);
            }
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
        if let Some((why, sound)) = fault {
            return places.refuse(upstream, client, why, &sound, count).await;
        }
        if let Some(bytes) = last {
            // The client gets a Close that says what it did, not that it was answered.
            write(client, &bytes, || {}).await?;
            places.end(client, true).await?;
            return discard(upstream, count).await;
        }
        match relayed {
            Relayed::All if asks => liveness.asked(),
            Relayed::All => {}
            Relayed::Rest(rest) => send_down(client, &rest, asks, liveness).await?,
            Relayed::End => return places.end(client, gaps.is_open()).await,
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
