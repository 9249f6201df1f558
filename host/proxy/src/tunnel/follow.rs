//! Frames of the upstream that nobody looks at: sent on as they are, with places known at which others may be put.

use std::borrow::Cow;

use super::frame::{FrameReader, Malformed, Opcode, Sender};

/// Follows the upstream's frames. What it sends on always ends within a payload or between two frames, never within a
/// header, so that a frame which turns out to be none has not begun for the client.
#[derive(Debug)]
pub(super) struct Follower {
    frames: FrameReader,
    /// The beginning of a header, at most 13 bytes.
    held: Vec<u8>,
    /// The upstream has sent its Close, or what is no frame; nothing may follow.
    ended: bool,
}

/// What is in the bytes that may be sent on.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Followed {
    /// The first place in them between two frames.
    pub(super) frame_gap: Option<usize>,
    /// The first place in them between two messages.
    pub(super) message_gap: Option<usize>,
    /// A Ping or a Close, which the client has to answer, ends in them.
    pub(super) asks: bool,
    /// The upstream's Close ends them.
    pub(super) closes: bool,
    /// What comes behind them is no frame.
    pub(super) malformed: Option<Malformed>,
}

impl Follower {
    pub(super) fn new() -> Self {
        Self {
            frames: FrameReader::new(Sender::Server),
            held: Vec::new(),
            ended: false,
        }
    }

    /// Whether what was sent on ends between two frames.
    pub(super) fn is_between_frames(&self) -> bool {
        self.ended || self.frames.at_boundary() || self.frames.is_in_header()
    }

    /// Whether it ends between two messages.
    pub(super) fn is_between_messages(&self) -> bool {
        self.is_between_frames() && !self.frames.is_in_message()
    }

    /// Takes the next bytes of the upstream and gives those that may be sent on. After its Close these are none.
    pub(super) fn follow<'a>(&mut self, piece: &'a [u8]) -> (Cow<'a, [u8]>, Followed) {
        let mut followed = Followed::default();
        let held = self.held.len();
        // Up to here the bytes, with the held ones before them, may go.
        let (mut at, mut safe) = (0, 0);
        while at < piece.len() && !self.ended {
            self.note_gaps(safe, &mut followed);
            match self.frames.step(&piece[at..]) {
                Ok(step) if step.header.is_none_or(|header| !header.reserved) => {
                    at += step.taken;
                    if !self.frames.is_in_header() {
                        safe = held + at;
                    }
                    let asks = matches!(step.opcode, Opcode::Ping | Opcode::Close);
                    followed.asks |= asks && step.ends;
                    followed.closes = step.opcode == Opcode::Close && step.ends;
                    self.ended = followed.closes;
                }
                Ok(_) => followed.malformed = Some(Malformed::Reserved),
                Err(malformed) => followed.malformed = Some(malformed),
            }
            self.ended |= followed.malformed.is_some();
        }
        if !followed.closes {
            self.note_gaps(safe, &mut followed);
        }
        (self.release(piece, at, safe), followed)
    }

    fn note_gaps(&self, at: usize, followed: &mut Followed) {
        if followed.frame_gap.is_none() && self.is_between_frames() {
            followed.frame_gap = Some(at);
        }
        if followed.message_gap.is_none() && self.is_between_messages() {
            followed.message_gap = Some(at);
        }
    }

    /// The held bytes and `piece`, up to `safe`; holds what is behind it, up to `at` of the piece.
    fn release<'a>(&mut self, piece: &'a [u8], at: usize, safe: usize) -> Cow<'a, [u8]> {
        if self.held.is_empty() {
            let (now, later) = piece[..at].split_at(safe);
            if !self.ended {
                self.held = later.to_vec();
            }
            return Cow::Borrowed(now);
        }
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend(&piece[..at]);
        let later = bytes.split_off(safe);
        if !self.ended {
            self.held = later;
        }
        Cow::Owned(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::tests::{every_kind, frame};
    use super::*;

    fn plain() -> Vec<Vec<u8>> {
        let frames = every_kind(Sender::Server).into_iter();
        frames.filter(|frame| frame[0] & 0x70 == 0).collect()
    }

    #[test]
    fn everything_passes_however_it_is_cut() {
        let bytes = plain().concat();
        for size in 1..600 {
            let mut follower = Follower::new();
            let mut out: Vec<u8> = Vec::new();
            for piece in bytes.chunks(size) {
                let (passed, followed) = follower.follow(piece);
                assert_eq!(followed.malformed, None);
                out.extend(&*passed);
            }
            assert!(out == bytes, "{size} at a time");
        }
    }

    #[test]
    fn a_frame_in_a_gap_leaves_all_frames_whole() {
        let bytes = plain().concat();
        let other = frame(Sender::Server, 0x81, b"between");
        for cut in 0..bytes.len() {
            for messages in [false, true] {
                let mut follower = Follower::new();
                let mut out: Vec<u8> = Vec::new();
                let mut put = false;
                for piece in [&bytes[..cut], &bytes[cut..]] {
                    let (passed, followed) = follower.follow(piece);
                    let gap = match messages {
                        true => followed.message_gap,
                        false => followed.frame_gap,
                    };
                    match gap.filter(|_| !put && !piece.is_empty()) {
                        Some(gap) => {
                            out.extend(&passed[..gap]);
                            out.extend(&other);
                            out.extend(&passed[gap..]);
                            put = true;
                        }
                        None => out.extend(&*passed),
                    }
                }
                assert!(put && out.len() == bytes.len() + other.len());
                if messages {
                    let (_, followed) = Follower::new().follow(&out);
                    assert_eq!(followed.malformed, None, "cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn a_frame_that_is_none_has_not_begun_for_the_client() {
        let good = frame(Sender::Server, 0x81, b"good");
        for bad in [
            frame(Sender::Client, 0x81, b"masked"),
            frame(Sender::Server, 0xc1, b"reserved"),
            frame(Sender::Server, 0x83, b"opcode"),
        ] {
            let bytes = [&good[..], &bad].concat();
            for size in 1..bytes.len() {
                let mut follower = Follower::new();
                let mut out: Vec<u8> = Vec::new();
                let mut refused = false;
                for piece in bytes.chunks(size) {
                    let (passed, followed) = follower.follow(piece);
                    out.extend(&*passed);
                    refused |= followed.malformed.is_some();
                }
                assert!(refused && follower.is_between_frames());
                assert_eq!(out, good, "{size} at a time");
            }
        }
    }

    #[test]
    fn nothing_passes_after_a_close() {
        let close = frame(Sender::Server, 0x88, &[0x03, 0xe8]);
        let bytes = [&close[..], b"any bytes"].concat();
        let mut follower = Follower::new();
        let (passed, followed) = follower.follow(&bytes);
        assert!(followed.closes && followed.asks);
        assert_eq!(&*passed, close);
        assert_eq!(&*follower.follow(b"more").0, b"");
    }

    #[test]
    fn within_a_fragmented_message_only_control_frames_fit() {
        let mut follower = Follower::new();
        let first = frame(Sender::Server, 0x01, b"first");
        let (_, followed) = follower.follow(&first);
        assert_eq!(
            (followed.frame_gap, followed.message_gap),
            (Some(0), Some(0))
        );
        assert!(follower.is_between_frames() && !follower.is_between_messages());
        let last = frame(Sender::Server, 0x80, b"last");
        let (_, followed) = follower.follow(&last);
        let end = Some(last.len());
        assert_eq!((followed.frame_gap, followed.message_gap), (Some(0), end));
    }
}
