//! Configurations that many tests start from.

use std::net::SocketAddr;

/// One listener, `main`, whose every request goes by the route `all` to the upstream `origin` at `endpoint`.
///
/// The text ends within `[upstream.origin]`, so that a test can append keys of the upstream, or tables. There is one
/// worker, so that what is kept per worker can be counted.
#[must_use]
pub fn relay(endpoint: SocketAddr) -> String {
    through(&[], endpoint)
}

/// As [`relay`], through the plugins of these names, whose tables the test appends.
#[must_use]
pub fn through(plugins: &[&str], endpoint: SocketAddr) -> String {
    format!(
        r#"
[server]
workers = 1

[[listener]]
name = "main"
bind = "127.0.0.1:0"

[[route]]
name = "all"
listener = "main"
path = "/*"
plugins = {plugins:?}
upstream = "origin"

[upstream.origin]
endpoints = ["http://{endpoint}"]
"#
    )
}
