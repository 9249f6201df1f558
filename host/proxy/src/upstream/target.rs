//! One address that requests may go to, and what is known of it. Shared by all workers.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::balance::hash;
use crate::config::{Ejection, Endpoint, HealthCheck};

/// What speaks against a target, as bits.
const UNHEALTHY: u8 = 1;
const EJECTED: u8 = 2;
const AVOIDED: u8 = 4;
/// It is back, and gets its share little by little.
const WARMING: u8 = 8;

/// How long a target is passed over after a connection to it failed. Long enough that one which is down costs few
/// requests the attempt, short enough that one which was restarted is soon back.
const AVOIDED_FOR: Duration = Duration::from_secs(1);

/// The longest ejection, in times of `ejection.time`.
const MOST_TIMES: u32 = 10;

/// Where a target listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Internet(SocketAddr),
    Unix(Arc<Path>),
}

#[derive(Debug)]
pub(crate) struct Target {
    upstream: Arc<str>,
    /// `host:port` or a path: for the log and in metrics.
    pub(crate) name: Arc<str>,
    pub(crate) address: Address,
    pub(crate) endpoint: Endpoint,
    /// Of its name: the same in every process.
    pub(super) seed: u64,
    /// The one thing that the path of a request reads as long as all is well, with `failures`.
    doubts: AtomicU8,
    /// In a row, as `ejection` counts them.
    failures: AtomicU32,
    record: Mutex<Record>,
}

#[derive(Debug, Default)]
struct Record {
    /// Checks in a row that speak against what is believed.
    checks: u32,
    ejected_until: Option<Instant>,
    /// In close succession.
    ejections: u32,
    avoided_until: Option<Instant>,
    warm_since: Option<Instant>,
}

/// What a choice goes by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Standing {
    Good,
    /// It gets this share of what it would get.
    Warming(f32),
    /// Only if there is no other.
    Bad,
}

impl Target {
    pub(super) fn new(upstream: Arc<str>, address: Address, endpoint: Endpoint) -> Self {
        let name: Arc<str> = match &address {
            Address::Internet(address) => address.to_string().into(),
            Address::Unix(path) => format!("unix:{}", path.display()).into(),
        };
        Self {
            seed: hash(name.as_bytes()),
            upstream,
            name,
            address,
            endpoint,
            doubts: AtomicU8::new(0),
            failures: AtomicU32::new(0),
            record: Mutex::default(),
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        // Each change is whole before anything could panic.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn doubts(&self, which: u8) -> bool {
        self.doubts.load(Ordering::Relaxed) & which != 0
    }

    fn doubt(&self, which: u8, now: bool) {
        match now {
            true => self.doubts.fetch_or(which, Ordering::Relaxed),
            false => self.doubts.fetch_and(!which, Ordering::Relaxed),
        };
    }

    /// It passes its checks, as far as there are any.
    pub(crate) fn is_healthy(&self) -> bool {
        !self.doubts(UNHEALTHY)
    }

    pub(crate) fn is_ejected(&self) -> bool {
        self.doubts(EJECTED)
    }

    pub(super) fn standing(&self, slow_start: Duration) -> Standing {
        if self.doubts.load(Ordering::Relaxed) == 0 {
            return Standing::Good;
        }
        self.standing_in_doubt(slow_start, Instant::now())
    }

    fn standing_in_doubt(&self, slow_start: Duration, now: Instant) -> Standing {
        let mut record = self.record();
        if record.avoided_until.is_none_or(|until| now >= until) {
            self.doubt(AVOIDED, false);
        }
        if self.doubts(EJECTED) && record.ejected_until.is_none_or(|until| now >= until) {
            self.doubt(EJECTED, false);
            self.comes_back(&mut record, now);
            let (upstream, endpoint) = (&*self.upstream, &*self.name);
            tracing::info!(
                upstream,
                endpoint,
                "endpoint is tried again after its ejection"
            );
        }
        if self.doubts(UNHEALTHY | EJECTED | AVOIDED) {
            return Standing::Bad;
        }
        let warm = record
            .warm_since
            .map(|since| now.saturating_duration_since(since));
        match warm {
            Some(warm) if warm < slow_start => {
                Standing::Warming((warm.as_secs_f32() / slow_start.as_secs_f32()).max(0.05))
            }
            _ => {
                record.warm_since = None;
                self.doubt(WARMING, false);
                Standing::Good
            }
        }
    }

    fn comes_back(&self, record: &mut Record, now: Instant) {
        record.warm_since = Some(now);
        self.doubt(WARMING, true);
    }

    /// What a health check found. The words say what is wrong.
    pub(crate) fn checked(&self, found: Result<(), String>, check: &HealthCheck) {
        let (upstream, endpoint) = (&*self.upstream, &*self.name);
        let mut record = self.record();
        let (was, enough) = match self.is_healthy() {
            true => (true, check.unhealthy),
            false => (false, check.healthy),
        };
        if was == found.is_ok() {
            record.checks = 0;
            return;
        }
        record.checks += 1;
        if record.checks < enough {
            return;
        }
        record.checks = 0;
        self.doubt(UNHEALTHY, was);
        match found {
            Ok(()) => {
                self.comes_back(&mut record, Instant::now());
                tracing::info!(upstream, endpoint, "endpoint is healthy again");
            }
            Err(reason) => tracing::warn!(upstream, endpoint, reason, "endpoint is unhealthy"),
        }
    }

    /// It could not be connected to.
    pub(super) fn avoid(&self) {
        self.record().avoided_until = Some(Instant::now() + AVOIDED_FOR);
        self.doubt(AVOIDED, true);
    }

    /// It answered, and not with a 5xx.
    pub(super) fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// It answered with a 5xx, or did not. `may` lets one more be ejected, and no other as long as what it gives lives.
    pub(super) fn failed<T>(&self, ejection: &Ejection, may: impl FnOnce() -> Option<T>) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures < ejection.failures || self.is_ejected() {
            return false;
        }
        let Some(_turn) = may() else {
            return false;
        };
        // Another worker may have had the turn before.
        if self.is_ejected() {
            return false;
        }
        let (mut record, now) = (self.record(), Instant::now());
        // One that fails again soon after it came back is left alone for longer.
        let last = record.ejected_until;
        let soon = last.is_some_and(|last| now < last + ejection.time * record.ejections);
        record.ejections = match soon {
            true => (record.ejections + 1).min(MOST_TIMES),
            false => 1,
        };
        let time = ejection.time * record.ejections;
        record.ejected_until = Some(now + time);
        self.doubt(EJECTED, true);
        let (upstream, endpoint) = (&*self.upstream, &*self.name);
        tracing::warn!(
            upstream,
            endpoint,
            failures,
            ?time,
            "endpoint is ejected: it failed too often in a row"
        );
        true
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::config::Place;

    fn target() -> Target {
        let address: SocketAddr = "127.0.0.1:1".parse().expect("an address");
        let endpoint = Endpoint {
            place: Place::Address(address),
            authority: HeaderValue::from_static("a"),
            weight: 1,
        };
        Target::new("origin".into(), Address::Internet(address), endpoint)
    }

    const EJECTION: Ejection = Ejection {
        failures: 2,
        time: Duration::from_secs(10),
        most: 50,
    };
    const NEVER_SLOW: Duration = Duration::ZERO;

    #[test]
    fn failures_in_a_row_eject_and_each_time_for_longer() {
        let target = target();
        assert!(!target.failed(&EJECTION, || Some(())));
        target.succeeded();
        assert!(
            !target.failed(&EJECTION, || Some(())),
            "a success lies between"
        );
        assert!(target.failed(&EJECTION, || Some(())));
        assert_eq!(target.standing(NEVER_SLOW), Standing::Bad);
        let start = Instant::now();
        let after =
            |seconds| target.standing_in_doubt(NEVER_SLOW, start + Duration::from_secs(seconds));
        assert_eq!(after(9), Standing::Bad);
        assert_eq!(after(11), Standing::Good);
        assert!(target.failed(&EJECTION, || Some(())), "one more is enough");
        assert_eq!(after(19), Standing::Bad);
        assert_eq!(after(21), Standing::Good);
    }

    #[test]
    fn where_no_more_may_be_ejected_a_target_stays() {
        let target = target();
        for _ in 0..5 {
            assert!(!target.failed(&EJECTION, || None::<()>));
        }
        assert_eq!(target.standing(NEVER_SLOW), Standing::Good);
    }

    #[test]
    fn what_comes_back_gets_its_share_little_by_little() {
        let target = target();
        let check = HealthCheck {
            path: "/".into(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            expect: vec![200..=299],
            healthy: 2,
            unhealthy: 2,
        };
        let bad = || Err("status 500".to_owned());
        target.checked(bad(), &check);
        target.checked(Ok(()), &check);
        target.checked(bad(), &check);
        assert!(target.is_healthy(), "never two in a row");
        target.checked(bad(), &check);
        assert!(!target.is_healthy());
        target.checked(Ok(()), &check);
        assert!(!target.is_healthy());
        target.checked(Ok(()), &check);
        assert!(target.is_healthy());
        let (start, slow) = (Instant::now(), Duration::from_secs(100));
        let after = |seconds| target.standing_in_doubt(slow, start + Duration::from_secs(seconds));
        let Standing::Warming(share) = after(50) else {
            panic!("it is back for half of the time");
        };
        assert!((0.4..0.6).contains(&share), "{share}");
        assert_eq!(after(101), Standing::Good);
    }
}
