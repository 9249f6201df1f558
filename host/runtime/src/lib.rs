//! From a WebAssembly component to a configured plugin to hook calls, under wasmtime.
//!
//! This crate knows wasmtime and the types of HTTP; it knows no socket. In the order in which things happen:
//!
//! 1. [`Runtime`]: one per process. Compiles components, or takes them from the code cache ([`cache`]).
//! 2. [`Component`]: a compiled `.wasm` file whose hooks were found from its type. Shared by all workers.
//! 3. [`Plugin`]: a component with its configuration, grants and limits, under the name an operator gave it.
//! 4. [`WorkerPlugin`]: a plugin's instances on one worker. Unshared, so a call takes no lock between threads.
//! 5. [`Exchange`]: the request and response that a hook call is about.
//! 6. [`Verdict`], or a [`PluginFailure`]: what comes back.
//!
//! A trap, an exceeded limit and an error value are different things here ([`FailureKind`]), because the operator
//! has to do different things about them: mend the plugin, raise the limit, or look at what the plugin says.
//!
//! # Two engines
//!
//! wasmtime's support for concurrent component calls costs every call about half a microsecond, so hooks run on an
//! engine without it. Standard components of `wasi:http` have a second engine with it, and all that is theirs stands in
//! [`wasi_http`].

mod address;
mod deadlines;
mod death;
mod engine;

mod pool;

pub mod cache;
mod component;
mod interfaces;

mod plugin;

mod worker_plugin;

mod slot;

mod quarantine;

mod counts;

mod calls;
mod instance;
mod memory_limit;
mod stopwatch;

mod heads;
mod imports;

mod clock;
mod http_client;
mod keyvalue;
mod metrics;
mod origin;
mod secrets;

mod head;
mod log_budget;
mod stdio;
mod wasi;

mod exchange;

mod verdict;

mod held;
mod trailers;
mod transform;

mod completion;
mod messages;

mod failure;

mod bindings;

pub mod wasi_http;

pub use address::{ClientAddress, PeerAddress};
pub use cache::CodeCache;
pub use clock::Clock;
pub use completion::{End, FaultySide, Summary};
pub use component::{Component, Hooks, LoadError, digest_of};
pub use counts::{CallTimes, PluginCounts, RecentFailure};
pub use engine::{Runtime, RuntimeError};
pub use exchange::{Attributes, Exchange, Facts, HeadLimits, ResponseHead, Scheme, Step};
pub use failure::{FailureKind, PluginFailure};
pub use head::is_authority;
pub use http_client::{HttpClient, HttpGrant, SendError, Sending};
pub use instance::ConfigError;
pub use interfaces::{Interfaces, interfaces_of};
pub use keyvalue::{
    Answer, Change, KeyValue, KeyValueError, KeyValueGrant, Keys, MAX_KEY, MAX_VALUE, MemoryStore,
    Stored,
};
pub use messages::{Close, Direction, Message, MessageStream, MessageVerdict};
pub use metrics::{CustomMetrics, CustomSeries, CustomValue, MetricsGrant};
pub use origin::Origin;
pub use plugin::{Isolation, Limits, Plugin, StartError};
pub use secrets::Secrets;
pub use slot::OwnInstances;
pub use trailers::{
    admitted as admitted_trailers, announce as announce_trailers, announced as announced_trailers,
};
pub use transform::{BodyTransform, Finished, HeldEnd};
pub use verdict::{FileReply, NotFound, Reply, ReplyBody, Stale, Verdict};
pub use wasi::{WasiDirectory, WasiGrant};
pub use worker_plugin::WorkerPlugin;

/// Version of the contract (`witgate:plugin`) that this host speaks.
pub const CONTRACT_VERSION: &str = "0.1.0";
