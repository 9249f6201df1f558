//! Frames that the proxy writes itself (RFC 6455 §5.2).

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use witgate_runtime::{Close, Message};

use super::frame::{Opcode, Sender};

/// Writes whole messages as one frame each, as a client or a server has to.
#[derive(Debug)]
pub(super) struct Composer {
    keys: Option<MaskingKeys>,
}

/// A fresh masking key for every frame, which nobody who knows the earlier ones can tell (RFC 6455 §5.3): a keyed hash
/// (SipHash, the key from the system's source of randomness) of a count.
#[derive(Debug)]
struct MaskingKeys {
    hash: RandomState,
    count: Cell<u64>,
}

impl MaskingKeys {
    fn next(&self) -> [u8; 4] {
        let count = self.count.get();
        self.count.set(count + 1);
        let [a, b, c, d, ..] = self.hash.hash_one(count).to_be_bytes();
        [a, b, c, d]
    }
}

impl Composer {
    pub(super) fn new(sender: Sender) -> Self {
        let keys = || MaskingKeys {
            hash: RandomState::new(),
            count: Cell::new(0),
        };
        Self {
            keys: (sender == Sender::Client).then(keys),
        }
    }

    /// Appends a message.
    pub(super) fn message(&self, message: &Message, out: &mut Vec<u8>) {
        match message {
            Message::Text(text) => self.frame(Opcode::Text, text.as_bytes(), out),
            Message::Binary(bytes) => self.frame(Opcode::Binary, bytes, out),
            Message::Ping(payload) => self.frame(Opcode::Ping, payload, out),
            Message::Pong(payload) => self.frame(Opcode::Pong, payload, out),
            Message::Close(None) => self.frame(Opcode::Close, &[], out),
            Message::Close(Some(close)) => self.close(close, out),
        }
    }

    /// Appends a Close frame.
    pub(super) fn close(&self, close: &Close, out: &mut Vec<u8>) {
        let payload = [&close.code.to_be_bytes(), close.reason.as_bytes()].concat();
        self.frame(Opcode::Close, &payload, out);
    }

    /// Appends a whole frame that no other continues.
    pub(super) fn frame(&self, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
        const LAST: u8 = 0x80;
        let mask_bit = if self.keys.is_some() { 0x80 } else { 0 };
        out.reserve(payload.len() + 14);
        out.push(LAST | opcode.number());
        match payload.len() {
            short @ 0..=125 => out.push(mask_bit | short as u8),
            medium @ 126..=0xffff => {
                out.push(mask_bit | 126);
                out.extend((medium as u16).to_be_bytes());
            }
            long => {
                out.push(mask_bit | 127);
                out.extend((long as u64).to_be_bytes());
            }
        }
        let Some(keys) = &self.keys else {
            return out.extend(payload);
        };
        let key = keys.next();
        out.extend(key);
        let start = out.len();
        out.extend(payload);
        mask(&mut out[start..], key, 0);
    }
}

/// Masks or unmasks part of a payload (RFC 6455 §5.3); `offset` is where in the payload it begins.
pub(super) fn mask(bytes: &mut [u8], key: [u8; 4], offset: usize) {
    let turned: [u8; 4] = std::array::from_fn(|at| key[(offset + at) % 4]);
    let (quads, rest) = bytes.as_chunks_mut::<4>();
    let word = u32::from_ne_bytes(turned);
    for quad in quads {
        *quad = (u32::from_ne_bytes(*quad) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(turned) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::super::join::tests::joined;
    use super::*;

    #[test]
    fn what_is_composed_can_be_read_whatever_its_length() {
        for sender in [Sender::Client, Sender::Server] {
            let composer = Composer::new(sender);
            for length in [0, 1, 3, 4, 125, 126, 127, 0xffff, 0x1_0000] {
                let payload: Vec<u8> = (0..length).map(|n: u32| n as u8).collect();
                let mut bytes = Vec::new();
                composer.message(&Message::Binary(payload.clone()), &mut bytes);
                let frames = joined(sender, usize::MAX, bytes.chunks(1_000)).expect("legal");
                assert_eq!(frames.len(), 1);
                assert!(frames[0].payload == payload, "{length} of {sender:?}");
            }
        }
    }

    #[test]
    fn every_frame_of_a_client_has_a_key_of_its_own() {
        let composer = Composer::new(Sender::Client);
        let key = || {
            let mut bytes = Vec::new();
            composer.frame(Opcode::Text, b"", &mut bytes);
            bytes
        };
        let keys: std::collections::BTreeSet<_> = (0..100).map(|_| key()).collect();
        // Two of a hundred keys of 32 bits are the same once in a million runs; three never.
        assert!(keys.len() >= 98, "{keys:?}");
    }

    #[test]
    fn a_mask_goes_on_where_it_stopped() {
        let key = [1, 2, 3, 4];
        let whole: Vec<u8> = (0..50).collect();
        let mut masked = whole.clone();
        mask(&mut masked, key, 0);
        for cut in 0..whole.len() {
            let mut pieces = masked.clone();
            let (before, after) = pieces.split_at_mut(cut);
            mask(before, key, 0);
            mask(after, key, cut);
            assert_eq!(pieces, whole, "cut at {cut}");
        }
    }
}
