//! What wasmtime generates from `wit/`. The widest world stands for all: the smaller ones are subsets of it.
#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    reason = "generated"
)]

use wasmtime::component::{HasSelf, Linker, ResourceAny};

use crate::instance::State;

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "every-hook",
    imports: {
        "witgate:plugin/http-client.send": async | trappable,
        "witgate:plugin/keyvalue.get": async | trappable,
        "witgate:plugin/keyvalue.set": async | trappable,
        "witgate:plugin/keyvalue.delete": async | trappable,
        "witgate:plugin/keyvalue.increment": async | trappable,
        "witgate:plugin/keyvalue.compare-and-set": async | trappable,
        default: trappable,
    },
});

pub(crate) use exports::witgate::plugin::completion_hook;
pub(crate) use exports::witgate::plugin::lifecycle::ConfigError;
pub(crate) use exports::witgate::plugin::message_hook::Inspection;
pub(crate) use exports::witgate::plugin::messages;
pub(crate) use exports::witgate::plugin::request_hook::RequestVerdict;
pub(crate) use exports::witgate::plugin::response_hook::ResponseVerdict;
pub(crate) use witgate::plugin::clock;
pub(crate) use witgate::plugin::types;
pub(crate) use witgate::plugin::{exchange, http_client, log};
pub(crate) use witgate::plugin::{held, trailers};
pub(crate) use witgate::plugin::{keyvalue, metrics, secrets};

/// Adds every import but the heads, which [`heads`](crate::heads) adds.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    type Own = HasSelf<State>;
    clock::add_to_linker::<_, Own>(linker, |state| state)?;
    exchange::add_to_linker::<_, Own>(linker, |state| state)?;
    held::add_to_linker::<_, Own>(linker, |state| state)?;
    http_client::add_to_linker::<_, Own>(linker, |state| state)?;
    keyvalue::add_to_linker::<_, Own>(linker, |state| state)?;
    log::add_to_linker::<_, Own>(linker, |state| state)?;
    metrics::add_to_linker::<_, Own>(linker, |state| state)?;
    secrets::add_to_linker::<_, Own>(linker, |state| state)?;
    trailers::add_to_linker::<_, Own>(linker, |state| state)?;
    types::add_to_linker::<_, Own>(linker, |state| state)
}

/// What a hook returned, whichever hook it was.
pub(crate) enum RawVerdict {
    Next,
    Answer(Box<types::Reply>),
    Transform(ResourceAny),
    Hold(ResourceAny),
}

impl From<RequestVerdict> for RawVerdict {
    fn from(verdict: RequestVerdict) -> Self {
        match verdict {
            RequestVerdict::Next => Self::Next,
            RequestVerdict::Answer(reply) => Self::Answer(Box::new(reply)),
            RequestVerdict::Transform(transform) => Self::Transform(transform),
            RequestVerdict::Hold(transform) => Self::Hold(transform),
        }
    }
}

impl From<ResponseVerdict> for RawVerdict {
    fn from(verdict: ResponseVerdict) -> Self {
        match verdict {
            ResponseVerdict::Next => Self::Next,
            ResponseVerdict::Answer(reply) => Self::Answer(Box::new(reply)),
            ResponseVerdict::Transform(transform) => Self::Transform(transform),
            ResponseVerdict::Hold(transform) => Self::Hold(transform),
        }
    }
}
