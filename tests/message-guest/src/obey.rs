//! Does what a text's first word says.

use witgate_plugin::{CloseReason, Failure, Message, MessageVerdict};

pub(crate) fn on_message(name: &str, message: Message) -> Result<MessageVerdict, Failure> {
    let text = match &message {
        Message::Text(text) => text,
        Message::Ping(payload) if payload == b"answer" => {
            return Ok(MessageVerdict::Reply(Message::Pong(name.into())));
        }
        Message::Close(Some(close)) if close.code == 4000 => {
            let other = CloseReason::new(4001, format!("{}, {name}", close.reason));
            return Ok(MessageVerdict::Replace(Message::Close(Some(other))));
        }
        _ => return Ok(MessageVerdict::Forward),
    };
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    Ok(match word {
        "sign" => MessageVerdict::Replace(Message::Text(format!("{text} {name}"))),
        "drop" => MessageVerdict::Drop,
        "reply" => MessageVerdict::Reply(Message::Text(format!("sign {rest}"))),
        "ask" if rest == name => MessageVerdict::Reply(Message::Text("sign".into())),
        "close" => MessageVerdict::Close(CloseReason::new(4321, rest)),
        _ => MessageVerdict::Forward,
    })
}
