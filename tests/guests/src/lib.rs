//! A plugin that misbehaves in the way its configuration says, on requests below `/bad` and nowhere else.
//!
//! One misbehaviour is one file. Each has a test in `tests/tests/guests.rs` that says what the exchange, the next
//! exchange and the neighbours see; a file without one fails that test.

mod fail_in_body;
mod forge_framing;
mod give_up;
mod grow_body;
mod hog_memory;
mod impossible_status;
mod keep_state;
mod leak_memory;
mod leave_mount;
mod overflow_stack;
mod panic;
mod spin;

use serde::Deserialize;
use witgate_plugin::{
    ConfigErrors, Exchange, Failure, Plugin, Request, RequestHook, RequestVerdict, Response,
    ResponseHook, ResponseVerdict,
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
    ForgeFraming,
    GiveUp,
    GrowBody,
    HogMemory,
    ImpossibleStatus,
    KeepState,
    LeakMemory,
    LeaveMount,
    OverflowStack,
    Panic,
    Spin,
}

/// The plugin.
pub struct Misbehaving(Misbehaviour);

impl Plugin for Misbehaving {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
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
            Misbehaviour::ForgeFraming => forge_framing::on_request(request),
            Misbehaviour::GiveUp => give_up::on_request(),
            Misbehaviour::HogMemory => hog_memory::on_request(),
            Misbehaviour::ImpossibleStatus => impossible_status::on_request(),
            Misbehaviour::KeepState => keep_state::on_request(),
            Misbehaviour::LeakMemory => leak_memory::on_request(),
            Misbehaviour::LeaveMount => leave_mount::on_request(request),
            Misbehaviour::OverflowStack => overflow_stack::on_request(),
            Misbehaviour::Panic => panic::on_request(),
            Misbehaviour::Spin => spin::on_request(),
            Misbehaviour::FailInBody | Misbehaviour::GrowBody => Ok(RequestVerdict::Next),
        }
    }
}

impl ResponseHook for Misbehaving {
    fn on_response(
        &self,
        _: &Exchange,
        request: &Request,
        _: &mut Response,
    ) -> Result<ResponseVerdict, Failure> {
        match self.0 {
            Misbehaviour::FailInBody if is_bad(request) => Ok(fail_in_body::on_response()),
            Misbehaviour::GrowBody if is_bad(request) => Ok(grow_body::on_response()),
            _ => Ok(ResponseVerdict::Next),
        }
    }
}

witgate_plugin::export!(Misbehaving: request, response);
