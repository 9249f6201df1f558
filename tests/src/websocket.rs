//! WebSockets byte by byte (RFC 6455): frames as each side sends them, legal or not.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

use crate::http::{Connection, Message};

/// The key that [`masked`] masks with.
pub const MASK: [u8; 4] = [0x11, 0x00, 0xff, 0x7e];

/// First bytes of whole messages.
pub const TEXT: u8 = 0x81;
/// See [`TEXT`].
pub const BINARY: u8 = 0x82;
/// See [`TEXT`].
pub const CLOSE: u8 = 0x88;
/// See [`TEXT`].
pub const PING: u8 = 0x89;
/// See [`TEXT`].
pub const PONG: u8 = 0x8a;

/// A request for a WebSocket at this path, with these more header lines.
#[must_use]
pub fn upgrade(path: &str, fields: &[&str]) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!(
        "GET {path} HTTP/1.1\r\nHost: example.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{fields}\r\n"
    )
}

/// The upstream's consent, with these more header lines.
#[must_use]
pub fn switching(fields: &[&str]) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n{fields}\r\n"
    )
}

/// The upstream's consent to this request, whatever its key is.
///
/// # Panics
///
/// When it has none.
#[must_use]
#[track_caller]
pub fn switching_for(request: &Message, fields: &[&str]) -> String {
    let key = request.header("sec-websocket-key").expect("it has a key");
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = STANDARD.encode(Sha1::digest(text));
    switching(fields).replace("ICX+Yqv66kxgM0FcWaLWlFLwTAI=", &accept)
}

/// A frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Whether it ends its message, reserved bits, and opcode.
    pub first: u8,
    /// Of a client's frame.
    pub mask: Option<[u8; 4]>,
    /// Unmasked.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The first byte and the payload as text.
    ///
    /// # Panics
    ///
    /// When it is not UTF-8.
    #[must_use]
    #[track_caller]
    pub fn text(&self) -> (u8, &str) {
        let text = std::str::from_utf8(&self.payload).expect("the payload is text");
        (self.first, text)
    }

    /// The code of a Close frame.
    ///
    /// # Panics
    ///
    /// When it is none, or says nothing.
    #[must_use]
    #[track_caller]
    pub fn close_code(&self) -> u16 {
        assert_eq!(self.first, CLOSE, "not a Close: {self:?}");
        let code = self.payload.first_chunk().expect("the Close has a code");
        u16::from_be_bytes(*code)
    }
}

/// A frame of a server.
#[must_use]
pub fn unmasked(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    [&head(first, payload.len()), payload].concat()
}

/// A frame of a client.
#[must_use]
pub fn masked(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut frame = head(first, payload.len());
    frame[1] |= 0x80;
    frame.extend(MASK);
    frame.extend(apply(payload, MASK));
    frame
}

/// What a Close frame holds.
#[must_use]
pub fn closing(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

fn head(first: u8, length: usize) -> Vec<u8> {
    let mut head = vec![first];
    match length {
        short @ 0..126 => head.push(short as u8),
        medium @ 126..0x1_0000 => {
            head.push(126);
            head.extend((medium as u16).to_be_bytes());
        }
        long => {
            head.push(127);
            head.extend((long as u64).to_be_bytes());
        }
    }
    head
}

fn apply(payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let keys = mask.iter().cycle();
    payload
        .iter()
        .zip(keys)
        .map(|(byte, key)| byte ^ key)
        .collect()
}

/// Reads one frame, of whichever side.
///
/// # Errors
///
/// When the peer ends, or sends nothing for long.
pub fn try_read(connection: &mut Connection) -> io::Result<Frame> {
    let head = connection.try_read_exact(2)?;
    let number = |bytes: Vec<u8>| {
        let number = bytes
            .iter()
            .fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
        usize::try_from(number).map_err(io::Error::other)
    };
    let length = match head[1] & 0x7f {
        126 => number(connection.try_read_exact(2)?)?,
        127 => number(connection.try_read_exact(8)?)?,
        short => usize::from(short),
    };
    let mask = match head[1] & 0x80 {
        0 => None,
        _ => connection.try_read_exact(4)?.first_chunk().copied(),
    };
    let payload = connection.try_read_exact(length)?;
    let payload = mask.map_or_else(|| payload.clone(), |mask| apply(&payload, mask));
    Ok(Frame {
        first: head[0],
        mask,
        payload,
    })
}

/// As [`try_read`].
///
/// # Panics
///
/// When there is no whole frame.
#[must_use]
#[track_caller]
pub fn read(connection: &mut Connection) -> Frame {
    try_read(connection).unwrap_or_else(|error| panic!("cannot read a frame: {error}"))
}
