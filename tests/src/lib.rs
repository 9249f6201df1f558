//! End-to-end tests of witgate, and the harness they are written with.
//!
//! The proxy under test is the real binary, started by [`Witgate`] with a configuration that binds port 0. Around
//! it stand peers that can misbehave byte by byte, an [`Upstream`] and an [`http::Connection`], and, for the Chromium
//! service, a real browser with [`clients`] that know nothing of witgate.
//!
//! Everything waits for a condition with a bound, and what a process printed is shown when a test fails.
//!
//! The binary is looked for beside the test executable, so it has to be built first: `cargo build -p witgate`.

pub mod admin;
pub mod chrome_service;
pub mod chromium;
pub mod clients;
pub mod config;
pub mod curl;
pub mod deployment;
pub mod dns;
pub mod generated;
pub mod http;
pub mod http2;
pub mod json_schema;
pub mod nginx;
pub mod pebble;
pub mod port;
pub mod process;
pub mod redis;
pub mod site;
pub mod tls;
pub mod upstream;
pub mod wait;
pub mod wasi_http;
pub mod websocket;
pub mod witgate;

pub use upstream::Upstream;
pub use wait::eventually;
pub use witgate::Witgate;
