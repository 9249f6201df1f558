//! How many upgraded connections a route may have open at once: a tunnel lasts for hours, so what limits requests
//! does not limit them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use witgate_runtime::ClientAddress;

use crate::config::RouteLimits;
use crate::failure::Failure;

/// The limits of one route and what counts against them. Shared by all workers; only upgrades touch it.
#[derive(Debug)]
pub(crate) struct UpgradeLimits {
    limits: RouteLimits,
    open: AtomicUsize,
    /// Of each client that has any; unused without `upgrades-per-client`.
    by_client: Mutex<HashMap<ClientAddress, usize>>,
}

/// One upgraded connection, or one that is being upgraded. Dropped, it counts no more.
#[derive(Debug)]
pub(crate) struct Permit {
    of: Arc<UpgradeLimits>,
    client: ClientAddress,
}

impl UpgradeLimits {
    pub(crate) fn new(limits: RouteLimits) -> Self {
        Self {
            limits,
            open: AtomicUsize::new(0),
            by_client: Mutex::default(),
        }
    }

    /// Counts one more for this client.
    ///
    /// # Errors
    ///
    /// 429 when the client has as many as one may have, 503 when all together have.
    pub(crate) fn admit(self: &Arc<Self>, client: ClientAddress) -> Result<Permit, Failure> {
        // A client that has IPv4 is the same one when it comes to an IPv6 socket.
        let client = client.to_canonical();
        let per_client = self.limits.upgrades_per_client;
        // Held over both checks, so that nothing is counted that is then refused.
        let mut by_client = per_client.map(|most| (most, self.by_client()));
        if let Some((most, by_client)) = &by_client
            && by_client.get(&client).is_some_and(|open| open >= most)
        {
            return Err(Failure::client(
                StatusCode::TOO_MANY_REQUESTS,
                format!(
                    "the client has {most} upgraded connections (`limits.upgrades-per-client`)"
                ),
            ));
        }
        let most = self.limits.upgrades.unwrap_or(usize::MAX);
        let one_more = |open| (open < most).then_some(open + 1);
        if (self.open)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .is_err()
        {
            return Err(Failure::host(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("the route has {most} upgraded connections (`limits.upgrades`)"),
            ));
        }
        if let Some((_, by_client)) = &mut by_client {
            *by_client.entry(client).or_default() += 1;
        }
        Ok(Permit {
            of: self.clone(),
            client,
        })
    }

    fn by_client(&self) -> MutexGuard<'_, HashMap<ClientAddress, usize>> {
        // Counts are whole even when a thread panicked between two changes.
        self.by_client
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.of.open.fetch_sub(1, Ordering::Relaxed);
        if self.of.limits.upgrades_per_client.is_some() {
            let mut by_client = self.of.by_client();
            if let Some(open) = by_client.get_mut(&self.client) {
                *open -= 1;
                if *open == 0 {
                    by_client.remove(&self.client);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(upgrades: Option<usize>, upgrades_per_client: Option<usize>) -> Arc<UpgradeLimits> {
        Arc::new(UpgradeLimits::new(RouteLimits {
            upgrades,
            upgrades_per_client,
        }))
    }

    fn client(text: &str) -> ClientAddress {
        ClientAddress::parse(text).expect("an address")
    }

    #[test]
    fn a_client_has_its_own_limit_by_whichever_family_it_comes() {
        let limits = limits(None, Some(1));
        let first = limits.admit(client("192.0.2.1")).expect("the first");
        for again in ["192.0.2.1", "::ffff:192.0.2.1"] {
            let refused = limits.admit(client(again)).expect_err("one too many");
            assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        }
        let other = limits.admit(client("192.0.2.2")).expect("another client");
        drop(first);
        let again = limits.admit(client("192.0.2.1")).expect("it is free again");
        drop((other, again));
        assert!(limits.by_client().is_empty(), "nothing is left behind");
    }

    #[test]
    fn one_that_is_refused_for_all_does_not_count_for_its_client() {
        let limits = limits(Some(1), Some(2));
        let held = limits.admit(client("192.0.2.1")).expect("the first");
        for _ in 0..3 {
            let refused = limits.admit(client("192.0.2.2")).expect_err("full");
            assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        }
        drop(held);
        let one = limits.admit(client("192.0.2.2")).expect("it is free again");
        drop(one);
        assert_eq!(limits.open.load(Ordering::Relaxed), 0);
        assert!(limits.by_client().is_empty());
    }

    #[test]
    fn many_threads_never_hold_more_than_the_limit_and_leave_nothing() {
        let limits = limits(Some(3), Some(2));
        let held = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (limits, held) = (&limits, &held);
                scope.spawn(move || {
                    let client = client(&format!("192.0.2.{}", number % 4));
                    for _ in 0..2_000 {
                        if let Ok(permit) = limits.admit(client) {
                            assert!(held.fetch_add(1, Ordering::SeqCst) < 3);
                            held.fetch_sub(1, Ordering::SeqCst);
                            drop(permit);
                        }
                    }
                });
            }
        });
        assert_eq!(limits.open.load(Ordering::Relaxed), 0);
        assert!(limits.by_client().is_empty());
    }
}
