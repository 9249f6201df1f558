//! WebSocket frames as they pass (RFC 6455 §5.2): where each begins and ends, and what its header says.
//!
//! Payloads are counted, never copied or unmasked, so following a tunnel costs a few instructions per frame and no
//! memory beyond one header. Pieces may be cut anywhere, also within a header.

/// Which end of the connection sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// Masks every frame (RFC 6455 §5.1).
    Client,
    /// Masks none.
    Server,
}

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    /// Of a frame's first byte.
    fn of(first: u8) -> Result<Self, Malformed> {
        match first & 0x0f {
            0x0 => Ok(Self::Continuation),
            0x1 => Ok(Self::Text),
            0x2 => Ok(Self::Binary),
            0x8 => Ok(Self::Close),
            0x9 => Ok(Self::Ping),
            0xa => Ok(Self::Pong),
            reserved => Err(Malformed::Opcode(reserved)),
        }
    }

    /// As it stands in a frame's first byte.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }

    /// Control frames may stand between the frames of a message (RFC 6455 §5.5).
    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// A whole header. The three reserved bits are not judged: extensions such as permessage-deflate give them their
/// meaning, and the two ends may have agreed on those between themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The key of the payload's masking; of the client's frames only.
    pub(super) mask: Option<[u8; 4]>,
    /// Bytes that follow the header.
    pub(super) payload: u64,
    /// The message ends with this frame.
    pub(super) last: bool,
    /// Any of the reserved bits is set.
    pub(super) reserved: bool,
}

/// Why bytes are no WebSocket frames. Nothing that follows can be told apart from payload any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("a WebSocket frame has the reserved opcode {0:#x}")]
    Opcode(u8),
    #[error("a WebSocket frame from the client is not masked")]
    Unmasked,
    #[error("a WebSocket frame from the upstream is masked")]
    Masked,
    #[error("a WebSocket control frame is fragmented")]
    FragmentedControl,
    #[error("a WebSocket control frame's payload is over 125 bytes")]
    LongControl,
    #[error(
        "a WebSocket frame's length is 2^63 bytes or more, or is not written in the fewest bytes"
    )]
    Length,
    #[error("a WebSocket message begins within another one")]
    Interleaved,
    #[error("a WebSocket frame continues a message that did not begin")]
    NothingToContinue,
    #[error("a WebSocket frame has a reserved bit set, and no extension was agreed on")]
    Reserved,
}

/// What the first bytes of a piece are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// So many bytes; never 0.
    pub(super) taken: usize,
    /// Of the frame that they are part of.
    pub(super) opcode: Opcode,
    /// The frame's header, when these bytes complete it.
    pub(super) header: Option<Header>,
    /// Whether the frame ends with them.
    pub(super) ends: bool,
}

/// Follows the frames of one direction.
#[derive(Debug)]
pub(super) struct FrameReader {
    sender: Sender,
    place: Place,
    /// Between the first and the last frame of a message.
    in_message: bool,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// So many bytes of a header are there.
    Header {
        bytes: [u8; HEADER],
        have: usize,
    },
    Payload {
        opcode: Opcode,
        left: u64,
    },
}

/// The longest header: two bytes, a length of eight, a mask.
const HEADER: usize = 14;

const BOUNDARY: Place = Place::Header {
    bytes: [0; HEADER],
    have: 0,
};

impl FrameReader {
    /// At the start of the first frame.
    pub(super) fn new(sender: Sender) -> Self {
        Self {
            sender,
            place: BOUNDARY,
            in_message: false,
        }
    }

    /// Whether the next byte begins a frame, so that another frame could be put before it.
    pub(super) fn at_boundary(&self) -> bool {
        matches!(self.place, Place::Header { have: 0, .. })
    }

    /// Whether the next byte belongs to a header of which some bytes have been seen.
    pub(super) fn is_in_header(&self) -> bool {
        matches!(self.place, Place::Header { have: 1.., .. })
    }

    /// Whether a message has begun and not ended.
    pub(super) fn is_in_message(&self) -> bool {
        self.in_message
    }

    /// Goes on by one step: to the end of the frame, of its header, or of `bytes`, which must not be empty.
    ///
    /// # Errors
    ///
    /// When the bytes are no frames that this sender may send. The reader is of no use afterwards.
    pub(super) fn step(&mut self, bytes: &[u8]) -> Result<Step, Malformed> {
        match self.place {
            Place::Header { .. } => self.step_header(bytes),
            Place::Payload { opcode, left } => {
                let here = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                let left = left - here as u64;
                self.enter_payload(opcode, left);
                Ok(Step {
                    taken: here,
                    opcode,
                    header: None,
                    ends: left == 0,
                })
            }
        }
    }

    fn step_header(&mut self, bytes: &[u8]) -> Result<Step, Malformed> {
        let Place::Header {
            bytes: mut header,
            mut have,
        } = self.place
        else {
            unreachable!("only called within a header");
        };
        let mut taken = 0;
        // The first two bytes say how long the header is.
        for known in [2, HEADER] {
            let wanted = if known == 2 { 2 } else { length_of(header[1]) };
            let here = wanted.saturating_sub(have).min(bytes.len() - taken);
            header[have..have + here].copy_from_slice(&bytes[taken..taken + here]);
            have += here;
            taken += here;
            if have < wanted {
                self.place = Place::Header {
                    bytes: header,
                    have,
                };
                return Ok(Step {
                    taken,
                    opcode: Opcode::of(header[0])?,
                    header: None,
                    ends: false,
                });
            }
        }
        let (opcode, whole) = self.check(&header[..have])?;
        self.enter_payload(opcode, whole.payload);
        Ok(Step {
            taken,
            opcode,
            header: Some(whole),
            ends: whole.payload == 0,
        })
    }

    fn enter_payload(&mut self, opcode: Opcode, left: u64) {
        self.place = match left {
            0 => BOUNDARY,
            left => Place::Payload { opcode, left },
        };
    }

    /// Reads a whole header, and notes what it means for the message.
    fn check(&mut self, bytes: &[u8]) -> Result<(Opcode, Header), Malformed> {
        let opcode = Opcode::of(bytes[0])?;
        let last = bytes[0] & 0x80 != 0;
        let payload = payload(bytes)?;
        let mask = match (bytes[1] & 0x80 != 0, self.sender) {
            (true, Sender::Client) => bytes.last_chunk::<4>().copied(),
            (false, Sender::Server) => None,
            (false, Sender::Client) => return Err(Malformed::Unmasked),
            (true, Sender::Server) => return Err(Malformed::Masked),
        };
        if opcode.is_control() {
            if !last {
                return Err(Malformed::FragmentedControl);
            }
            if payload > 125 {
                return Err(Malformed::LongControl);
            }
        } else {
            match (opcode, self.in_message) {
                (Opcode::Continuation, false) => return Err(Malformed::NothingToContinue),
                (Opcode::Text | Opcode::Binary, true) => return Err(Malformed::Interleaved),
                _ => self.in_message = !last,
            }
        }
        let header = Header {
            mask,
            payload,
            last,
            reserved: bytes[0] & 0x70 != 0,
        };
        Ok((opcode, header))
    }
}

/// Of the header, by its second byte.
fn length_of(second: u8) -> usize {
    let extended = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask = if second & 0x80 != 0 { 4 } else { 0 };
    2 + extended + mask
}

fn payload(header: &[u8]) -> Result<u64, Malformed> {
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let (length, least, most) = match header[1] & 0x7f {
        126 => (number(&header[2..4]), 126, 0xffff),
        127 => (number(&header[2..10]), 0x1_0000, i64::MAX as u64),
        short => (u64::from(short), 0, 125),
    };
    (least..=most)
        .contains(&length)
        .then_some(length)
        .ok_or(Malformed::Length)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const MASK: [u8; 4] = [0xa5, 0x01, 0xff, 0x3c];

    /// One frame; `first` is its first byte. The client's are masked.
    pub(in super::super) fn frame(sender: Sender, first: u8, payload: &[u8]) -> Vec<u8> {
        let mask_bit = match sender {
            Sender::Client => 0x80,
            Sender::Server => 0,
        };
        let mut bytes = vec![first];
        match payload.len() {
            short @ 0..=125 => bytes.push(mask_bit | short as u8),
            medium @ 126..=0xffff => {
                bytes.push(mask_bit | 126);
                bytes.extend((medium as u16).to_be_bytes());
            }
            long => {
                bytes.push(mask_bit | 127);
                bytes.extend((long as u64).to_be_bytes());
            }
        }
        match sender {
            Sender::Client => {
                bytes.extend(MASK);
                let masked = payload.iter().zip(MASK.iter().cycle());
                bytes.extend(masked.map(|(byte, key)| byte ^ key));
            }
            Sender::Server => bytes.extend(payload),
        }
        bytes
    }

    /// Frames of all kinds and of every form of length, with payloads that look like frames.
    pub(in super::super) fn every_kind(sender: Sender) -> Vec<Vec<u8>> {
        let frame = |first, payload: &[u8]| frame(sender, first, payload);
        vec![
            frame(0x81, b"text"),
            frame(0x89, b""),
            frame(0x82, b""),
            frame(0x01, b"first of three"),
            frame(0x8a, &[0x81, 0x80, 0x8a, 0x00]), // a pong between the frames of a message
            frame(0x00, &[]),
            frame(0x89, &[0x8a; 125]),
            frame(0x80, b"last"),
            frame(0xc1, &[0x89; 126]), // compressed by permessage-deflate: RSV1
            frame(0x82, &[0x81; 300]),
            frame(0xf2, &[0x88; 0x1_0000]),
            frame(0x88, &[0x03, 0xe8]),
        ]
    }

    /// Steps through `bytes` in the given pieces; gives the place of every frame's end, and every header.
    fn follow<'a>(
        sender: Sender,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(Vec<usize>, Vec<Header>), Malformed> {
        let mut reader = FrameReader::new(sender);
        let (mut at, mut ends, mut headers) = (0, Vec::new(), Vec::new());
        for mut piece in pieces {
            while !piece.is_empty() {
                let step = reader.step(piece)?;
                assert!(step.taken > 0, "it goes on");
                assert_eq!(step.ends, reader.at_boundary());
                piece = &piece[step.taken..];
                at += step.taken;
                headers.extend(step.header);
                if step.ends {
                    ends.push(at);
                }
            }
        }
        Ok((ends, headers))
    }

    fn ends_of(frames: &[Vec<u8>]) -> Vec<usize> {
        let mut end = 0;
        let ends = frames.iter().map(|frame| {
            end += frame.len();
            end
        });
        ends.collect()
    }

    #[test]
    fn frames_end_where_they_end_however_they_are_cut() {
        for sender in [Sender::Client, Sender::Server] {
            let frames = every_kind(sender);
            let (bytes, expected) = (frames.concat(), ends_of(&frames));
            let whole = follow(sender, [&*bytes]).expect("legal frames");
            assert_eq!(whole.0, expected);
            let one_by_one = follow(sender, bytes.chunks(1)).expect("legal frames");
            assert_eq!(one_by_one, whole);
            for cut in (0..2_000).chain(bytes.len() - 2_000..bytes.len()) {
                let (before, after) = bytes.split_at(cut);
                assert_eq!(
                    follow(sender, [before, after]),
                    Ok(whole.clone()),
                    "cut at {cut}"
                );
            }
            for size in 2..200 {
                assert_eq!(
                    follow(sender, bytes.chunks(size)),
                    Ok(whole.clone()),
                    "{size} at a time"
                );
            }
        }
    }

    #[test]
    fn a_header_tells_mask_and_length() {
        let lengths = [0, 1, 125, 126, 127, 0xffff, 0x1_0000];
        for length in lengths {
            for (sender, mask) in [(Sender::Client, Some(MASK)), (Sender::Server, None)] {
                let bytes = frame(sender, 0x82, &vec![7; length]);
                let (_, headers) = follow(sender, [&*bytes]).expect("a legal frame");
                let payload = length as u64;
                let [header] = headers[..] else {
                    panic!("not one header: {headers:?}");
                };
                assert_eq!((header.mask, header.payload), (mask, payload));
                assert!(header.last && !header.reserved);
            }
        }
    }

    #[test]
    fn the_longest_length_is_counted_and_not_waited_for() {
        let mut reader = FrameReader::new(Sender::Server);
        let longest = [&[0x82, 127][..], &i64::MAX.to_be_bytes()].concat();
        let step = reader.step(&longest).expect("a legal header");
        let payload = i64::MAX as u64;
        assert_eq!(
            step.header,
            Some(Header {
                mask: None,
                payload,
                last: true,
                reserved: false,
            })
        );
        let step = reader.step(&[0; 100]).expect("payload");
        assert_eq!((step.taken, step.ends), (100, false));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let client = |bytes: &[u8]| follow(Sender::Client, [bytes]).map(drop);
        let server = |bytes: &[u8]| follow(Sender::Server, [bytes]).map(drop);
        for reserved in [0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf] {
            assert_eq!(server(&[0x80 | reserved]), Err(Malformed::Opcode(reserved)));
        }
        assert_eq!(client(&[0x81, 0x01, b'a']), Err(Malformed::Unmasked));
        assert_eq!(server(&[0x81, 0x81, 0, 0, 0, 0]), Err(Malformed::Masked));
        assert_eq!(server(&[0x09, 0x00]), Err(Malformed::FragmentedControl));
        let long_ping = frame(Sender::Server, 0x89, &[0; 126]);
        assert_eq!(server(&long_ping), Err(Malformed::LongControl));
        for length in [&[126, 0, 125][..], &[127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]] {
            assert_eq!(server(&[&[0x82], length].concat()), Err(Malformed::Length));
        }
        let too_long = [&[0x82, 127][..], &(1u64 << 63).to_be_bytes()].concat();
        assert_eq!(server(&too_long), Err(Malformed::Length));
        assert_eq!(server(&[0x01, 0, 0x81, 0]), Err(Malformed::Interleaved));
        assert_eq!(server(&[0x80, 0]), Err(Malformed::NothingToContinue));
    }

    #[test]
    fn any_bytes_end_in_frames_or_a_refusal() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            // xorshift64: the same bytes at every run.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let (mut refused, mut followed) = (0, 0);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..next() % 24).map(|_| next() as u8).collect();
            let sender = match next() % 2 {
                0 => Sender::Client,
                _ => Sender::Server,
            };
            let whole = follow(sender, [&*bytes]);
            assert_eq!(follow(sender, bytes.chunks(1)), whole, "{bytes:?}");
            match whole {
                Ok(_) => followed += 1,
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 1_000 && followed > 1_000, "{refused} {followed}");
    }
}
