//! Reads the tables of `[upstream.NAME]` that say what to do when something is wrong: `health`, `ejection`, `dns`,
//! `retry` and `limits`.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::model::{Dns, Ejection, HealthCheck, Retry, RetryOn, UpstreamLimits};
use super::seconds;
use crate::config::http_shape::path_with_query;
use crate::config::shape::{integer, list, one_or_many, positive_duration, word};
use crate::config::{Item, Problem, Section};

pub(super) fn health(section: &mut Section<'_>) -> Option<HealthCheck> {
    let path = section.required("path", "\"/healthz\"", path_with_query);
    let interval = seconds(section, "interval", 5);
    let timeout = seconds(section, "timeout", 2);
    let expect = section.default("expect", vec![200..=299, 300..=399], expected);
    let healthy = section.default("healthy", 1, integer(1..=100));
    let unhealthy = section.default("unhealthy", 1, integer(1..=100));
    Some(HealthCheck {
        path: path?.into(),
        interval,
        timeout,
        expect,
        healthy,
        unhealthy,
    })
}

fn expected(item: &Item<'_>) -> Option<Vec<RangeInclusive<u16>>> {
    let statuses = one_or_many(status)(item)?;
    if statuses.is_empty() && item.elements("a list")?.is_empty() {
        return item.reject("no status would do", "name one: expect = 200");
    }
    Some(statuses)
}

/// `200` or `"2xx"`.
fn status(item: &Item<'_>) -> Option<RangeInclusive<u16>> {
    const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];
    let Some(text) = item.as_text() else {
        return integer(200..=599)(item).map(|status: u16| status..=status);
    };
    let class = CLASSES.iter().position(|class| *class == text);
    match class.and_then(|class| u16::try_from(class).ok()) {
        Some(class) => Some((class + 2) * 100..=(class + 2) * 100 + 99),
        None => item.reject(
            format!("{} is no status", item.shown()),
            "write a number, or a class such as \"2xx\"",
        ),
    }
}

pub(super) fn ejection(section: &mut Section<'_>) -> Option<Ejection> {
    Some(Ejection {
        failures: section.default("failures", 5, integer(1..=1000)),
        time: seconds(section, "time", 30),
        most: section.default("max", 50, percent),
    })
}

/// `"20%"`, from 1 to 100.
fn percent(item: &Item<'_>) -> Option<u8> {
    let text = item.text("a share, such as \"20%\"")?;
    let number = text
        .strip_suffix('%')
        .and_then(|number| number.parse().ok());
    match number {
        Some(percent @ 1..=100) => Some(percent),
        _ => item.reject(
            format!("{} is no share", item.shown()),
            "write one from \"1%\" to \"100%\"",
        ),
    }
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(300),
            servers: Vec::new(),
        }
    }
}

pub(super) fn dns(section: &mut Section<'_>) -> Option<Dns> {
    let default = Dns::default();
    let location = section.location();
    let min_ttl = section.default("min-ttl", default.min_ttl, positive_duration);
    let max_ttl = section.default("max-ttl", default.max_ttl, positive_duration);
    let servers = section.default("servers", Vec::new(), list(name_server));
    if min_ttl > max_ttl {
        let key = format!("{}.min-ttl", section.path());
        let problem = Problem::error(location, key, "`min-ttl` is longer than `max-ttl`");
        section
            .reader()
            .report(problem.with_help("names are asked for again after a time between the two"));
        return None;
    }
    Some(Dns {
        min_ttl,
        max_ttl,
        servers,
    })
}

/// `"10.0.0.2"` or `"10.0.0.2:53"`.
fn name_server(item: &Item<'_>) -> Option<SocketAddr> {
    let text = item.text("the address of a name server, such as \"10.0.0.2\"")?;
    let alone = text
        .parse::<IpAddr>()
        .map(|address| SocketAddr::new(address, 53));
    match alone.or_else(|_| text.parse()) {
        Ok(server) => Some(server),
        Err(_) => item.reject(
            format!("{} is no address of a name server", item.shown()),
            "write one such as \"10.0.0.2\", \"10.0.0.2:5353\" or \"[::1]:53\"",
        ),
    }
}

/// One word of `retry.on`.
#[derive(Clone, Copy)]
enum On {
    Connect,
    Reset,
    Timeout,
    Status(u16),
}

const ON: [(&str, On); 6] = [
    ("connect", On::Connect),
    ("reset", On::Reset),
    ("timeout", On::Timeout),
    ("502", On::Status(502)),
    ("503", On::Status(503)),
    ("504", On::Status(504)),
];

pub(super) fn retry(section: &mut Section<'_>) -> Option<Retry> {
    let default = RetryOn {
        connect: true,
        reset: true,
        timeout: false,
        statuses: vec![502, 503, 504],
    };
    Some(Retry {
        attempts: section.default("attempts", 2, integer(1..=10)),
        on: section.default("on", default, retry_on),
        budget: section.default("budget", 20, percent),
        back_off: section.default("back-off", Duration::from_millis(25), positive_duration),
    })
}

fn retry_on(item: &Item<'_>) -> Option<RetryOn> {
    if item.elements("a list of words")?.is_empty() {
        return item.reject("nothing is sent again", "name a reason, or remove `retry`");
    }
    let mut on = RetryOn::default();
    for reason in list(word(&ON))(item)? {
        match reason {
            On::Connect => on.connect = true,
            On::Reset => on.reset = true,
            On::Timeout => on.timeout = true,
            On::Status(status) => on.statuses.push(status),
        }
    }
    Some(on)
}

/// How many requests wait for a connection unless the operator says otherwise: a burst, and no queue that outlives the
/// patience of those in it.
const PENDING: u32 = 100;

pub(super) fn limits(section: &mut Section<'_>) -> Option<UpstreamLimits> {
    let count = || integer(1..=1_000_000);
    let connections = section.optional("connections", count());
    let pending = section.item("pending");
    if let (None, Some(pending)) = (&connections, &pending) {
        return pending.reject(
            "nobody waits for a connection where their number has no limit",
            "add `connections`, or remove `pending`",
        );
    }
    let pending = match pending {
        Some(pending) => integer(0..=1_000_000)(&pending)?,
        None => PENDING,
    };
    Some(UpstreamLimits {
        connections,
        pending,
        requests: section.optional("requests", count()),
        retries: section.optional("retries", count()),
    })
}
