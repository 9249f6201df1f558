//! The names of endpoints, looked up again as often as their answers say: a task for each, beside the health checks,
//! so that no request waits for it but the first ones of all.

use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ProtocolConfig, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

use super::shared::Shared;
use crate::config::Dns;

/// How long a name that could not be looked up is left alone. Doubled each time, up to `max-ttl` and this.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);

/// Looks the names of an upstream up until no generation uses it any more.
pub(crate) fn watch(shared: &Arc<Shared>) {
    for (at, name) in shared.named() {
        tokio::task::spawn_local(watch_name(Arc::downgrade(shared), at, name.to_owned()));
    }
}

async fn watch_name(upstream: Weak<Shared>, at: usize, name: String) {
    let mut failures = 0;
    loop {
        let Some(dns) = upstream.upgrade().map(|shared| shared.config.dns.clone()) else {
            return;
        };
        let found = look_up(&name, &dns).await;
        let wait = match &found {
            Ok((_, good_for)) => {
                failures = 0;
                (*good_for).clamp(dns.min_ttl, dns.max_ttl)
            }
            Err(_) => {
                failures += 1;
                let longer = dns.min_ttl.saturating_mul(1 << (failures - 1).min(16));
                longer
                    .min(dns.max_ttl)
                    .min(LONGEST_BACK_OFF.max(dns.min_ttl))
            }
        };
        match upstream.upgrade() {
            Some(shared) => shared.resolved(at, found.map(|(addresses, _)| addresses)),
            None => return,
        }
        tokio::time::sleep(wait).await;
    }
}

/// A name's addresses, and for how long they are good.
async fn look_up(name: &str, dns: &Dns) -> Result<(Vec<IpAddr>, Duration), String> {
    let resolver = resolver(dns)?;
    let found = resolver.lookup_ip(name).await;
    let found = found.map_err(|error| error.to_string())?;
    let addresses: Vec<IpAddr> = found.iter().collect();
    if addresses.is_empty() {
        return Err("it has no address".into());
    }
    let good_for = found
        .valid_until()
        .saturating_duration_since(Instant::now());
    Ok((addresses, good_for))
}

/// Made anew each time: `/etc/hosts` and `/etc/resolv.conf` may have changed, and the times to live are kept here.
fn resolver(dns: &Dns) -> Result<TokioResolver, String> {
    let mut builder = match &*dns.servers {
        [] => match TokioResolver::builder_tokio() {
            Ok(builder) => builder,
            // A machine without name servers still has `/etc/hosts`.
            Err(error) => {
                tracing::debug!(%error, "no name servers of the system");
                let none = ResolverConfig::default();
                TokioResolver::builder_with_config(none, TokioRuntimeProvider::default())
            }
        },
        servers => {
            let servers = servers.iter().map(|server| {
                let connection = |protocol| {
                    let mut connection = ConnectionConfig::new(protocol);
                    connection.port = server.port();
                    connection
                };
                let connections = [ProtocolConfig::Udp, ProtocolConfig::Tcp].map(connection);
                NameServerConfig::new(server.ip(), true, connections.into())
            });
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    let options = builder.options_mut();
    options.cache_size = 0;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build().map_err(|error| error.to_string())
}
