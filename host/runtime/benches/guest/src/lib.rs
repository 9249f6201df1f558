//! A plugin that does as little as its configuration says, to measure what a call costs.

use serde::Deserialize;
use witgate_plugin::{
    ConfigErrors, Direction, Exchange, Failure, Inspection, Message, MessageHook, MessageVerdict,
    Messages, Plugin, Request, RequestHook, RequestVerdict, Response, stream,
};

/// `config`
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    does: Work,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Work {
    Nothing,
    GetAndSet,
    PassBody,
}

/// The plugin.
pub struct Bench(Work);

impl Plugin for Bench {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
        Ok(Self(config.does))
    }
}

impl RequestHook for Bench {
    fn on_request(&self, _: &Exchange, request: &mut Request) -> Result<RequestVerdict, Failure> {
        match self.0 {
            Work::Nothing => Ok(RequestVerdict::Next),
            Work::GetAndSet => {
                let agent = request.header("user-agent").unwrap_or_default();
                request.set_header("x-agent", agent)?;
                Ok(RequestVerdict::Next)
            }
            Work::PassBody => Ok(RequestVerdict::transform(stream(Ok))),
        }
    }
}

impl MessageHook for Bench {
    fn on_upgrade(
        &self,
        _: &Exchange,
        _: &Request,
        _: &Response,
    ) -> Result<Option<Inspection>, Failure> {
        Ok(Some(Inspection::to_upstream(PassOn)))
    }
}

/// Sends every message on as it is.
struct PassOn;

impl Messages for PassOn {
    fn on_message(&mut self, _: Direction, _: Message) -> Result<MessageVerdict, Failure> {
        Ok(MessageVerdict::Forward)
    }
}

witgate_plugin::export!(Bench: request, message);
