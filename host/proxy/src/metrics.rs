//! What was counted, by name, over all workers and generations.
//!
//! A worker makes its counts when it takes up a generation and registers them here; on the path of a request it only
//! adds to them. Counts that nobody holds any more belong to a worker or generation that is gone: what they came to
//! is kept, so that no series ever goes back.

pub(crate) mod classic;
mod counts;
mod custom;
mod exposition;
mod figures;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use witgate_runtime::{CustomMetrics, PluginCounts};

use counts::Total;
pub(crate) use counts::{
    BOUNDS, CLASSES, Ended, HistogramTotal, Incident, PluginTotal, Refused, RouteCounts,
    RouteTotal, UpstreamCounts, UpstreamTotal,
};
pub(crate) use figures::{Figures, quantile};

use crate::access::LineCounts;
use crate::connection::Connections;
use crate::recent::Looks;
use crate::refusal::Refusals;
use crate::sockets::Address;
use crate::telemetry::SpanCounts;
use crate::tls::acme::Managed;
use crate::upstream::Shared;

/// The proxy's metrics. Shared by the workers, which write, and the admin listener, which shows.
#[derive(Debug, Default)]
pub struct Metrics {
    series: Mutex<Series>,
    /// What exchanges came to, one by one.
    pub(crate) looks: Looks,
    /// Open connections, by worker.
    connections: Mutex<Vec<Arc<Connections>>>,
    /// What became of the lines of the access log.
    pub(crate) lines: Arc<LineCounts>,
    /// What became of the spans of traces.
    pub(crate) spans: Arc<SpanCounts>,
}

/// A listener whose connections are counted.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) name: Arc<str>,
    /// With the port that the kernel chose.
    pub(crate) address: Address,
    /// The connections that it may still take, of how many.
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) most: usize,
}

impl Served {
    /// Connections that are open.
    pub(crate) fn open(&self) -> usize {
        self.most.saturating_sub(self.permits.available_permits())
    }
}

#[derive(Debug, Default)]
struct Series {
    /// By listener and route; the route is empty for what no route took.
    routes: BTreeMap<(Arc<str>, Arc<str>), Folded<RouteTotal>>,
    upstreams: BTreeMap<Arc<str>, Folded<UpstreamTotal>>,
    plugins: BTreeMap<Arc<str>, Folded<PluginTotal>>,
    listeners: Vec<Served>,
    /// From 1.
    generation: u64,
    /// By listener: TLS handshakes that failed, on all workers.
    failed_handshakes: BTreeMap<Arc<str>, Arc<AtomicU64>>,
    /// By listener: what clients were refused for, on all workers.
    refusals: BTreeMap<Arc<str>, Arc<Refusals>>,
    endpoints: Vec<Arc<Shared>>,
    /// Those that are had by ACME.
    certificates: Vec<Arc<Managed>>,
    /// What plugins count.
    custom: Arc<CustomMetrics>,
}

/// Counts that grow, and what those came to that do not any more.
#[derive(Debug)]
struct Folded<T: Total> {
    ended: T,
    live: Vec<Arc<T::Counts>>,
}

impl<T: Total> Default for Folded<T> {
    fn default() -> Self {
        Self {
            ended: T::default(),
            live: Vec::new(),
        }
    }
}

impl<T: Total> Folded<T> {
    fn total(&mut self) -> T {
        self.fold();
        let mut total = self.ended.clone();
        self.live.iter().for_each(|counts| total.add(counts));
        total
    }

    fn push(&mut self, counts: Arc<T::Counts>) {
        self.fold();
        self.live.push(counts);
    }

    /// Takes over what those came to that nobody adds to any more.
    fn fold(&mut self) {
        let Self { ended, live } = self;
        live.retain_mut(|counts| match Arc::get_mut(counts) {
            Some(counts) => {
                ended.add(counts);
                ended.forget_state();
                false
            }
            None => true,
        });
    }

    /// Whether anybody may still add to it.
    fn is_live(&mut self) -> bool {
        self.fold();
        !self.live.is_empty()
    }
}

impl Metrics {
    /// Connections of all listeners that are open.
    pub fn open_connections(&self) -> usize {
        self.series().listeners.iter().map(Served::open).sum()
    }

    fn series(&self) -> MutexGuard<'_, Series> {
        // Whoever panicked left numbers behind, and numbers are all there is.
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the connections of one more worker.
    pub(crate) fn connections_of_worker(&self) -> Arc<Connections> {
        let new = Arc::<Connections>::default();
        self.connections().push(new.clone());
        new
    }

    /// Open connections, by worker.
    pub(crate) fn connections(&self) -> MutexGuard<'_, Vec<Arc<Connections>>> {
        // A list that grows by whole items.
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts for a route, or with an empty name for what no route of the listener took.
    pub(crate) fn route(&self, listener: &Arc<str>, route: &Arc<str>) -> Arc<RouteCounts> {
        let counts = Arc::default();
        let key = (listener.clone(), route.clone());
        let mut series = self.series();
        series
            .routes
            .entry(key)
            .or_default()
            .push(Arc::clone(&counts));
        counts
    }

    /// Counts TLS handshakes with a listener that failed; the same for all workers, since there are few.
    pub(crate) fn failed_handshakes(&self, listener: &Arc<str>) -> Arc<AtomicU64> {
        let mut series = self.series();
        let count = series.failed_handshakes.entry(listener.clone());
        count.or_default().clone()
    }

    /// Counts what clients of a listener are refused for; the same for all workers, as with handshakes.
    pub(crate) fn refusals(&self, listener: &Arc<str>) -> Arc<Refusals> {
        let mut series = self.series();
        series.refusals.entry(listener.clone()).or_default().clone()
    }

    pub(crate) fn upstream(&self, name: &Arc<str>) -> Arc<UpstreamCounts> {
        let counts = Arc::default();
        let mut series = self.series();
        let folded = series.upstreams.entry(name.clone()).or_default();
        folded.push(Arc::clone(&counts));
        counts
    }

    pub(crate) fn plugin(&self, name: &Arc<str>, counts: Arc<PluginCounts>) {
        let mut series = self.series();
        series.plugins.entry(name.clone()).or_default().push(counts);
    }

    /// The listeners and upstreams that are served from now on, in place of those before. Series of names that nobody serves any more end here.
    pub(crate) fn now_serves(
        &self,
        listeners: impl Iterator<Item = Served>,
        upstreams: impl Iterator<Item = Arc<Shared>>,
    ) {
        let mut series = self.series();
        series.generation += 1;
        series.listeners = listeners.collect();
        series
            .listeners
            .sort_by(|one, other| one.name.cmp(&other.name));
        let Series {
            listeners,
            failed_handshakes,
            refusals,
            ..
        } = &mut *series;
        let is_served = |name: &Arc<str>| listeners.iter().any(|served| served.name == *name);
        failed_handshakes.retain(|name, _| is_served(name));
        refusals.retain(|name, _| is_served(name));
        series.endpoints = upstreams.collect();
        series.routes.retain(|_, folded| folded.is_live());
        series.upstreams.retain(|_, folded| folded.is_live());
        series.plugins.retain(|_, folded| folded.is_live());
    }

    /// The certificates that are had by ACME, from now on.
    pub(crate) fn certificates(&self, managed: Vec<Arc<Managed>>) {
        self.series().certificates = managed;
    }

    /// What plugins count, from now on; it stays the same from one generation to the next.
    pub(crate) fn shows(&self, custom: Arc<CustomMetrics>) {
        self.series().custom = custom;
    }

    /// What an operator should know although requests are served: plugins in quarantine, endpoints that are unwell,
    /// certificates that cannot be had.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut series = self.series();
        let mut notes = Vec::new();
        for (name, folded) in &mut series.plugins {
            if folded.total().is_quarantined {
                notes.push(format!(
                    "plugin `{name}` failed again and again and is left alone for a while"
                ));
            }
        }
        for upstream in &series.endpoints {
            let (name, targets) = (&upstream.name, upstream.targets());
            for target in &targets.list {
                let endpoint = &target.name;
                if !target.is_healthy() {
                    notes.push(format!("upstream `{name}`: {endpoint} is unhealthy"));
                } else if target.is_ejected() {
                    notes.push(format!("upstream `{name}`: {endpoint} failed too often and is left alone for a while"));
                }
            }
            if let Some(why) = &targets.failure {
                notes.push(format!("upstream `{name}`: {why}"));
            }
        }
        for managed in &series.certificates {
            let standing = managed.standing();
            if let Some(why) = standing.failure {
                let domain = standing.domain;
                notes.push(format!("no new certificate for `{domain}`: {why}"));
            }
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;

    use super::*;

    fn ended() -> Ended {
        Ended {
            status: Some(StatusCode::OK),
            received: 1,
            sent: 2,
            duration: Duration::from_millis(3),
        }
    }

    #[test]
    fn what_a_worker_counted_stays_when_it_has_gone() {
        let metrics = Metrics::default();
        let (listener, route) = (Arc::from("main"), Arc::from("all"));
        let (one, other) = (
            metrics.route(&listener, &route),
            metrics.route(&listener, &route),
        );
        one.ended(&ended());
        other.ended(&ended());
        drop(one);
        for _ in 0..2 {
            let mut series = metrics.series();
            let folded = series
                .routes
                .get_mut(&(listener.clone(), route.clone()))
                .expect("registered above");
            let total = folded.total();
            assert_eq!((total.by_class[2], total.received, total.sent), (2, 2, 4));
            assert_eq!(folded.live.len(), 1, "one worker is left");
        }
    }
}
