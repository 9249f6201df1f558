//! Reads `[server]`.

use std::net::IpAddr;
use std::num::NonZero;
use std::time::Duration;

use ipnet::IpNet;
use witgate_runtime::ClientAddress;

use super::model::{CodeCache, Server, TraceContext, Via};
use super::shape::{boolean, duration, integer, list, name, path, positive_duration, table};
use super::telemetry::percent;
use super::value::Value;
use super::{Item, Section};

impl Default for Server {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, NonZero::get),
            trusted_proxies: Vec::new(),
            trusts_unix: false,
            forwarded: false,
            via: None,
            trace_context: None,
            shutdown_grace: Duration::from_secs(30),
            drain_delay: Duration::ZERO,
            restart_timeout: Duration::from_secs(120),
            code_cache: CodeCache::Default,
        }
    }
}

pub(super) fn read(section: &mut Section<'_>) -> Option<Server> {
    let default = Server::default();
    let trusted = section.default("trusted-proxies", Vec::new(), list(trusted_proxy));
    Some(Server {
        workers: section.default("workers", default.workers, integer(1..=1024)),
        trusts_unix: trusted.contains(&None),
        trusted_proxies: trusted.into_iter().flatten().collect(),
        forwarded: section.default("forwarded", default.forwarded, boolean),
        via: section
            .optional("via", name)
            .map(|name| Via { name: name.into() }),
        trace_context: section.optional("trace-context", table(trace_context)),
        shutdown_grace: section.default("shutdown-grace", default.shutdown_grace, duration),
        drain_delay: section.default("drain-delay", default.drain_delay, duration),
        restart_timeout: section.default(
            "restart-timeout",
            default.restart_timeout,
            positive_duration,
        ),
        code_cache: section.default("code-cache", default.code_cache, code_cache),
    })
}

fn trace_context(section: &mut Section<'_>) -> Option<TraceContext> {
    Some(TraceContext {
        begin: section.default("begin", true, boolean),
        sampled: section.default("sampled", 1_000_000, percent),
        parent_based: true,
    })
}

impl Server {
    /// Whether what this peer says of others is believed.
    pub(crate) fn trusts(&self, peer: ClientAddress) -> bool {
        match peer {
            ClientAddress::Ip(address) => {
                let mut nets = self.trusted_proxies.iter();
                nets.any(|net| net.contains(&address))
            }
            ClientAddress::Unix => self.trusts_unix,
        }
    }
}

/// A network, or `None` for `unix:`.
fn trusted_proxy(item: &Item<'_>) -> Option<Option<IpNet>> {
    match item.value() {
        Value::String(text) if text == "unix:" => Some(None),
        _ => network(item).map(Some),
    }
}

/// `10.0.0.0/8`, or one address.
fn network(item: &Item<'_>) -> Option<IpNet> {
    let text = item.text("a network, such as \"10.0.0.0/8\"")?;
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(address).or_else(|| {
        item.reject(
            format!("{} is no network", item.shown()),
            "write an address with the length of its prefix, \"10.0.0.0/8\", one address, or \"unix:\" for Unix sockets",
        )
    })
}

fn code_cache(item: &Item<'_>) -> Option<CodeCache> {
    match item.value() {
        Value::Boolean(false) => Some(CodeCache::Off),
        Value::String(_) | Value::Unresolved => path(item).map(CodeCache::Directory),
        _ => item.mismatch("the path of a directory, or `false`"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Document;
    use super::*;

    fn server(text: &str) -> Result<Server, String> {
        let document =
            Document::parse("etc/a.toml", &format!("[server]\n{text}")).expect("this is TOML");
        let reader = document.reader();
        let server = reader.root().optional("server", table(read));
        reader
            .finish(server)
            .map(|(server, _)| server)
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let server = server("").expect("nothing is required");
        assert!(server.workers >= 1);
        assert_eq!(server.shutdown_grace, Duration::from_secs(30));
        assert_eq!(server.code_cache, CodeCache::Default);
    }

    #[test]
    fn what_is_set_is_taken_over() {
        let server = server(
            "workers = 3\ntrusted-proxies = ['10.0.0.0/8', 'unix:', '::1']\nshutdown-grace = '0s'\ndrain-delay = '5s'\ncode-cache = 'cache'\nforwarded = true\nvia = 'edge-1'\ntrace-context = { sampled = 5 }",
        )
        .expect("all of it is valid");
        assert_eq!(server.workers, 3);
        let networks: Vec<_> = server
            .trusted_proxies
            .iter()
            .map(IpNet::to_string)
            .collect();
        assert_eq!(networks, ["10.0.0.0/8", "::1/128"]);
        assert!(server.trusts_unix);
        assert_eq!(server.shutdown_grace, Duration::ZERO);
        assert_eq!(server.drain_delay, Duration::from_secs(5));
        assert!(server.forwarded);
        assert_eq!(server.via.map(|via| via.name), Some("edge-1".into()));
        let trace = TraceContext {
            begin: true,
            sampled: 50_000,
            parent_based: true,
        };
        assert_eq!(server.trace_context, Some(trace));
        assert_eq!(server.code_cache, CodeCache::Directory("etc/cache".into()));
    }

    #[test]
    fn the_code_cache_can_be_turned_off_and_not_on() {
        assert_eq!(
            server("code-cache = false").map(|server| server.code_cache),
            Ok(CodeCache::Off)
        );
        let report = server("code-cache = true").expect_err("there is no such value");
        assert!(
            report.contains("expected the path of a directory, or `false`; found true"),
            "{report}"
        );
    }

    #[test]
    fn what_is_no_network_is_refused() {
        let report =
            server("trusted-proxies = ['10.0.0.0/33', 'lan']").expect_err("neither is one");
        assert!(report.contains("'10.0.0.0/33' is no network"), "{report}");
        assert!(report.contains("'lan' is no network"), "{report}");
    }
}
