//! What wasmtime generates from `wit/`. The widest world stands for all: the smaller ones are subsets of it.
#![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "plugin",
    imports: { default: trappable },
});

pub(crate) use exports::witgate::plugin::lifecycle::ConfigError;
pub(crate) use exports::witgate::plugin::request_hook::RequestVerdict;
pub(crate) use exports::witgate::plugin::response_hook::ResponseVerdict;
pub(crate) use witgate::plugin::types;
pub(crate) use witgate::plugin::{exchange, log, request, response};
