//! TOML text → a valid [`Config`], or a report of everything that is wrong with it.
//!
//! ```text
//! file ── Document (parse, `${env:}` and `${file:}`) ── Reader ── Section ── shape ──► Config
//!              │                                          │
//!              └────────── Problems, each with a Location ┴──► one report
//! ```
//!
//! A [`Document`] is the text, parsed with the span of every value kept. A [`Reader`] walks it once and collects
//! [`Problems`]; a [`Section`] is one of its tables and knows which keys were asked for, so that those nobody asked
//! for are reported; a [`shape`] turns one value into a Rust value or a problem. Another crate reads its own tables
//! from the same document:
//!
//! ```
//! use witgate_proxy::config::{Config, Document, shape};
//!
//! let text = r#"
//! [[listener]]
//! name = "main"
//! bind = "127.0.0.1:8080"
//!
//! [[route]]
//! reply = { body = "hello" }
//!
//! [chrome]
//! port = 9223
//! "#;
//! let document = Document::parse("witgate.toml", text)?;
//! let reader = document.reader();
//! let mut root = reader.root();
//! let config = Config::read(&mut root);
//! let port = root.optional("chrome", shape::table(|chrome| {
//!     chrome.required("port", "9223", shape::integer::<u16>(1..=65_535))
//! }));
//! root.finish();
//! let (config, warnings) = reader.finish(config)?;
//! assert_eq!((config.listeners.len(), port, warnings.len()), (1, Some(9223), 0));
//! # Ok::<(), witgate_proxy::config::Problems>(())
//! ```

mod read;

mod route;
mod route_check;
mod weak;

mod admin;
mod authorities;
mod bind;
mod component;
mod compress;
mod http_grant;
mod keyvalue;
mod listener;
mod log;
mod metrics_grant;
mod plugin;
mod secrets_grant;
mod server;
mod telemetry;
mod tls;
mod upstream;
mod wasi_grant;
mod wasi_http_limits;

mod http_shape;
mod matching;
pub mod shape;
mod template;

mod section;

mod content;
mod document;
mod interpolate;
mod secret;
mod shown;
mod syntax;
mod value;

mod problem;
mod report;
mod suggest;

pub mod keys;
mod schema;

mod location;
mod model;

#[cfg(test)]
mod corpus;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod robustness;

pub use authorities::Authorities;
pub use bind::{Bind, UnixSocket};
pub use compress::{Algorithm, Compress, Level, TypePattern};
pub use content::{Change, Contents, Part};
pub use document::Document;
pub use location::Location;
pub(crate) use matching::first_segment;
pub use matching::{Condition, Conditions, PathPattern, ValueMatch};
pub use model::*;
pub use plugin::read_config;
pub use problem::{Problem, Problems, Severity};
pub use schema::{PluginSchema, schema};
pub use section::{Item, Reader, Section};
pub use shown::means_the_same;
pub use suggest::did_you_mean;
pub(crate) use template::Filling;
pub use template::Template;
pub use upstream::*;
pub use weak::warn_of_open_browsers;
