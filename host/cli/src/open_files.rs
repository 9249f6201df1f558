//! How many files may be open: each exchange needs two sockets, and shells and service managers often allow 1,024.

use rustix::process::{Resource, getrlimit, setrlimit};
use witgate_proxy::config::Config;

/// What is open beside connections: sockets, logs, stores, the code cache, Chromium's pipes, an event loop for each worker.
const OTHERS: u64 = 256;

/// Raises the limit to what the system lets this process have, and says so when that is not enough for all connections
/// that the configuration lets in. Chromium, which is started by this process, has the same limit.
pub(crate) fn raise_limit(config: &Config) {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit on open files cannot be raised");
        }
    }
    let Some(most) = getrlimit(Resource::Nofile).current else {
        return;
    };
    let needed = needed(config);
    if most < needed {
        tracing::warn!(
            most,
            needed,
            "more connections are let in than files can be open: raise the hard limit (`ulimit -Hn`, `LimitNOFILE=`), or lower `limits.connections`"
        );
    }
}

/// A client's socket and an upstream's for each connection.
pub(crate) fn needed(config: &Config) -> u64 {
    let connections = config.listeners.iter().map(|one| one.limits.connections);
    let connections = connections.fold(0, usize::saturating_add);
    (u64::try_from(connections).unwrap_or(u64::MAX))
        .saturating_mul(2)
        .saturating_add(OTHERS)
}
