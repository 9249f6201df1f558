//! Frames beside a plain reading of RFC 6455 §5.2, however they are cut.

use super::follow::Follower;
use super::frame::{Opcode, Sender};
use super::join::{Joined, Joiner};
use crate::fuzzing::pieces;

/// What messages may have here.
const LIMIT: usize = 100_000;

/// Joins and follows any bytes as frames of either end.
pub fn frames(data: &[u8]) {
    let Some((bytes, pieces)) = pieces(data) else {
        return;
    };
    for sender in [Sender::Client, Sender::Server] {
        let expected = read(sender, bytes);
        let mut joiner = Joiner::new(sender, LIMIT);
        let mut joined = Vec::new();
        let fault = pieces
            .iter()
            .find_map(|piece| joiner.take(&bytes[piece.clone()], &mut joined).err());
        assert_eq!(joined, expected.messages, "of the {sender:?}");
        assert_eq!(
            fault.is_some(),
            expected.is_fault,
            "{fault:?} of the {sender:?}"
        );
        for message in joined {
            // Whether a text is UTF-8 and a Close legal is told, never a panic.
            let _judged = message.read();
        }
    }
    let mut follower = Follower::new();
    let mut passed: Vec<u8> = Vec::new();
    for piece in &pieces {
        let (now, followed) = follower.follow(&bytes[piece.clone()]);
        let gaps = [followed.frame_gap, followed.message_gap];
        assert!(gaps.iter().flatten().all(|gap| *gap <= now.len()));
        passed.extend(&*now);
    }
    assert!(
        bytes.starts_with(&passed),
        "what is followed is not changed"
    );
    let mut at_once = Follower::new();
    assert_eq!(
        passed,
        *at_once.follow(bytes).0,
        "it depends on where the bytes are cut"
    );
}

/// What the bytes hold.
#[derive(Default)]
struct Expected {
    messages: Vec<Joined>,
    is_fault: bool,
}

fn read(sender: Sender, mut bytes: &[u8]) -> Expected {
    let mut expected = Expected::default();
    let mut open: Option<(Opcode, Vec<u8>)> = None;
    loop {
        match next(sender, open.as_mut(), bytes) {
            Next::Frame {
                first,
                payload,
                taken,
            } => {
                bytes = &bytes[taken..];
                let opcode = opcode(first).expect("it was judged");
                let last = first & 0x80 != 0;
                if opcode.is_control() {
                    expected.messages.push(Joined { opcode, payload });
                    if opcode == Opcode::Close {
                        return expected;
                    }
                    continue;
                }
                let (_, content) = open.get_or_insert((opcode, Vec::new()));
                content.extend(payload);
                if last {
                    let (opcode, payload) = open.take().expect("it was just put there");
                    expected.messages.push(Joined { opcode, payload });
                }
            }
            Next::Fault => {
                expected.is_fault = true;
                return expected;
            }
            Next::More => return expected,
        }
    }
}

enum Next {
    Frame {
        first: u8,
        payload: Vec<u8>,
        taken: usize,
    },
    Fault,
    /// The frame is not all there, and what is there of it has nothing wrong.
    More,
}

fn opcode(first: u8) -> Option<Opcode> {
    Some(match first & 0x0f {
        0 => Opcode::Continuation,
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        _ => return None,
    })
}

fn next(sender: Sender, open: Option<&mut (Opcode, Vec<u8>)>, bytes: &[u8]) -> Next {
    let Some(&first) = bytes.first() else {
        return Next::More;
    };
    let Some(opcode) = opcode(first) else {
        return Next::Fault;
    };
    let Some(&second) = bytes.get(1) else {
        return Next::More;
    };
    let (masked, short) = (second & 0x80 != 0, u64::from(second & 0x7f));
    let width = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let start = 2 + width + if masked { 4 } else { 0 };
    let Some(head) = bytes.get(..start) else {
        return Next::More;
    };
    let number = head[2..2 + width]
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte));
    let length = if width == 0 { short } else { number };
    let least = match width {
        0 => 0,
        2 => 126,
        _ => 65_536,
    };
    let so_far = open.as_ref().map_or(0, |(_, content)| content.len() as u64);
    let is_fault = length < least
        || length >> 63 != 0
        || masked != (sender == Sender::Client)
        || first & 0x70 != 0
        || match opcode {
            Opcode::Continuation => open.is_none(),
            Opcode::Text | Opcode::Binary => open.is_some(),
            _ => first & 0x80 == 0 || length > 125,
        }
        || !opcode.is_control() && so_far + length > LIMIT as u64;
    if is_fault {
        return Next::Fault;
    }
    let Some(payload) =
        bytes[start..].get(..usize::try_from(length).expect("it is under the limit"))
    else {
        return Next::More;
    };
    let key = if masked { &head[start - 4..] } else { &[0; 4] };
    let payload = payload
        .iter()
        .zip(key.iter().cycle())
        .map(|(byte, key)| byte ^ key)
        .collect();
    Next::Frame {
        first,
        payload,
        taken: start + length as usize,
    }
}
