//! Whether the two ends of a WebSocket still live: when the client is to be asked, and when to give up.
//!
//! A client is asked after `ping-interval` of silence, by a ping of ours or by one of the upstream's that goes to it
//! anyway. Any byte from it is an answer. Some clients answer no ping ever (ChromeDriver is one), so a ping goes out as
//! soon as the tunnel is there: only of a client that has answered one, or that has not said a word, does silence mean
//! that it is dead.
//!
//! What keeps us from asking, or from hearing the answer, is judged as well: a
//! client that takes nothing, and an upstream that takes nothing or pauses within a frame.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::Broken;
use crate::config::Websocket;
use crate::failure::Side;

/// What is known of a tunnel's ends. Both directions write to it; they run in one task.
#[derive(Debug)]
pub(super) struct Liveness {
    limits: Websocket,
    /// The last byte from the client.
    heard: Cell<Instant>,
    probe: Cell<Probe>,
    client: Cell<Client>,
    /// To the client.
    pub(super) down: Flow,
    /// To the upstream.
    pub(super) up: Flow,
    /// A ping has become due.
    due: Notify,
    /// The next thing to happen may be due earlier than the last time that the watch looked.
    look_again: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    No,
    /// To be sent as soon as a frame of the upstream ends.
    Due(Instant),
    Sent(Instant),
}

/// What the client has shown of itself.
#[derive(Debug, Clone, Copy, Default)]
struct Client {
    /// It was asked at least once.
    asked: bool,
    /// At least one byte came from it.
    spoke: bool,
    /// It answers pings.
    answers: bool,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Flow {
    /// Bytes wait for the receiver to take them.
    waiting: Cell<bool>,
    /// When bytes last came or were taken.
    moved: Cell<Instant>,
}

impl Flow {
    pub(super) fn moved(&self) {
        self.moved.set(Instant::now());
    }

    /// The receiver does not take all that is there.
    pub(super) fn wait(&self) {
        self.waiting.set(true);
        self.moved();
    }

    fn go_on(&self) {
        self.waiting.set(false);
        self.moved();
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    LookAgain(Instant),
    Ask,
    /// The client lets pings go unanswered, dead or alive.
    Unknown,
    Dead(Side, String),
}

impl Liveness {
    pub(super) fn new(limits: Websocket) -> Self {
        let now = Instant::now();
        let flow = || Flow {
            waiting: Cell::new(false),
            moved: Cell::new(now),
        };
        Self {
            limits,
            heard: Cell::new(now),
            // The first one, to find out whether the client answers pings at all.
            probe: Cell::new(Probe::Due(now)),
            client: Cell::default(),
            down: flow(),
            up: flow(),
            due: Notify::new(),
            look_again: Notify::new(),
        }
    }

    /// Bytes came from the client.
    pub(super) fn heard(&self) {
        self.note(|client| client.spoke = true);
        self.rest();
    }

    /// One of those bytes was the end of a pong.
    pub(super) fn answered(&self) {
        self.note(|client| client.answers = true);
    }

    /// The client's silence begins anew. The first ping is sent all the same.
    fn rest(&self) {
        self.heard.set(Instant::now());
        if self.client.get().asked && self.probe.replace(Probe::No) != Probe::No {
            self.look_again.notify_one();
        }
    }

    fn note(&self, change: impl FnOnce(&mut Client)) {
        let mut client = self.client.get();
        change(&mut client);
        self.client.set(client);
    }

    /// Something that the client has to answer was sent to it.
    pub(super) fn asked(&self) {
        self.note(|client| client.asked = true);
        if !matches!(self.probe.get(), Probe::Sent(_)) {
            self.probe.set(Probe::Sent(Instant::now()));
        }
    }

    pub(super) fn is_ping_due(&self) -> bool {
        matches!(self.probe.get(), Probe::Due(_))
    }

    /// Waits until a ping is to be sent.
    pub(super) async fn ping_due(&self) {
        while !self.is_ping_due() {
            self.due.notified().await;
        }
    }

    /// The client's socket took all there was.
    pub(super) fn client_took_all(&self) {
        self.down.go_on();
    }

    /// The upstream took all there was. The client was not read meanwhile, so its silence begins now.
    pub(super) fn upstream_took_all(&self) {
        self.up.go_on();
        self.rest();
        self.look_again.notify_one();
    }

    /// Runs beside the two directions, and ends when an end is found dead.
    pub(super) async fn watch(&self) -> Broken {
        loop {
            let now = Instant::now();
            match self.judge(now) {
                Judgement::LookAgain(then) => {
                    tokio::select! {
                        () = sleep_until(then) => {}
                        () = self.look_again.notified() => {}
                    }
                }
                Judgement::Ask => {
                    self.probe.set(Probe::Due(now));
                    self.due.notify_one();
                }
                Judgement::Unknown => {
                    tracing::debug!(
                        "a WebSocket's client answers no pings; its silence tells nothing"
                    );
                    self.rest();
                }
                Judgement::Dead(side, reason) => return Broken { side, reason },
            }
        }
    }

    fn judge(&self, now: Instant) -> Judgement {
        let Websocket {
            ping_interval,
            ping_timeout,
        } = self.limits;
        let both = ping_interval + ping_timeout;
        if self.up.waiting.get() {
            return dead_at(self.up.moved.get() + both, now, Side::Upstream, || {
                format!("the upstream took no byte of a WebSocket for {both:?}")
            });
        }
        match self.probe.get() {
            Probe::No => match self.heard.get() + ping_interval {
                then if then <= now => Judgement::Ask,
                then => Judgement::LookAgain(then),
            },
            Probe::Sent(since) => {
                let judged = dead_at(since + ping_timeout, now, Side::Client, || {
                    no_answer(ping_timeout)
                });
                let client = self.client.get();
                match judged {
                    Judgement::Dead(..) if client.spoke && !client.answers => Judgement::Unknown,
                    judged => judged,
                }
            }
            Probe::Due(since) => {
                let last = since.max(self.down.moved.get());
                if self.down.waiting.get() {
                    dead_at(last + ping_timeout, now, Side::Client, || {
                        format!("the client took no byte of a WebSocket for {ping_timeout:?}")
                    })
                } else {
                    dead_at(last + ping_timeout, now, Side::Upstream, || {
                        format!("the upstream paused within a WebSocket frame for {ping_timeout:?}")
                    })
                }
            }
        }
    }
}

fn no_answer(limit: Duration) -> String {
    format!("the client did not answer a ping within {limit:?} (`websocket.ping-timeout`)")
}

fn dead_at(limit: Instant, now: Instant, side: Side, reason: impl FnOnce() -> String) -> Judgement {
    if limit <= now {
        Judgement::Dead(side, reason())
    } else {
        Judgement::LookAgain(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);
    const TIMEOUT: Duration = Duration::from_secs(10);

    fn new() -> Liveness {
        Liveness::new(Websocket {
            ping_interval: INTERVAL,
            ping_timeout: TIMEOUT,
        })
    }

    /// A tunnel whose client answered a ping at the returned time. The clock stands wherever the test says.
    fn tunnel() -> (Liveness, Instant) {
        let liveness = new();
        liveness.asked();
        liveness.heard();
        liveness.answered();
        let start = liveness.heard.get();
        (liveness, start)
    }

    #[test]
    fn a_client_is_asked_at_once_even_when_it_speaks_first() {
        let liveness = new();
        assert!(liveness.is_ping_due());
        liveness.heard();
        assert!(liveness.is_ping_due());
        liveness.asked();
        liveness.heard();
        assert!(!liveness.is_ping_due());
    }

    #[test]
    fn a_client_that_speaks_and_never_answers_a_ping_is_not_judged_by_its_silence() {
        let liveness = new();
        liveness.asked();
        liveness.heard();
        liveness.asked();
        let asked = liveness.heard.get() + INTERVAL;
        liveness.probe.set(Probe::Sent(asked));

        assert_eq!(liveness.judge(asked + TIMEOUT), Judgement::Unknown);

        // It is asked again and again; a first answer, and its silence counts.
        liveness.rest();
        let again = liveness.heard.get() + INTERVAL;
        assert_eq!(liveness.judge(again), Judgement::Ask);
        liveness.probe.set(Probe::Sent(again));
        liveness.answered();
        assert_eq!(dead(liveness.judge(again + TIMEOUT)).0, Side::Client);
    }

    #[test]
    fn a_client_that_never_said_a_word_is_dead_when_it_does_not_answer() {
        let liveness = new();
        liveness.asked();
        let asked = liveness.heard.get();
        liveness.probe.set(Probe::Sent(asked));

        assert_eq!(dead(liveness.judge(asked + TIMEOUT)).0, Side::Client);
    }

    #[track_caller]
    fn dead(judgement: Judgement) -> (Side, String) {
        match judgement {
            Judgement::Dead(side, reason) => (side, reason),
            other => panic!("not dead: {other:?}"),
        }
    }

    #[test]
    fn a_client_is_asked_after_the_interval_and_dead_after_the_timeout() {
        let (liveness, start) = tunnel();
        let asked = start + INTERVAL;
        assert_eq!(liveness.judge(start), Judgement::LookAgain(asked));
        assert_eq!(liveness.judge(asked), Judgement::Ask);

        liveness.probe.set(Probe::Sent(asked));

        let limit = asked + TIMEOUT;
        assert_eq!(liveness.judge(asked), Judgement::LookAgain(limit));
        let (side, reason) = dead(liveness.judge(limit));
        assert_eq!(side, Side::Client);
        assert!(reason.contains("ping-timeout"), "{reason}");
    }

    #[test]
    fn any_byte_of_the_client_is_an_answer() {
        let (liveness, start) = tunnel();
        liveness.probe.set(Probe::Sent(start));

        liveness.heard();

        let again = liveness.heard.get() + INTERVAL;
        assert_eq!(
            liveness.judge(liveness.heard.get()),
            Judgement::LookAgain(again)
        );
    }

    #[test]
    fn a_second_question_does_not_give_the_client_more_time() {
        let (liveness, start) = tunnel();
        liveness.probe.set(Probe::Sent(start));

        liveness.asked();

        assert_eq!(liveness.probe.get(), Probe::Sent(start));
    }

    #[test]
    fn a_client_that_takes_bytes_slowly_is_not_dead_and_one_that_takes_none_is() {
        let (liveness, start) = tunnel();
        liveness.probe.set(Probe::Due(start));
        liveness.down.waiting.set(true);
        let moved = start + TIMEOUT / 2;
        liveness.down.moved.set(moved);

        assert_eq!(
            liveness.judge(start + TIMEOUT),
            Judgement::LookAgain(moved + TIMEOUT)
        );
        let (side, reason) = dead(liveness.judge(moved + TIMEOUT));
        assert_eq!(side, Side::Client);
        assert!(reason.contains("took no byte"), "{reason}");
    }

    #[test]
    fn an_upstream_that_pauses_within_a_frame_is_not_the_clients_fault() {
        let (liveness, start) = tunnel();
        liveness.probe.set(Probe::Due(start));

        let (side, reason) = dead(liveness.judge(start + TIMEOUT));

        assert_eq!(side, Side::Upstream);
        assert!(reason.contains("within a WebSocket frame"), "{reason}");
    }

    #[test]
    fn while_the_upstream_takes_nothing_the_clients_silence_does_not_count() {
        let (liveness, start) = tunnel();
        liveness.probe.set(Probe::Sent(start));
        liveness.up.waiting.set(true);
        liveness.up.moved.set(start);
        let limit = start + INTERVAL + TIMEOUT;

        assert_eq!(liveness.judge(start + TIMEOUT), Judgement::LookAgain(limit));
        assert_eq!(dead(liveness.judge(limit)).0, Side::Upstream);

        liveness.upstream_took_all();

        let heard = liveness.heard.get();
        assert_eq!(
            liveness.judge(heard),
            Judgement::LookAgain(heard + INTERVAL)
        );
    }
}
