//! A plugin that does with the messages of WebSockets what they say (`obey.rs`), or misbehaves on the text `bad` in the
//! way its configuration says.
//!
//! One misbehaviour is one file. Each has a test in `tests/tests/message_guests.rs` that says what both ends, the
//! neighbours and the log see; a file without one fails that test.

mod drop_close;
mod forge_close_code;
mod give_up;
mod obey;
mod outgrow_message;
mod panic;
mod panic_at_upgrade;
mod reply_to_all;
mod spin;

use serde::Deserialize;
use witgate_plugin::{
    ConfigErrors, Direction, Exchange, Failure, Inspection, Message, MessageHook, MessageVerdict,
    Messages, Plugin, Request, Response,
};

/// `config`
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// What it leaves on messages that it changes.
    #[serde(default)]
    name: String,
    #[serde(default)]
    wants: Wants,
    #[serde(default)]
    control: bool,
    /// The name of a file beside this one, with dashes.
    #[serde(default)]
    behaviour: Behaviour,
}

#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "kebab-case")]
enum Wants {
    Nothing,
    #[default]
    ToUpstream,
    ToClient,
    BothWays,
}

#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "kebab-case")]
enum Behaviour {
    #[default]
    Obey,
    DropClose,
    ForgeCloseCode,
    GiveUp,
    OutgrowMessage,
    Panic,
    PanicAtUpgrade,
    ReplyToAll,
    Spin,
}

/// The plugin.
pub struct Guest(Config);

impl Plugin for Guest {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
        Ok(Self(config))
    }
}

impl MessageHook for Guest {
    fn on_upgrade(
        &self,
        exchange: &Exchange,
        request: &Request,
        response: &Response,
    ) -> Result<Option<Inspection>, Failure> {
        exchange.set_attribute("upgraded", &response.status().to_string())?;
        if let Behaviour::PanicAtUpgrade = self.0.behaviour {
            panic_at_upgrade::on_upgrade(request);
        }
        let socket = Socket {
            name: self.0.name.clone(),
            behaviour: self.0.behaviour,
        };
        let wanted = match self.0.wants {
            Wants::Nothing => return Ok(None),
            Wants::ToUpstream => Inspection::to_upstream(socket),
            Wants::ToClient => Inspection::to_client(socket),
            Wants::BothWays => Inspection::both_ways(socket),
        };
        Ok(Some(match self.0.control {
            true => wanted.with_control(),
            false => wanted,
        }))
    }
}

struct Socket {
    name: String,
    behaviour: Behaviour,
}

impl Messages for Socket {
    fn on_message(&mut self, _: Direction, message: Message) -> Result<MessageVerdict, Failure> {
        let is_bad = message == Message::Text("bad".into());
        match self.behaviour {
            Behaviour::ReplyToAll => Ok(reply_to_all::on_message()),
            Behaviour::DropClose => Ok(drop_close::on_message(&message)),
            _ if !is_bad => obey::on_message(&self.name, message),
            Behaviour::Obey | Behaviour::PanicAtUpgrade => Ok(MessageVerdict::Forward),
            Behaviour::ForgeCloseCode => Ok(forge_close_code::on_message()),
            Behaviour::GiveUp => give_up::on_message(),
            Behaviour::OutgrowMessage => Ok(outgrow_message::on_message()),
            Behaviour::Panic => panic::on_message(),
            Behaviour::Spin => spin::on_message(),
        }
    }
}

witgate_plugin::export!(Guest: message);
