//! Tests plugins under the runtime that serves production: same engine, same imports, same checks of what comes back.
//!
//! A test builds the component, starts it with a configuration, and sends an [`Exchange`] through its hooks:
//!
//! ```no_run
//! use witgate_testkit::{Component, Exchange};
//!
//! #[test]
//! # fn hidden() {}
//! fn the_configured_host_is_sent() {
//!     let component = Component::of_this_package("release");
//!     let plugin = component.start(r#"{"host":"localhost:9222"}"#);
//!     let mut exchange = Exchange::get("/json/version").authority("box:9222");
//!     plugin.on_request(&mut exchange).expect_next();
//!     assert_eq!(exchange.upstream_authority(), "localhost:9222");
//!     assert_eq!(exchange.attribute("original-host").as_deref(), Some("box:9222"));
//! }
//! ```
//!
//! What the kit cannot do panics, with the plugin's log lines in the message, so that a test reads without error
//! handling. The plugin's own failures come back as values from the functions that start with `try_`.
//!
//! Whatever needs a socket, a file or an upstream is not here: a reply that names a file is asserted as such, and a
//! request that the plugin sends is answered by the test ([`Component::answering`]).

mod body;
#[cfg(feature = "proptest")]
mod chunks;
mod component;
mod diff;
mod exchange;
mod grants;
mod http_client;
mod log;
mod measure;
mod messages;
mod plugin;
mod verdict;

pub use body::Body;
#[cfg(feature = "proptest")]
pub use chunks::{Cuts, assert_chunks_do_not_matter};
pub use component::{Component, NotStarted};
pub use diff::{Head, diff};
pub use exchange::Exchange;
pub use grants::Store;
pub use log::LogLine;
pub use messages::Messages;
pub use plugin::{PLUGIN_NAME, Plugin};
pub use verdict::Verdict;
pub use witgate_runtime::{
    Close, ConfigError, CustomValue, Direction, End, FailureKind, FaultySide, FileReply, Finished,
    HeldEnd, Limits, Message, MessageVerdict, PluginFailure, Reply, ReplyBody, Scheme, SendError,
    Stale, StartError, Summary,
};
