//! What the admin listener of a proxy under test shows.

use std::net::SocketAddr;

use crate::Witgate;
use crate::http;

/// The tables that open one; to be appended to a configuration.
pub const ADMIN: &str = "\n[admin]\nbind = \"127.0.0.1:0\"\n";

/// Where it listens.
///
/// # Panics
///
/// When the configuration has none.
#[must_use]
#[track_caller]
pub fn address(witgate: &Witgate) -> SocketAddr {
    let line = witgate.log_line("the admin listener", |line| {
        line.message() == "admin listening"
    });
    let address = line
        .text("address")
        .and_then(|address| address.parse().ok());
    address.expect("the line has the address")
}

/// The value of a series, its labels in the order in which they are shown.
///
/// # Panics
///
/// When there is none of that name.
#[must_use]
#[track_caller]
pub fn metric(admin: SocketAddr, series: &str) -> f64 {
    let metrics = http::get(admin, "/metrics");
    let lines = metrics.text().lines();
    let mut values = lines.filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = values.next().and_then(|value| value.parse().ok());
    value.unwrap_or_else(|| panic!("no series {series} in\n{}", metrics.text()))
}
