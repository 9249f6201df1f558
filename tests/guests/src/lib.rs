//! A plugin that misbehaves in the way its configuration says, on requests below `/bad` and nowhere else.
//!
//! One misbehaviour is one file. Each has a test of its name, most of them in `tests/tests/guests.rs`, that says what the
//! exchange, the next exchange and the neighbours see; a file without one fails a test there.

mod fail_in_body;
mod flood_log;
mod forge_framing;
mod forge_headers;
mod forge_reply;
mod give_up;
mod grow_body;
mod hog_memory;
mod huge_log;
mod huge_value;
mod impossible_status;
mod keep_state;
mod key_flood;
mod label_explosion;
mod leak_handles;
mod leak_memory;
mod leave_mount;
mod overflow_stack;
mod panic;
mod panic_at_completion;
mod panic_at_start;
mod panic_in_drop;
mod panic_in_finish;
mod panic_in_push;
mod panic_in_response;
mod spin;
mod spin_at_completion;
mod spin_in_finish;

use serde::Deserialize;
use witgate_plugin::{
    CompletionHook, ConfigErrors, Exchange, Failure, Plugin, Request, RequestHook, RequestVerdict,
    Response, ResponseHook, ResponseVerdict, Summary,
};

/// `config`
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The name of a file beside this one, with dashes.
    misbehaviour: Misbehaviour,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum Misbehaviour {
    FailInBody,
    FloodLog,
    ForgeFraming,
    ForgeHeaders,
    ForgeReply,
    GiveUp,
    GrowBody,
    HogMemory,
    HugeLog,
    HugeValue,
    ImpossibleStatus,
    KeepState,
    KeyFlood,
    LabelExplosion,
    LeakHandles,
    LeakMemory,
    LeaveMount,
    OverflowStack,
    Panic,
    PanicAtCompletion,
    PanicAtStart,
    PanicInDrop,
    PanicInFinish,
    PanicInPush,
    PanicInResponse,
    Spin,
    SpinAtCompletion,
    SpinInFinish,
}

/// The plugin.
pub struct Misbehaving(Misbehaviour);

impl Plugin for Misbehaving {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
        match config.misbehaviour {
            Misbehaviour::PanicAtStart => panic_at_start::configure(),
            Misbehaviour::KeepState => keep_state::configure(),
            _ => {}
        }
        Ok(Self(config.misbehaviour))
    }
}

fn is_bad(request: &Request) -> bool {
    request.path().starts_with("/bad")
}

impl RequestHook for Misbehaving {
    fn on_request(&self, _: &Exchange, request: &mut Request) -> Result<RequestVerdict, Failure> {
        if !is_bad(request) {
            return Ok(RequestVerdict::Next);
        }
        match self.0 {
            Misbehaviour::FloodLog => flood_log::on_request(),
            Misbehaviour::ForgeFraming => forge_framing::on_request(request),
            Misbehaviour::ForgeHeaders => forge_headers::on_request(request),
            Misbehaviour::ForgeReply => forge_reply::on_request(request),
            Misbehaviour::GiveUp => give_up::on_request(),
            Misbehaviour::HogMemory => hog_memory::on_request(),
            Misbehaviour::HugeLog => huge_log::on_request(),
            Misbehaviour::HugeValue => huge_value::on_request(),
            Misbehaviour::ImpossibleStatus => impossible_status::on_request(request),
            Misbehaviour::KeepState => keep_state::on_request(),
            Misbehaviour::KeyFlood => key_flood::on_request(),
            Misbehaviour::LabelExplosion => label_explosion::on_request(),
            Misbehaviour::LeakHandles => leak_handles::on_request(),
            Misbehaviour::LeakMemory => leak_memory::on_request(),
            Misbehaviour::LeaveMount => leave_mount::on_request(request),
            Misbehaviour::OverflowStack => overflow_stack::on_request(),
            Misbehaviour::Panic => panic::on_request(),
            Misbehaviour::Spin => spin::on_request(),
            _ => Ok(RequestVerdict::Next),
        }
    }
}

impl ResponseHook for Misbehaving {
    fn on_response(
        &self,
        _: &Exchange,
        request: &Request,
        response: &mut Response,
    ) -> Result<ResponseVerdict, Failure> {
        if !is_bad(request) {
            return Ok(ResponseVerdict::Next);
        }
        match self.0 {
            Misbehaviour::FailInBody => Ok(fail_in_body::on_response()),
            Misbehaviour::ForgeHeaders => forge_headers::on_response(response),
            Misbehaviour::GrowBody => Ok(grow_body::on_response()),
            Misbehaviour::PanicInDrop => Ok(panic_in_drop::on_response()),
            Misbehaviour::PanicInFinish => Ok(panic_in_finish::on_response()),
            Misbehaviour::PanicInPush => Ok(panic_in_push::on_response()),
            Misbehaviour::PanicInResponse => panic_in_response::on_response(),
            Misbehaviour::SpinInFinish => Ok(spin_in_finish::on_response()),
            _ => Ok(ResponseVerdict::Next),
        }
    }
}

impl CompletionHook for Misbehaving {
    fn on_complete(
        &self,
        _: &Exchange,
        request: &Request,
        _: Option<&Response>,
        _: &Summary,
    ) -> Result<(), Failure> {
        match self.0 {
            Misbehaviour::PanicAtCompletion if is_bad(request) => {
                panic_at_completion::on_complete()
            }
            Misbehaviour::SpinAtCompletion if is_bad(request) => spin_at_completion::on_complete(),
            _ => Ok(()),
        }
    }
}

witgate_plugin::export!(Misbehaving: request, response, completion);
