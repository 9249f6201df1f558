//! A WebSocket whose messages plugins look at.
//!
//! What the client sends is joined to messages and written anew, with a mask of our own. So is what the upstream sends,
//! when a plugin wants to see it; otherwise its bytes pass as they are ([`Follower`]). Each direction has one task that
//! alone writes to its receiver; what the other has to say there waits in an [`Outbox`].
//!
//! A message is read when the one before it has been taken, and few replies of plugins wait.

use std::cell::{Cell, RefCell};
use std::pin::pin;

use tokio::sync::Notify;
use witgate_runtime::{Close, Direction};

use super::compose::Composer;
use super::follow::{Followed, Follower};
use super::frame::{Opcode, Sender};
use super::join::{Fault, Joined, Joiner};
use super::liveness::Liveness;
use super::outbox::Outbox;
use super::ping::Mark;
use super::splice::{Relayed, pass_end, relay, write};
use super::watched::{self, discard};
use super::{Broken, End, LINGER, both_ways};
use crate::body::Progress;
use crate::config::Websocket;
use crate::failure::Side;
use crate::messages::{MessageChain, Passage};

/// Frames that are collected before they are written.
const BATCH: usize = 64 * 1024;

/// The tunnel.
struct Tunnel {
    client: End,
    upstream: End,
    chain: MessageChain,
    liveness: Option<Liveness>,
    mark: Mark,
    to_upstream: Outbox,
    to_client: Outbox,
    as_client: Composer,
    as_server: Composer,
    ending: Ending,
}

/// Whether the proxy itself ends the WebSocket.
#[derive(Default)]
struct Ending {
    has_begun: Cell<bool>,
    begins: Notify,
    /// Unless a plugin decided so.
    broken: RefCell<Option<Broken>>,
}

/// What a task has to do after it wrote what was due.
enum Wrote {
    Frames,
    /// The last that its receiver gets.
    Close,
}

/// Relays until either end has ended, or the proxy ends it.
pub(super) async fn run(
    [client, upstream]: [End; 2],
    [early_up, early_down]: [&[u8]; 2],
    [received, sent]: [&Progress; 2],
    chain: MessageChain,
    websocket: Option<Websocket>,
) -> Result<(), Broken> {
    if websocket.is_some() {
        watched::prepare(&client);
    }
    let tunnel = Tunnel {
        client,
        upstream,
        chain,
        liveness: websocket.map(Liveness::new),
        mark: Mark::random(),
        to_upstream: Outbox::default(),
        to_client: Outbox::default(),
        as_client: Composer::new(Sender::Client),
        as_server: Composer::new(Sender::Server),
        ending: Ending::default(),
    };
    let up = pin!(tunnel.join(Direction::ToUpstream, early_up, received));
    let down = pin!(async {
        match tunnel.chain.wants(Direction::ToClient, false) {
            true => tunnel.join(Direction::ToClient, early_down, sent).await,
            false => tunnel.follow(early_down, sent).await,
        }
    });
    let ended = tokio::select! {
        // The watch comes last, so that what has arrived by now is heard before anybody is judged.
        biased;
        ended = both_ways(up, down) => ended,
        () = tunnel.end_in_time() => Ok(()),
        broken = tunnel.watch() => Err(broken),
    };
    match tunnel.ending.broken.take() {
        Some(broken) => Err(broken),
        // What happens to the sockets once we have said that it is over is no fault.
        None if tunnel.ending.has_begun.get() => Ok(()),
        None => ended,
    }
}

/// # The two directions
impl Tunnel {
    /// Relays one direction, message by message.
    async fn join(&self, way: Direction, early: &[u8], count: &Progress) -> Result<(), Broken> {
        let (from, to, own) = (self.from(way), self.to(way), self.outbox(way));
        let mut joiner = Joiner::new(sender(way), self.chain.limit(way));
        let mut messages = Vec::new();
        count.add(early.len() as u64);
        let mut fault = self.take(way, &mut joiner, early, &mut messages).err();
        loop {
            if !messages.is_empty() {
                self.pass_on(way, &mut messages).await?;
            }
            if let Some(fault) = fault.take() {
                self.refuse(way, fault);
            }
            // Two quick peers would otherwise never let go of the worker.
            tokio::task::consume_budget().await;
            tokio::select! {
                biased;
                () = own.due(true) => match self.write_due(way, true).await? {
                    Wrote::Frames => continue,
                    Wrote::Close => return discard(from, count).await,
                },
                () = self.ping_due(), if way == Direction::ToClient => {
                    self.ask().await?;
                    continue;
                }
                readable = from.readable() => readable?,
            }
            let relayed = relay(from, count, |piece| {
                fault = self.take(way, &mut joiner, piece, &mut messages).err();
                Ok(Relayed::All)
            })?;
            if matches!(relayed, Relayed::End) {
                pass_end(to).await;
                return Ok(());
            }
        }
    }

    /// Takes bytes of one end to pieces.
    fn take(
        &self,
        way: Direction,
        joiner: &mut Joiner,
        bytes: &[u8],
        messages: &mut Vec<Joined>,
    ) -> Result<(), Fault> {
        if let Some(liveness) = self.liveness.as_ref().filter(|_| !bytes.is_empty()) {
            match way {
                Direction::ToUpstream => liveness.heard(),
                Direction::ToClient => liveness.down.moved(),
            }
        }
        let taken = joiner.take(bytes, messages);
        if way == Direction::ToUpstream
            && let Some(liveness) = &self.liveness
        {
            if messages.iter().any(|m| m.opcode == Opcode::Pong) {
                liveness.answered();
            }
            messages.retain(|m| m.opcode != Opcode::Pong || !self.mark.is(&m.payload));
        }
        taken
    }

    /// Relays what the upstream sends to a client, unread.
    async fn follow(&self, early: &[u8], count: &Progress) -> Result<(), Broken> {
        let mut follower = Follower::new();
        count.add(early.len() as u64);
        let (early, mut followed) = follower.follow(early);
        let mut rest = Some(self.insert(&early, &mut followed));
        loop {
            if let Some(rest) = rest.take() {
                self.send_down(&rest, followed.asks).await?;
            }
            if self.after_insert(&mut followed).await {
                return discard(&self.upstream, count).await;
            }
            // Two quick peers would otherwise never let go of the worker.
            tokio::task::consume_budget().await;
            let (frames, messages) = (follower.is_between_frames(), follower.is_between_messages());
            tokio::select! {
                biased;
                () = self.to_client.due(messages), if frames => {
                    match self.write_due(Direction::ToClient, messages).await? {
                        Wrote::Frames => continue,
                        Wrote::Close => return discard(&self.upstream, count).await,
                    }
                }
                () = self.ping_due(), if frames => {
                    self.ask().await?;
                    continue;
                }
                readable = self.upstream.readable() => readable?,
            }
            // Where nothing is there to be read, this is not called.
            followed = Followed::default();
            let relayed = relay(&self.upstream, count, |piece| {
                if let Some(liveness) = &self.liveness {
                    liveness.down.moved();
                }
                let bytes;
                (bytes, followed) = follower.follow(piece);
                match self.is_anything_due() && followed.frame_gap.is_some() {
                    true => Ok(Relayed::Rest(self.insert(&bytes, &mut followed))),
                    false => self.client.try_send(&bytes),
                }
            })?;
            match relayed {
                Relayed::All if followed.asks => self.asked(),
                Relayed::All => {}
                Relayed::Rest(bytes) => rest = Some(bytes),
                Relayed::End => {
                    pass_end(&self.client).await;
                    return Ok(());
                }
            }
        }
    }

    fn is_anything_due(&self) -> bool {
        self.is_ping_due() || self.to_client.has_frames() || self.to_client.has_close()
    }

    /// The bytes with what is due put into the first place that there is for it.
    fn insert(&self, bytes: &[u8], followed: &mut Followed) -> Vec<u8> {
        let own = &self.to_client;
        if own.is_closed() {
            return Vec::new();
        }
        let close_at = followed.frame_gap.filter(|_| own.has_close());
        let frames_at = followed.message_gap.filter(|_| own.has_frames());
        if let Some(gap) = close_at {
            let (mut out, frames) = (bytes[..gap].to_vec(), own.take());
            if frames_at == Some(gap) {
                out.extend(frames);
            }
            out.extend(own.take_close().unwrap_or_default());
            (followed.closes, followed.malformed) = (false, None);
            return out;
        }
        let is_ping_due = self.is_ping_due();
        let ping_at = followed.frame_gap.filter(|_| is_ping_due);
        let Some(gap) = frames_at.or(ping_at) else {
            return bytes.to_vec();
        };
        let (before, after) = bytes.split_at(gap);
        let mut out = before.to_vec();
        if is_ping_due {
            out.extend(self.mark.ping());
            followed.asks = true;
        }
        if frames_at.is_some() {
            out.extend(own.take());
        }
        out.extend(after);
        out
    }

    /// What follows once a piece of the upstream's has been sent: whether that was the end.
    async fn after_insert(&self, followed: &mut Followed) -> bool {
        if std::mem::take(&mut followed.closes) {
            self.to_client.close_passes();
        }
        if let Some(malformed) = followed.malformed.take() {
            self.refuse(Direction::ToClient, malformed.into());
        }
        // Our own Close was among the bytes; if the upstream's was, ours is still to be taken out.
        let has_begun = self.ending.has_begun.get();
        let is_over = has_begun && self.to_client.is_closed() && !self.to_client.has_close();
        if is_over {
            pass_end(&self.client).await;
        }
        is_over
    }
}

/// # Messages
impl Tunnel {
    /// Shows messages to the plugins, and writes what came of them.
    async fn pass_on(&self, way: Direction, messages: &mut Vec<Joined>) -> Result<(), Broken> {
        let (mut out, mut asks) = (Vec::new(), false);
        // An idle tunnel holds no memory.
        for joined in std::mem::take(messages) {
            if self.ending.has_begun.get() || self.outbox(way).is_closed() {
                break;
            }
            asks |= matches!(joined.opcode, Opcode::Ping | Opcode::Close);
            let closes = joined.opcode == Opcode::Close;
            if let Err(why) = self.pass_one(way, joined, &mut out).await {
                self.send(way, &std::mem::take(&mut out), asks).await?;
                match why {
                    Stop::Close(close) => self.end(&close, None),
                    Stop::Fault(fault) => self.refuse(way, fault),
                    Stop::Plugin(broken) => self.end(&internal_error(), Some(broken)),
                    Stop::Socket(broken) => return Err(broken),
                }
                return Ok(());
            }
            if out.len() >= BATCH || closes {
                self.send(way, &std::mem::take(&mut out), asks).await?;
                asks = false;
            }
        }
        self.send(way, &out, asks).await
    }

    /// Shows one message to the plugins that want it. What goes on is appended to `out`.
    async fn pass_one(
        &self,
        way: Direction,
        joined: Joined,
        out: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        if !self.chain.wants(way, joined.opcode.is_control()) {
            if joined.opcode == Opcode::Close {
                self.outbox(way).close_passes();
            }
            self.composer(way)
                .frame(joined.opcode, &joined.payload, out);
            return Ok(());
        }
        let message = joined.read().map_err(Stop::Fault)?;
        let passed = self.chain.pass(way, message).await;
        let passed = passed.map_err(|failure| {
            Stop::Plugin(Broken {
                side: Side::Plugin,
                reason: failure.to_string(),
            })
        })?;
        match passed {
            Passage::On(message) => {
                if matches!(message, witgate_runtime::Message::Close(_)) {
                    self.outbox(way).close_passes();
                }
                self.composer(way).message(&message, out);
            }
            // Nothing may follow a Close, whoever sends it.
            Passage::Back(witgate_runtime::Message::Close(close)) => {
                return Err(Stop::Close(close.unwrap_or(Close {
                    code: 1000,
                    reason: String::new(),
                })));
            }
            Passage::Back(reply) => {
                let mut frame = Vec::new();
                self.composer(way.back()).message(&reply, &mut frame);
                // In their order: what was decided before goes before.
                let earlier = std::mem::take(out);
                self.send(way, &earlier, false)
                    .await
                    .map_err(Stop::Socket)?;
                self.reply(way, &frame).await.map_err(Stop::Socket)?;
            }
            Passage::Nothing => {}
            Passage::Close(close) => return Err(Stop::Close(close)),
        }
        Ok(())
    }

    /// Sends frames back to who sent a message, and waits until there is room for more. What comes the other way for
    /// the receiver of this direction is written meanwhile, or the two would wait for each other.
    async fn reply(&self, way: Direction, frames: &[u8]) -> Result<(), Broken> {
        let (own, back) = (self.outbox(way), self.outbox(way.back()));
        back.put(frames);
        loop {
            tokio::select! {
                biased;
                () = self.ending.begun() => return Ok(()),
                () = back.has_room() => return Ok(()),
                () = own.due(true) => {
                    self.write_frames(way).await?;
                }
            }
        }
    }

    /// Writes what the other direction left here; of frames other than a Close only if there is a place for them.
    async fn write_due(&self, way: Direction, place_for_frames: bool) -> Result<Wrote, Broken> {
        if place_for_frames {
            self.write_frames(way).await?;
        }
        let own = self.outbox(way);
        if let Some(close) = own.take_close() {
            self.send(way, &close, true).await?;
            pass_end(self.to(way)).await;
            return Ok(Wrote::Close);
        }
        Ok(Wrote::Frames)
    }

    async fn write_frames(&self, way: Direction) -> Result<(), Broken> {
        let frames = self.outbox(way).take();
        self.send(way, &frames, false).await
    }

    async fn send(&self, way: Direction, bytes: &[u8], asks: bool) -> Result<(), Broken> {
        match way {
            Direction::ToUpstream => self.send_up(bytes).await,
            Direction::ToClient => self.send_down(bytes, asks).await,
        }
    }

    async fn send_up(&self, bytes: &[u8]) -> Result<(), Broken> {
        match &self.liveness {
            Some(liveness) => watched::send_up(&self.upstream, bytes, liveness).await,
            None => write(&self.upstream, bytes, || {}).await,
        }
    }

    async fn send_down(&self, bytes: &[u8], asks: bool) -> Result<(), Broken> {
        match &self.liveness {
            Some(liveness) => watched::send_down(&self.client, bytes, asks, liveness).await,
            None => write(&self.client, bytes, || {}).await,
        }
    }
}

/// Why a message does not go on.
enum Stop {
    Close(Close),
    Fault(Fault),
    /// A plugin failed.
    Plugin(Broken),
    /// There is nobody left to tell.
    Socket(Broken),
}

/// # The end, and whether the client lives
impl Tunnel {
    /// Tells both ends that it is over. The first reason counts.
    fn end(&self, close: &Close, broken: Option<Broken>) {
        if self.ending.has_begun.replace(true) {
            return;
        }
        *self.ending.broken.borrow_mut() = broken;
        for (outbox, composer) in [
            (&self.to_client, &self.as_server),
            (&self.to_upstream, &self.as_client),
        ] {
            let mut frame = Vec::new();
            composer.close(close, &mut frame);
            outbox.put_close(frame);
        }
        self.ending.begins.notify_waiters();
    }

    /// An end sent what it may not.
    fn refuse(&self, way: Direction, fault: Fault) {
        let broken = Broken {
            side: self.from(way).side,
            reason: fault.to_string(),
        };
        self.end(&fault.close(), Some(broken));
    }

    /// Ends the WebSocket when a plugin has lost what it knew of it; and once it is to end, gives both ends a moment.
    async fn end_in_time(&self) {
        tokio::select! {
            failure = self.chain.lost() => {
                let (side, reason) = (Side::Plugin, failure.to_string());
                self.end(&internal_error(), Some(Broken { side, reason }));
            }
            () = self.ending.begun() => {}
        }
        tokio::time::sleep(LINGER).await;
    }

    async fn watch(&self) -> Broken {
        match &self.liveness {
            Some(liveness) => liveness.watch().await,
            None => std::future::pending().await,
        }
    }

    fn is_ping_due(&self) -> bool {
        (self.liveness.as_ref()).is_some_and(Liveness::is_ping_due)
    }

    async fn ping_due(&self) {
        match &self.liveness {
            Some(liveness) => liveness.ping_due().await,
            None => std::future::pending().await,
        }
    }

    /// Asks the client whether it lives. A Close asks for an answer too, and is the last that it is sent.
    async fn ask(&self) -> Result<(), Broken> {
        if self.to_client.is_closed() {
            self.asked();
            return Ok(());
        }
        self.send_down(&self.mark.ping(), true).await
    }

    fn asked(&self) {
        if let Some(liveness) = &self.liveness {
            liveness.asked();
        }
    }

    fn from(&self, way: Direction) -> &End {
        self.to(way.back())
    }

    fn to(&self, way: Direction) -> &End {
        match way {
            Direction::ToUpstream => &self.upstream,
            Direction::ToClient => &self.client,
        }
    }

    fn outbox(&self, way: Direction) -> &Outbox {
        match way {
            Direction::ToUpstream => &self.to_upstream,
            Direction::ToClient => &self.to_client,
        }
    }

    fn composer(&self, way: Direction) -> &Composer {
        match way {
            Direction::ToUpstream => &self.as_client,
            Direction::ToClient => &self.as_server,
        }
    }
}

impl Ending {
    async fn begun(&self) {
        loop {
            let begins = self.begins.notified();
            if self.has_begun.get() {
                return;
            }
            begins.await;
        }
    }
}

fn sender(way: Direction) -> Sender {
    match way {
        Direction::ToUpstream => Sender::Client,
        Direction::ToClient => Sender::Server,
    }
}

/// The reason is for the log.
fn internal_error() -> Close {
    Close {
        code: 1011,
        reason: String::new(),
    }
}
