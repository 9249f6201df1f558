//! What a client's frames of HTTP/2 cost: followed beside hyper, which does not limit them.
//!
//! A frame that moves no content is read, and often answered, at the server's expense. A client that sends them without
//! end, or that begins streams only to reset them, is cut off. So is, by `limits.header-timeout`, one whose header block
//! does not come to its end: nothing else may come on the connection meanwhile (RFC 9113 §4.3).

use std::fmt;
use std::time::Instant;

/// Bytes that a client sends before its first frame (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const FRAME_HEADER: usize = 9;

/// What a frame without content costs: a thousand of them are free, and a hundred more each second.
const COST: u64 = 16;
/// What a WINDOW_UPDATE costs. Clients send one or two for each frame that they are sent, whatever its size.
const COST_OF_WINDOW: u64 = 1;
/// What every connection may spend.
const FREE: u64 = 1000 * COST;
/// … and more of it for each second of its life.
const PER_SECOND: u64 = 100 * COST;
/// … and one more for so many bytes that were sent to the client, since to reset, or to make room for, what comes in
/// abundance is what these frames are for. An answered PING, of 17 bytes, does not earn what it cost.
const EARNED_BY: u64 = 8;

/// The client sends too much that moves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flood;

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it floods the connection with frames that move no content")
    }
}

impl std::error::Error for Flood {}

/// Follows the frames of one client.
#[derive(Debug)]
pub(super) struct Frames {
    since: Instant,
    state: State,
    /// A header block has begun and not ended.
    in_block: bool,
    /// The frame that is being read ends it.
    ends_block: bool,
    /// The first frame has come.
    settled: bool,
    spent: u64,
    written: u64,
}

#[derive(Debug)]
enum State {
    /// So many bytes of the preface are still to come.
    Preface(usize),
    /// So many bytes of a frame's header have come.
    Header([u8; FRAME_HEADER], usize),
    /// So many bytes of its payload are still to come.
    Payload(usize),
}

impl Frames {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            state: State::Preface(PREFACE.len()),
            in_block: false,
            ends_block: false,
            settled: false,
            spent: 0,
            written: 0,
        }
    }

    /// The client's side has begun: a whole header of a frame has come.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Part of a request's head has come, and not all of it.
    pub(super) fn is_in_block(&self) -> bool {
        self.in_block
    }

    /// So many bytes were sent to the client.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += bytes as u64;
    }

    /// Looks at the bytes that came next.
    ///
    /// # Errors
    ///
    /// When the client has sent more than it may.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        while !bytes.is_empty() {
            let taken = match &mut self.state {
                State::Preface(left) | State::Payload(left) => {
                    let taken = bytes.len().min(*left);
                    *left -= taken;
                    if *left == 0 {
                        self.end_frame();
                    }
                    taken
                }
                State::Header(header, have) => {
                    let taken = bytes.len().min(FRAME_HEADER - *have);
                    header[*have..*have + taken].copy_from_slice(&bytes[..taken]);
                    *have += taken;
                    if *have == FRAME_HEADER {
                        let header = *header;
                        self.begin(header)?;
                    }
                    taken
                }
            };
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    fn begin(&mut self, header: [u8; FRAME_HEADER]) -> Result<(), Flood> {
        const DATA: u8 = 0;
        const HEADERS: u8 = 1;
        const WINDOW_UPDATE: u8 = 8;
        const CONTINUATION: u8 = 9;
        const END_STREAM: u8 = 1;
        const END_HEADERS: u8 = 4;
        let [high, middle, low, kind, flags, ..] = header;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        self.settled = true;
        self.in_block = matches!(kind, HEADERS | CONTINUATION);
        self.ends_block = flags & END_HEADERS != 0;
        match length {
            0 => self.end_frame(),
            length => self.state = State::Payload(length),
        }
        self.spent += match kind {
            DATA if length > 0 || flags & END_STREAM != 0 => return Ok(()),
            HEADERS => return Ok(()),
            CONTINUATION if length > 0 => return Ok(()),
            WINDOW_UPDATE => COST_OF_WINDOW,
            _ => COST,
        };
        match self.spent <= FREE + self.written / EARNED_BY {
            true => Ok(()),
            // The clock is asked only now, which hardly any connection comes to.
            false => self.within_time(),
        }
    }

    fn end_frame(&mut self) {
        self.in_block &= !self.ends_block;
        self.state = State::Header([0; FRAME_HEADER], 0);
    }

    fn within_time(&self) -> Result<(), Flood> {
        let by_time = self.since.elapsed().as_secs().saturating_mul(PER_SECOND);
        let may = FREE + self.written / EARNED_BY + by_time;
        if self.spent <= may {
            Ok(())
        } else {
            Err(Flood)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).expect("a small frame").to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.resize(FRAME_HEADER + payload, 7);
        frame
    }

    fn begun() -> Frames {
        let mut frames = Frames::new();
        frames.follow(PREFACE).expect("a preface costs nothing");
        assert!(!frames.is_settled());
        frames
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let sent = [frame(4, 0, 12), frame(1, 0, 300), frame(9, 0, 5)].concat();
        for size in 1..sent.len() {
            let mut frames = begun();
            for piece in sent.chunks(size) {
                frames.follow(piece).expect("these are few");
            }
            assert!(frames.is_settled() && frames.is_in_block(), "{size}");
            let last = frame(9, 4, 2);
            frames.follow(&last[..10]).expect("these are few");
            assert!(frames.is_in_block(), "its last frame is not whole");
            frames.follow(&last[10..]).expect("these are few");
            assert!(!frames.is_in_block(), "{size}");
        }
    }

    #[test]
    fn frames_without_content_are_a_flood_in_the_end() {
        for (kind, name) in [(6, "PING"), (4, "SETTINGS"), (3, "RST_STREAM"), (0, "DATA")] {
            let mut frames = begun();
            let one = frame(kind, 0, if kind == 0 { 0 } else { 8 });
            let flooded = (0..100_000).any(|_| frames.follow(&one).is_err());
            assert!(flooded, "{name}");
        }
    }

    #[test]
    fn content_and_what_its_receiver_says_of_it_is_no_flood() {
        let mut frames = begun();
        for _ in 0..100_000 {
            frames.follow(&frame(0, 0, 1)).expect("content");
            frames.follow(&frame(1, 5, 20)).expect("a request");
            // A short message to the client, for which it makes room on its stream and on the connection.
            frames.wrote(30);
            frames.follow(&frame(8, 0, 4)).expect("room");
            frames.follow(&frame(8, 0, 4)).expect("room");
        }
    }
}
