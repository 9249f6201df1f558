//! Standard components: `wasi:http/incoming-handler@0.2` and `wasi:http/handler@0.3`, unmodified, and middleware of 0.3.
//!
//! In the order in which things happen:
//!
//! 1. [`HttpComponent`]: a compiled component that exports one of the two handlers. Shared by all workers.
//! 2. [`HttpPlugin`]: it with its limits, settings and grants, under the name an operator gave it.
//! 3. [`WorkerHttpPlugin`]: what one worker counts of it.
//! 4. [`WorkerHttpPlugin::handle`]: a request goes in, a response comes out, both bodies streamed.
//!
//! Every exchange has an instance of its own, which is what such components are written for, and which ends with the
//! exchange: it runs as a task beside it, in slices of one tick of the deadline clock, so that a component that computes
//! holds nobody up for longer.

mod engine;

mod component;

mod outgoing;
mod plugin;

mod body;
mod worker_plugin;

mod call;
mod onward;
mod slices;
mod state;

pub use body::{ChannelBody, FrameSender, HttpBody, channel};
pub use component::{HttpComponent, is_wasi_http};
pub use onward::{Next, Onward};
pub use outgoing::{Opened, Opening, OutgoingClient, OutgoingGrant, Waits};
pub use plugin::{HttpLimits, HttpPlugin};
pub use wasmtime_wasi_http::{Error as HttpError, WasiBody};
pub use worker_plugin::{About, WorkerHttpPlugin};

pub(crate) use engine::HttpEngine;
