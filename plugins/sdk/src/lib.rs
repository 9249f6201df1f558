//! Write plugins for the witgate reverse proxy in Rust.
//!
//! A plugin is a type that implements [`Plugin`] and the hooks it needs, and is named once in [`export!`]:
//!
//! ```
//! use serde::Deserialize;
//! use witgate_plugin::{ConfigErrors, ConfigSchema, Exchange, Failure, Plugin, Reply, Request, RequestHook, RequestVerdict, schema_of};
//!
//! /// Closes a path to everybody.
//! struct Closed {
//!     path: String,
//! }
//!
//! #[derive(Deserialize, ConfigSchema)]
//! #[serde(rename_all = "kebab-case", deny_unknown_fields)]
//! struct Config {
//!     path: String,
//! }
//!
//! impl Plugin for Closed {
//!     type Config = Config;
//!
//!     fn new(config: Config) -> Result<Self, ConfigErrors> {
//!         if !config.path.starts_with('/') {
//!             return Err(ConfigErrors::at("path", "must start with `/`"));
//!         }
//!         Ok(Self { path: config.path })
//!     }
//!
//!     fn config_schema() -> String {
//!         schema_of::<Config>()
//!     }
//! }
//!
//! impl RequestHook for Closed {
//!     fn on_request(&self, exchange: &Exchange, request: &mut Request) -> Result<RequestVerdict, Failure> {
//!         if request.path() != self.path {
//!             return Ok(RequestVerdict::Next);
//!         }
//!         witgate_plugin::info!("turned {} away", exchange.client_address());
//!         Ok(RequestVerdict::Answer(Reply::new(403).text("closed\n")))
//!     }
//! }
//!
//! witgate_plugin::export!(Closed: request);
//! # fn main() {}
//! ```
//!
//! With `crate-type = ["cdylib"]` it builds by `cargo build --target wasm32-unknown-unknown --release` into a core
//! module, of which the crate `witgate-build` or `wasm-tools component new` makes the component. It needs no WASI: there
//! is no environment, no file and no network unless the contract has an import for it. Of `std::time` nothing works there;
//! [`clock`] takes its place.
//!
//! The crate `witgate-testkit` tests a plugin under the runtime that serves production.

// `export!` and the generated code name this crate by its path, here too.
extern crate self as witgate_plugin;

mod authority;
mod bindings;
pub mod clock;
mod completion;
mod config;
mod exchange;
mod export;
mod failure;
mod guest;
mod head;
mod header_name;
pub mod http_client;
pub mod keyvalue;
pub mod log;
mod messages;
pub mod metrics;
mod networks;
mod path_pattern;
mod plugin;
mod reply;
mod request;
mod response;
mod schema;
pub mod secrets;
mod template;
pub mod trailers;
mod transform;
mod verdict;
mod whole;

pub use authority::is_authority;
pub use completion::{CompletionHook, End, Side, Summary};
pub use config::{ConfigDuration, ConfigErrors};
pub use exchange::{AttributeError, AttributeErrorKind, Exchange};
pub use failure::Failure;
pub use head::{HeadError, HeadErrorKind};
pub use header_name::check_header_name;
pub use messages::{
    CloseReason, Direction, Inspection, Message, MessageHook, MessageVerdict, Messages,
};
pub use networks::Networks;
pub use path_pattern::PathPattern;
pub use plugin::{NoConfig, Plugin, RequestHook, ResponseHook};
pub use reply::{File, Reply};
pub use request::Request;
pub use response::Response;
pub use schema::{ConfigSchema, schema_of};
pub use template::Template;
pub use transform::{Transform, buffer, stream};
pub use verdict::{RequestVerdict, ResponseVerdict};
pub use whole::Whole;

/// What [`export!`] expands to. Not for use by hand, and not stable.
#[doc(hidden)]
pub mod __private {
    pub use wit_bindgen;

    pub use crate::bindings::exports::witgate::plugin::{
        completion_hook, lifecycle, message_hook, messages, request_hook, response_hook, transform,
    };
    pub use crate::guest::{Component, Instance};
    pub use crate::schema::any;
    pub use crate::{
        __component_type as component_type, __export_hook as export_hook,
        __export_interface as export_interface,
    };

    pub mod component_type {
        pub const REQUEST: &[u8; include_bytes!(concat!(
            env!("OUT_DIR"),
            "/request.component-type"
        ))
         .len()] = include_bytes!(concat!(env!("OUT_DIR"), "/request.component-type"));
        pub const RESPONSE: &[u8; include_bytes!(concat!(
            env!("OUT_DIR"),
            "/response.component-type"
        ))
         .len()] = include_bytes!(concat!(env!("OUT_DIR"), "/response.component-type"));
        pub const MESSAGE: &[u8; include_bytes!(concat!(
            env!("OUT_DIR"),
            "/message.component-type"
        ))
         .len()] = include_bytes!(concat!(env!("OUT_DIR"), "/message.component-type"));
        pub const COMPLETION: &[u8; include_bytes!(concat!(
            env!("OUT_DIR"),
            "/completion.component-type"
        ))
         .len()] = include_bytes!(concat!(env!("OUT_DIR"), "/completion.component-type"));
    }

    pub const fn is_request_hook<P: crate::RequestHook>() {}
    pub const fn is_response_hook<P: crate::ResponseHook>() {}
    pub const fn is_completion_hook<P: crate::CompletionHook>() {}
    pub const fn is_message_hook<P: crate::MessageHook>() {}
}
