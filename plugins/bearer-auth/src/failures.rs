//! How often each client may fail before it is told to wait.
//!
//! This guards the log and the upstream's operator against clients that poll with a wrong token or none (ChromeDriver
//! asks twenty times a second). It is no guard against guessing, which the length of the tokens is: a right token is
//! let in at any time, since one poller behind an address must not lock out everybody else behind it.

use std::net::IpAddr;

use serde::Deserialize;
use witgate_plugin::{ConfigErrors, ConfigSchema};

/// Clients that are kept in mind, in each instance. No memory of addresses holds back a flood from ever new ones, so this
/// is for the pollers of an ordinary network; it bounds the memory (48 bytes each) and the search at each failure.
const MAX_CLIENTS: usize = 1024;

/// How long one log line about a client stands for all of its excess failures, in milliseconds.
const WINDOW: u64 = 60_000;

/// The table `failures`.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct FailuresConfig {
    /// 1 to 6,000.
    per_minute: u32,
    /// 1 to 1,000.
    burst: u32,
}

impl Default for FailuresConfig {
    /// Enough for a person who mistypes and for a page that asks for a dozen things at once; little for a poller.
    fn default() -> Self {
        Self {
            per_minute: 20,
            burst: 20,
        }
    }
}

/// The failures of each client: a bucket that holds `burst` of them and leaks `per-minute`.
#[derive(Debug)]
pub(crate) struct Failures {
    /// Milliseconds in which one failure leaks away.
    interval: u64,
    /// Milliseconds in which a full bucket leaks empty.
    full: u64,
    clients: Vec<Client>,
}

#[derive(Debug)]
struct Client {
    network: Network,
    /// When its bucket will be empty.
    empty_at: u64,
    /// When the last line about it was written.
    told_at: Option<u64>,
    /// Excess failures of which no line has told.
    untold: u32,
}

/// Whose failures are counted together. One IPv6 client commands a /64 at least (RFC 6177).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    V4(u32),
    V6(u64),
}

/// What becomes of a failure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// It fits into the bucket.
    Tolerated,
    /// It does not.
    Excess {
        /// Whole seconds until the next one will fit; at least 1.
        retry_after: u64,
        /// How many such failures a line in the log is to tell of; `None` for no line.
        tell: Option<u32>,
    },
}

impl Failures {
    pub(crate) fn new(config: &FailuresConfig) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        if !(1..=6000).contains(&config.per_minute) {
            errors.push("failures.per-minute", "must be 1 to 6000");
        }
        if !(1..=1000).contains(&config.burst) {
            errors.push("failures.burst", "must be 1 to 1000");
        }
        let interval = 60_000 / u64::from(config.per_minute.max(1));
        errors.into_result(Self {
            interval,
            full: interval * u64::from(config.burst),
            clients: Vec::new(),
        })
    }

    /// Counts a failure of the client at this address, `now` being in milliseconds.
    pub(crate) fn count(&mut self, address: IpAddr, now: u64) -> Failed {
        let (interval, full) = (self.interval, self.full);
        let client = self.client(Network::of(address));
        let filled = client.empty_at.max(now) + interval;
        let over = (filled - now).saturating_sub(full);
        if over == 0 {
            client.empty_at = filled;
            return Failed::Tolerated;
        }
        client.untold = client.untold.saturating_add(1);
        let tell = client
            .told_at
            .is_none_or(|told_at| now.saturating_sub(told_at) >= WINDOW);
        Failed::Excess {
            retry_after: over.div_ceil(1000),
            tell: tell.then(|| {
                client.told_at = Some(now);
                std::mem::take(&mut client.untold)
            }),
        }
    }

    /// What is known of a network. When there are too many, the one that is forgiven first is forgotten: who failed
    /// once makes room before who fails on and on.
    fn client(&mut self, network: Network) -> &mut Client {
        let known = self.clients.iter().position(|c| c.network == network);
        let at = known.unwrap_or_else(|| {
            let client = Client {
                network,
                empty_at: 0,
                told_at: None,
                untold: 0,
            };
            if self.clients.len() < MAX_CLIENTS {
                self.clients.push(client);
                return self.clients.len() - 1;
            }
            let first = self.clients.iter().enumerate();
            let first = first.min_by_key(|(_, client)| client.empty_at);
            let at = first.map_or(0, |(at, _)| at);
            self.clients[at] = client;
            at
        });
        &mut self.clients[at]
    }
}

impl Network {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments().map(u64::from);
                Self::V6(a << 48 | b << 32 | c << 16 | d)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(per_minute: u32, burst: u32) -> Failures {
        Failures::new(&FailuresConfig { per_minute, burst }).expect("within the bounds")
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn excess(retry_after: u64, tell: Option<u32>) -> Failed {
        Failed::Excess { retry_after, tell }
    }

    #[test]
    fn a_burst_is_tolerated_and_then_one_failure_per_interval() {
        let mut failures = failures(60, 3);
        let client = address("192.0.2.1");
        for _ in 0..3 {
            assert_eq!(failures.count(client, 500), Failed::Tolerated);
        }
        assert_eq!(failures.count(client, 500), excess(1, Some(1)));
        assert_eq!(failures.count(client, 1499), excess(1, None));
        assert_eq!(failures.count(client, 1500), Failed::Tolerated);
        assert_eq!(failures.count(client, 1500), excess(1, None));
        for _ in 0..3 {
            assert_eq!(failures.count(client, 60_000), Failed::Tolerated);
        }
    }

    #[test]
    fn the_time_to_wait_is_that_until_the_next_failure_fits() {
        let mut failures = failures(1, 1);
        let client = address("192.0.2.1");
        assert_eq!(failures.count(client, 0), Failed::Tolerated);
        assert_eq!(failures.count(client, 0), excess(60, Some(1)));
        assert_eq!(failures.count(client, 59_001), excess(1, None));
        assert_eq!(failures.count(client, 60_000), Failed::Tolerated);
    }

    #[test]
    fn one_line_a_minute_tells_of_all_excess_failures_of_a_client() {
        let mut failures = failures(1, 1);
        let client = address("192.0.2.1");
        let tells = |failures: &mut Failures, now| match failures.count(client, now) {
            Failed::Excess { tell, .. } => tell,
            Failed::Tolerated => None,
        };
        assert_eq!(tells(&mut failures, 0), None, "tolerated");
        assert_eq!(tells(&mut failures, 50), Some(1));
        for now in 1..1000 {
            assert_eq!(tells(&mut failures, now * 50), None);
        }
        assert_eq!(tells(&mut failures, 60_050), None, "tolerated");
        assert_eq!(tells(&mut failures, 60_051), Some(1000));
    }

    #[test]
    fn clients_do_not_count_for_each_other() {
        let mut failures = failures(1, 1);
        for client in ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1"] {
            assert_eq!(failures.count(address(client), 0), Failed::Tolerated);
        }
    }

    #[test]
    fn all_addresses_of_an_ipv6_network_are_one_client_and_a_mapped_ipv4_is_itself() {
        let mut failures = failures(1, 1);
        assert_eq!(failures.count(address("2001:db8::1"), 0), Failed::Tolerated);
        let neighbour = address("2001:db8::ffff:0:0:1");
        assert_eq!(failures.count(neighbour, 0), excess(60, Some(1)));
        assert_eq!(failures.count(address("192.0.2.1"), 0), Failed::Tolerated);
        let mapped = address("::ffff:192.0.2.1");
        assert_eq!(failures.count(mapped, 0), excess(60, Some(1)));
    }

    #[test]
    fn memory_is_bounded_and_who_fails_on_and_on_is_not_forgotten_for_who_failed_once() {
        let mut failures = failures(1, 2);
        let poller = address("192.0.2.1");
        for _ in 0..2 {
            assert_eq!(failures.count(poller, 0), Failed::Tolerated);
        }
        for network in 0..3 * MAX_CLIENTS as u128 {
            let stranger = IpAddr::V6((0x2001_0db8 << 96 | network << 64).into());
            assert_eq!(failures.count(stranger, 0), Failed::Tolerated);
        }
        assert_eq!(failures.clients.len(), MAX_CLIENTS);
        assert_eq!(failures.count(poller, 0), excess(60, Some(1)));
    }

    #[test]
    fn a_limit_of_nothing_and_one_without_end_are_refused_at_their_keys() {
        for (per_minute, burst, path) in [
            (0, 1, "failures.per-minute"),
            (6001, 1, "failures.per-minute"),
            (1, 0, "failures.burst"),
            (1, 1001, "failures.burst"),
        ] {
            let errors = Failures::new(&FailuresConfig { per_minute, burst });
            let errors = errors.expect_err("out of bounds");
            assert_eq!(errors.iter().next().map(|(path, _)| path), Some(path));
        }
    }
}
