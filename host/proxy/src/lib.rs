//! The proxy: from an accepted connection to the last byte of a response.
//!
//! The modules stand in the order in which a request meets them. `exchange.rs` is the request's life, one function
//! that names every stage:
//!
//! ```text
//! accept → connection (TLS, HTTP/1.1 or HTTP/2, one reading, timeouts) → exchange
//!   head (normalise, hop-by-hop, forwarded, id) → route → chain forward (request hooks)
//!     → reply | wasi:http component | upstream (choose, connect, send, retry what is safe)
//!   ← chain back (response hooks, reverse order, only the plugins that were passed)
//!   ← transforms on the bodies, compression; for an upgraded connection a splice, or its messages through the plugins
//! → access log, metrics, completion hooks
//! ```
//!
//! [`config`] says what is to be served, [`Generation`] is that in a form that serves, and [`Server`] runs it: one
//! thread per worker, each with its own event loop, listening sockets, upstream connections and plugin instances.
//! Nothing that a request touches is shared between workers, but for the stores that plugins ask to share.

mod components;
pub mod config;
mod generation;
mod imports;
mod reload;
mod server;
mod worker;

mod listener;
mod pulse;
mod sockets;

mod connection;
mod framing;
mod seldom;
mod tls;

mod exchange;

mod head;
mod path;

mod router;

mod rewrite;

mod chain;

mod messages;
mod standard;

mod upgrade_limits;

mod split;
mod upstream;

mod outbound;

mod alarm;

mod grants;
mod keyvalue;

mod health;

mod body;

mod compress;

mod trailers;

mod grpc;

mod reply;

mod file;

mod tunnel;

mod failure;
mod refusal;

mod access;

mod telemetry;

mod completion;

mod recent;

mod metrics;

mod admin;

#[cfg(any(test, fuzzing))]
pub mod fuzzing;

pub use admin::{Admin, AdminSocket, Answer, Check, Operate, ReloadReport, Status};
pub use generation::{Builtins, Generation};
pub use imports::{Import, Need, PluginReport, Standing, need};
pub use metrics::Metrics;
pub use pulse::Pulse;
pub use reload::{HandOver, Reload, Reloaded};
pub use server::{BoundListener, Server, StartError, Stop};
pub use sockets::{Address, Inherited, InheritedSocket};
