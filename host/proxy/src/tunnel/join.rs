//! Frames joined to messages (RFC 6455 §5.4), unmasked.

use witgate_runtime::{Close, Message};

use super::compose::mask;
use super::frame::{FrameReader, Header, Malformed, Opcode, Sender};

/// A message, or a control frame, whose content nobody has judged yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Joined {
    /// Never `Continuation`.
    pub(super) opcode: Opcode,
    pub(super) payload: Vec<u8>,
}

/// What is wrong with what an end sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(
        "a WebSocket message is over {0} bytes (`limits.message` of a plugin that looks at it)"
    )]
    TooLong(usize),
    #[error("a WebSocket text is not UTF-8")]
    NotUtf8,
    #[error("a WebSocket Close frame has an illegal code, or half of one")]
    BadClose,
}

impl Fault {
    /// What both ends are told (RFC 6455 §7.4.1).
    pub(super) fn close(self) -> Close {
        let (code, reason) = match self {
            Self::Malformed(_) | Self::BadClose => (1002, "protocol error".into()),
            Self::NotUtf8 => (1007, "text is not UTF-8".into()),
            Self::TooLong(limit) => (1009, format!("message over {limit} bytes")),
        };
        Close { code, reason }
    }
}

/// Joins the frames of one direction. Between two messages it holds no memory.
#[derive(Debug)]
pub(super) struct Joiner {
    frames: FrameReader,
    limit: usize,
    message: Option<Joined>,
    control: Vec<u8>,
    /// The present frame's.
    header: Option<Header>,
    /// Bytes of its payload that have come.
    come: usize,
    /// The sender's Close has come: what follows it means nothing (RFC 6455 §5.5.1).
    closed: bool,
}

impl Joiner {
    pub(super) fn new(sender: Sender, limit: usize) -> Self {
        Self {
            frames: FrameReader::new(sender),
            limit,
            message: None,
            control: Vec::new(),
            header: None,
            come: 0,
            closed: false,
        }
    }

    /// Takes the next bytes, and appends what they complete.
    ///
    /// # Errors
    ///
    /// When the bytes are no frames that may be sent. What came before is in `out`; the joiner is of no use afterwards.
    pub(super) fn take(&mut self, mut bytes: &[u8], out: &mut Vec<Joined>) -> Result<(), Fault> {
        while !bytes.is_empty() && !self.closed {
            let step = self.frames.step(bytes)?;
            let (piece, rest) = bytes.split_at(step.taken);
            bytes = rest;
            match step.header {
                Some(header) => self.begin(step.opcode, header)?,
                None if self.header.is_some() => self.add(step.opcode, piece),
                None => {}
            }
            if step.ends {
                self.end(step.opcode, out);
            }
        }
        Ok(())
    }

    fn begin(&mut self, opcode: Opcode, header: Header) -> Result<(), Fault> {
        if header.reserved {
            return Err(Malformed::Reserved.into());
        }
        if !opcode.is_control() {
            let joined = self.message.as_ref().map_or(0, |m| m.payload.len() as u64);
            if joined.saturating_add(header.payload) > self.limit as u64 {
                return Err(Fault::TooLong(self.limit));
            }
            if opcode != Opcode::Continuation {
                let payload = Vec::new();
                self.message = Some(Joined { opcode, payload });
            }
        }
        self.header = Some(header);
        self.come = 0;
        Ok(())
    }

    fn add(&mut self, opcode: Opcode, piece: &[u8]) {
        let payload = match &mut self.message {
            Some(message) if !opcode.is_control() => &mut message.payload,
            _ => &mut self.control,
        };
        let start = payload.len();
        payload.extend(piece);
        if let Some(key) = self.header.and_then(|header| header.mask) {
            mask(&mut payload[start..], key, self.come);
        }
        self.come += piece.len();
    }

    fn end(&mut self, opcode: Opcode, out: &mut Vec<Joined>) {
        let last = self.header.take().is_some_and(|header| header.last);
        if opcode.is_control() {
            self.closed = opcode == Opcode::Close;
            let payload = std::mem::take(&mut self.control);
            out.push(Joined { opcode, payload });
        } else if last {
            out.extend(self.message.take());
        }
    }
}

impl Joined {
    /// What a plugin is shown.
    pub(super) fn read(self) -> Result<Message, Fault> {
        let text = |bytes| String::from_utf8(bytes).map_err(|_| Fault::NotUtf8);
        Ok(match self.opcode {
            Opcode::Text => Message::Text(text(self.payload)?),
            Opcode::Binary | Opcode::Continuation => Message::Binary(self.payload),
            Opcode::Ping => Message::Ping(self.payload),
            Opcode::Pong => Message::Pong(self.payload),
            Opcode::Close => match &self.payload[..] {
                [] => Message::Close(None),
                [high, low, reason @ ..] => {
                    let code = u16::from_be_bytes([*high, *low]);
                    if !Close::is_legal_code(code) {
                        return Err(Fault::BadClose);
                    }
                    let reason = text(reason.to_vec())?;
                    Message::Close(Some(Close { code, reason }))
                }
                [_] => return Err(Fault::BadClose),
            },
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::frame::tests::{every_kind, frame};
    use super::*;

    /// What comes out for these pieces.
    pub(in super::super) fn joined<'a>(
        sender: Sender,
        limit: usize,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<Joined>, Fault> {
        let mut joiner = Joiner::new(sender, limit);
        let mut out = Vec::new();
        for piece in pieces {
            joiner.take(piece, &mut out)?;
        }
        Ok(out)
    }

    /// Without the frames that have reserved bits.
    fn plain(sender: Sender) -> Vec<Vec<u8>> {
        let frames = every_kind(sender).into_iter();
        frames.filter(|frame| frame[0] & 0x70 == 0).collect()
    }

    #[test]
    fn fragments_are_joined_around_control_frames_however_the_bytes_are_cut() {
        for sender in [Sender::Client, Sender::Server] {
            let bytes = plain(sender).concat();
            let whole = joined(sender, usize::MAX, [&*bytes]).expect("legal frames");
            let seen: Vec<(Opcode, usize)> =
                whole.iter().map(|j| (j.opcode, j.payload.len())).collect();
            let expected = [
                (Opcode::Text, 4),
                (Opcode::Ping, 0),
                (Opcode::Binary, 0),
                (Opcode::Pong, 4),
                (Opcode::Ping, 125),
                (Opcode::Text, "first of threelast".len()),
                (Opcode::Binary, 300),
                (Opcode::Close, 2),
            ];
            assert_eq!(seen, expected);
            assert_eq!(whole[5].payload, b"first of threelast");
            for size in 1..300 {
                let pieces = joined(sender, usize::MAX, bytes.chunks(size)).expect("legal frames");
                assert!(pieces == whole, "{size} at a time");
            }
        }
    }

    #[test]
    fn a_message_over_the_limit_is_refused_at_its_header_and_one_at_the_limit_is_not() {
        let long = frame(Sender::Client, 0x81, &[b'a'; 200]);
        assert!(joined(Sender::Client, 200, [&*long]).is_ok());
        let header = &long[..8];
        assert_eq!(
            joined(Sender::Client, 199, [header]),
            Err(Fault::TooLong(199))
        );
        let fragments = [
            frame(Sender::Server, 0x01, &[b'a'; 60]),
            frame(Sender::Server, 0x89, &[b'a'; 60]),
            frame(Sender::Server, 0x80, &[b'a'; 60]),
        ];
        let bytes = fragments.concat();
        assert!(joined(Sender::Server, 120, [&*bytes]).is_ok());
        let refused = joined(Sender::Server, 119, [&*bytes]);
        assert_eq!(refused, Err(Fault::TooLong(119)));
    }

    #[test]
    fn a_reserved_bit_is_refused_and_what_came_before_is_there() {
        let bytes = [
            frame(Sender::Client, 0x81, b"fine"),
            frame(Sender::Client, 0xc1, b"compressed"),
        ];
        let mut joiner = Joiner::new(Sender::Client, usize::MAX);
        let mut out = Vec::new();
        let fault = joiner.take(&bytes.concat(), &mut out);
        assert_eq!(fault, Err(Malformed::Reserved.into()));
        assert_eq!(out.len(), 1);
    }

    #[test]
    fn nothing_counts_after_a_close() {
        let close = frame(Sender::Client, 0x88, &[]);
        let bytes = [close, b"any bytes".to_vec()].concat();
        let out = joined(Sender::Client, usize::MAX, [&*bytes]).expect("the close is legal");
        assert_eq!(out.len(), 1);
    }

    #[test]
    fn what_a_plugin_is_shown_is_valid() {
        let read = |opcode, payload: &[u8]| {
            let payload = payload.to_vec();
            Joined { opcode, payload }.read()
        };
        assert_eq!(read(Opcode::Text, b"\xff"), Err(Fault::NotUtf8));
        let surrogate = b"\xed\xa0\x80";
        assert_eq!(read(Opcode::Text, surrogate), Err(Fault::NotUtf8));
        assert_eq!(read(Opcode::Close, b""), Ok(Message::Close(None)));
        for bad in [&b"\x03"[..], b"\x03\xed", b"\x00\x00"] {
            assert_eq!(read(Opcode::Close, bad), Err(Fault::BadClose), "{bad:?}");
        }
        assert_eq!(read(Opcode::Close, b"\x03\xe8\xff"), Err(Fault::NotUtf8));
        let reason = "bye".into();
        let said = Close { code: 1000, reason };
        let read = read(Opcode::Close, b"\x03\xe8bye");
        assert_eq!(read, Ok(Message::Close(Some(said))));
    }
}
