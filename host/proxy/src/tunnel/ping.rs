//! The proxy's own pings: where one may be put, and how the answers to them are kept from the upstream.

use std::hash::{BuildHasher, RandomState};

use super::frame::{FrameReader, Malformed, Opcode, Sender};

/// The payload of a tunnel's pings, by which their pongs are told from those that answer the upstream's own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark([u8; Self::LENGTH]);

impl Mark {
    const LENGTH: usize = 16;
    const PREFIX: [u8; 8] = *b"witgate/";

    /// One that no upstream will use by chance.
    pub(super) fn random() -> Self {
        // The standard library's hash keys are random; the mark has to be unlikely, not secret.
        let random = RandomState::new().hash_one(Self::PREFIX).to_be_bytes();
        let mut mark = [0; Self::LENGTH];
        mark[..8].copy_from_slice(&Self::PREFIX);
        mark[8..].copy_from_slice(&random);
        Self(mark)
    }

    /// The whole frame, as a server sends it.
    pub(super) fn ping(self) -> [u8; 2 + Self::LENGTH] {
        let mut frame = [0; 2 + Self::LENGTH];
        frame[0] = 0x89;
        frame[1] = Self::LENGTH as u8;
        frame[2..].copy_from_slice(&self.0);
        frame
    }

    /// Whether this is the payload of one of them.
    pub(super) fn is(self, payload: &[u8]) -> bool {
        payload == self.0
    }

    fn is_payload(self, masked: &[u8], mask: [u8; 4]) -> bool {
        let payload = masked.iter().zip(mask.iter().cycle());
        masked.len() == Self::LENGTH && payload.map(|(byte, key)| byte ^ key).eq(self.0)
    }
}

/// Takes the answers to our pings out of what a client sends.
#[derive(Debug)]
pub(super) struct PongFilter {
    frames: FrameReader,
    mark: Mark,
    /// A pong that is not whole yet: at most a header and 125 bytes.
    held: Vec<u8>,
    mask: [u8; 4],
    payload: usize,
    /// A pong, ours or not, has become whole.
    ponged: bool,
    /// The client has sent its Close; nothing may follow it (RFC 6455 §5.5.1).
    closed: bool,
    fault: Option<Sound>,
}

/// What came before a frame that may not be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sound {
    /// Of the piece in which the frame is.
    pub(super) bytes: Vec<u8>,
    /// They, or what was passed before, end with a whole frame, and no Close.
    pub(super) is_open: bool,
}

/// What of a piece is for the upstream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// All of it.
    Whole,
    /// This instead; may be empty.
    Instead(Vec<u8>),
}

impl PongFilter {
    pub(super) fn new(mark: Mark) -> Self {
        Self {
            frames: FrameReader::new(Sender::Client),
            mark,
            held: Vec::new(),
            mask: [0; 4],
            payload: 0,
            ponged: false,
            closed: false,
            fault: None,
        }
    }

    /// Follows the next bytes of the client. A pong is held back until it is whole; everything else goes on at once.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Result<Passed, Malformed> {
        let mut instead: Option<Vec<u8>> = None;
        let mut at = 0;
        let mut sound = None;
        while at < bytes.len() {
            if self.is_open() {
                sound = Some(instead.as_ref().map_or(at, Vec::len));
            }
            let step = self.frames.step(&bytes[at..]).inspect_err(|_| {
                let before = instead.as_deref().unwrap_or(bytes);
                self.fault = Some(Sound {
                    bytes: before[..sound.unwrap_or(0)].to_vec(),
                    is_open: sound.is_some() && !self.closed,
                });
            })?;
            self.closed |= step.opcode == Opcode::Close;
            let piece = &bytes[at..at + step.taken];
            if step.opcode == Opcode::Pong {
                let rest = instead.get_or_insert_with(|| bytes[..at].to_vec());
                self.held.extend(piece);
                if let Some(header) = step.header {
                    self.mask = header
                        .mask
                        .expect("a client's frame without a mask is refused");
                    self.payload = usize::try_from(header.payload)
                        .expect("a longer control frame than 125 bytes is refused");
                }
                if step.ends {
                    self.ponged = true;
                    let payload = &self.held[self.held.len() - self.payload..];
                    if !self.mark.is_payload(payload, self.mask) {
                        rest.append(&mut self.held);
                    }
                    // An idle tunnel holds no memory.
                    self.held = Vec::new();
                }
            } else if let Some(rest) = &mut instead {
                rest.extend(piece);
            }
            at += step.taken;
        }
        Ok(instead.map_or(Passed::Whole, Passed::Instead))
    }

    /// Whether a frame of the proxy's own may follow what was passed.
    pub(super) fn is_open(&self) -> bool {
        self.frames.at_boundary() && !self.closed
    }

    /// What stood before the fault that was found.
    pub(super) fn before_fault(&mut self) -> Sound {
        self.fault.take().unwrap_or_default()
    }

    /// Whether a pong has ever come: the client answers pings.
    pub(super) fn has_ponged(&self) -> bool {
        self.ponged
    }

    /// What is held back of a pong that will not become whole any more.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

/// Finds the places in what an upstream sends at which a ping may stand.
#[derive(Debug)]
pub(super) struct Gaps {
    frames: FrameReader,
    /// The upstream has sent its Close; nothing may follow it (RFC 6455 §5.5.1).
    closed: bool,
    /// The last place between two frames of the present piece.
    last: Option<usize>,
}

/// What a piece of the upstream's bytes holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Looked {
    /// The first place between two frames.
    pub(super) gap: Option<usize>,
    /// Whether it asks the client for an answer itself, by a Ping or a Close.
    pub(super) asks: bool,
}

impl Gaps {
    pub(super) fn new() -> Self {
        Self {
            frames: FrameReader::new(Sender::Server),
            closed: false,
            last: None,
        }
    }

    /// Whether a ping may be sent before the next byte.
    pub(super) fn is_open(&self) -> bool {
        self.frames.at_boundary() && !self.closed
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Of the piece in which a fault was found, what stood before it.
    pub(super) fn before_fault(&self, piece: &[u8]) -> Sound {
        Sound {
            bytes: piece[..self.last.unwrap_or(0)].to_vec(),
            is_open: self.last.is_some() && !self.closed,
        }
    }

    /// Of the piece in which the upstream's Close began, what stood before that.
    pub(super) fn before_close(&self) -> Option<usize> {
        self.last.filter(|_| self.closed)
    }

    /// Follows the next bytes of the upstream.
    pub(super) fn look(&mut self, bytes: &[u8]) -> Result<Looked, Malformed> {
        let mut looked = Looked::default();
        let mut at = 0;
        self.last = None;
        while at < bytes.len() {
            if self.is_open() {
                self.last = Some(at);
            }
            if looked.gap.is_none() && self.is_open() {
                looked.gap = Some(at);
            }
            let step = self.frames.step(&bytes[at..])?;
            at += step.taken;
            let asks = matches!(step.opcode, Opcode::Ping | Opcode::Close);
            looked.asks |= asks && step.ends;
            self.closed |= step.opcode == Opcode::Close;
        }
        if looked.gap.is_none() && self.is_open() {
            looked.gap = Some(at);
        }
        Ok(looked)
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::tests::{every_kind, frame};
    use super::*;

    /// What comes out of a filter that is given the pieces.
    fn filtered<'a>(mark: Mark, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut filter = PongFilter::new(mark);
        let mut out = Vec::new();
        for piece in pieces {
            match filter.pass(piece).expect("legal frames") {
                Passed::Whole => out.extend(piece),
                Passed::Instead(bytes) => out.extend(bytes),
            }
        }
        out.extend(filter.finish());
        out
    }

    /// Frames of every kind with pongs of ours before each; with, and as they should come out.
    fn with_our_pongs(mark: Mark) -> (Vec<u8>, Vec<u8>) {
        let ours = frame(Sender::Client, 0x8a, &mark.0);
        let frames = every_kind(Sender::Client);
        let with: Vec<u8> = frames
            .iter()
            .flat_map(|frame| [&*ours, frame].concat())
            .collect();
        (with, frames.concat())
    }

    #[test]
    fn our_pongs_are_taken_out_and_nothing_else_however_the_bytes_are_cut() {
        let mark = Mark::random();
        let (with, expected) = with_our_pongs(mark);
        assert!(filtered(mark, [&*with]) == expected);
        assert!(filtered(mark, with.chunks(1)) == expected);
        for cut in (0..1_500).chain(with.len() - 100..with.len()) {
            let (before, after) = with.split_at(cut);
            assert!(filtered(mark, [before, after]) == expected, "cut at {cut}");
        }
        for size in 2..100 {
            assert!(
                filtered(mark, with.chunks(size)) == expected,
                "{size} at a time"
            );
        }
    }

    #[test]
    fn a_piece_without_a_pong_passes_untouched_even_when_it_ends_within_a_header() {
        let mut filter = PongFilter::new(Mark::random());
        let text = frame(Sender::Client, 0x81, &[b'a'; 200]);
        for piece in text.chunks(3) {
            assert_eq!(filter.pass(piece), Ok(Passed::Whole));
        }
    }

    #[test]
    fn a_pong_of_another_mark_or_length_goes_through() {
        let mark = Mark::random();
        let (mut other, longer) = (mark.0, [&mark.0[..], b"x"].concat());
        other[Mark::LENGTH - 1] ^= 1;
        for payload in [&b""[..], &other, &longer, &mark.0[1..]] {
            let pong = frame(Sender::Client, 0x8a, payload);
            assert_eq!(filtered(mark, [&*pong]), pong);
            assert_eq!(filtered(mark, pong.chunks(1)), pong);
        }
    }

    #[test]
    fn a_pong_that_is_cut_off_by_the_end_goes_through_as_far_as_it_came() {
        let mark = Mark::random();
        let pong = frame(Sender::Client, 0x8a, &mark.0);
        for cut in 0..pong.len() {
            assert_eq!(filtered(mark, [&pong[..cut]]), &pong[..cut]);
        }
    }

    #[test]
    fn a_ping_goes_only_between_frames() {
        let mark = Mark::random();
        let frames = every_kind(Sender::Server);
        let bytes = frames.concat();
        let mut starts = vec![0];
        starts.extend(frames.iter().scan(0, |end, frame| {
            *end += frame.len();
            Some(*end)
        }));
        let close = starts[frames.len() - 1];
        for cut in (0..1_500).chain(bytes.len() - 100..bytes.len()) {
            let mut gaps = Gaps::new();
            gaps.look(&bytes[..cut]).expect("legal frames");
            let next = starts
                .iter()
                .copied()
                .find(|start| *start >= cut && *start <= close);
            let looked = gaps.look(&bytes[cut..]).expect("legal frames");
            assert_eq!(looked.gap, next.map(|start| start - cut), "cut at {cut}");
        }
        // With the ping in the gap they are still legal frames.
        let mut gaps = Gaps::new();
        let (before, after) = bytes.split_at(starts[4]);
        let with = [before, &mark.ping(), after].concat();
        gaps.look(&with).expect("legal frames");
        assert!(gaps.is_closed() && !gaps.is_open(), "they end with a Close");
    }

    #[test]
    fn a_ping_or_a_close_of_the_upstream_asks_for_an_answer_once_it_is_whole() {
        for (first, asks) in [(0x89, true), (0x88, true), (0x8a, false), (0x81, false)] {
            let bytes = frame(Sender::Server, first, b"ab");
            let mut gaps = Gaps::new();
            let looked = gaps.look(&bytes[..3]).expect("legal frames");
            assert!(!looked.asks);
            let looked = gaps.look(&bytes[3..]).expect("legal frames");
            assert_eq!(looked.asks, asks, "{first:#x}");
        }
    }
}
