//! What a worker counts while it serves. Each count is written by one worker alone and read by whoever shows it, so
//! an addition costs a few nanoseconds and no line of cache moves between cores.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use witgate_runtime::CallTimes;

/// Upper bounds of the duration histograms, in seconds: from a reply out of memory to a slow page. What takes longer
/// than the last is in the bucket without a bound.
pub(crate) const BOUNDS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0, 60.0,
];

/// How an exchange or an upstream request ended, as a label: the class of its status, or `none` without one.
pub(crate) const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Adds to a count that this worker alone writes: that loses nothing, and costs less than an atomic addition.
fn add(count: &AtomicU64, more: u64) {
    if more > 0 {
        let before = count.load(Ordering::Relaxed);
        count.store(before.wrapping_add(more), Ordering::Relaxed);
    }
}

fn class(status: Option<StatusCode>) -> usize {
    let class = status.map_or(0, |status| usize::from(status.as_u16() / 100));
    if class < CLASSES.len() { class } else { 0 }
}

/// The exchanges of one route on one worker, or those of a listener that no route took.
#[derive(Debug, Default)]
pub(crate) struct RouteCounts {
    by_class: [AtomicU64; CLASSES.len()],
    received: AtomicU64,
    sent: AtomicU64,
    upgraded: AtomicI64,
    duration: Histogram,
}

/// One ended exchange.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: Option<StatusCode>,
    /// Bytes of the request's body, or of the tunnel upstream.
    pub(crate) received: u64,
    /// Bytes of the response's body, or of the tunnel downstream.
    pub(crate) sent: u64,
    pub(crate) duration: Duration,
}

impl RouteCounts {
    pub(crate) fn ended(&self, exchange: &Ended) {
        add(&self.by_class[class(exchange.status)], 1);
        add(&self.received, exchange.received);
        add(&self.sent, exchange.sent);
        // How long somebody stays on a WebSocket says nothing of how quickly anything was answered.
        if exchange.status != Some(StatusCode::SWITCHING_PROTOCOLS) {
            self.duration.observe(exchange.duration);
        }
    }

    pub(crate) fn upgraded(&self, difference: i64) {
        self.upgraded.fetch_add(difference, Ordering::Relaxed);
    }
}

/// The requests to one upstream from one worker.
#[derive(Debug, Default)]
pub(crate) struct UpstreamCounts {
    by_class: [AtomicU64; CLASSES.len()],
    to_head: Histogram,
    /// By [`Incident::ALL`].
    incidents: [AtomicU64; Incident::ALL.len()],
    /// By [`Refused::ALL`].
    refused: [AtomicU64; Refused::ALL.len()],
}

/// What happened on the way to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Incident {
    /// No connection to an endpoint.
    Unconnected,
    /// A request was sent once more.
    Retried,
    /// An endpoint failed too often.
    Ejected,
    /// A request went to an endpoint that something speaks against, since there was no other.
    AllBad,
}

impl Incident {
    pub(crate) const ALL: [Self; 4] = [
        Self::Unconnected,
        Self::Retried,
        Self::Ejected,
        Self::AllBad,
    ];
}

/// What there was too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Connections,
    Pending,
    Requests,
    Retries,
    /// Of retries.
    Budget,
}

impl Refused {
    pub(crate) const ALL: [Self; 5] = [
        Self::Connections,
        Self::Pending,
        Self::Requests,
        Self::Retries,
        Self::Budget,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Pending => "pending",
            Self::Requests => "requests",
            Self::Retries => "retries",
            Self::Budget => "budget",
        }
    }
}

impl UpstreamCounts {
    /// A request was answered, after so long, or failed without a status.
    pub(crate) fn ended(&self, status: Option<StatusCode>, to_head: Duration) {
        add(&self.by_class[class(status)], 1);
        if status.is_some() {
            self.to_head.observe(to_head);
        }
    }

    pub(crate) fn happened(&self, what: Incident) {
        self.incidents[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, limit: Refused) {
        self.refused[limit as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Durations, by [`BOUNDS`].
#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        add(&self.buckets[bucket], 1);
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        add(&self.sum_us, us);
    }
}

/// What several workers counted, put together.
pub(crate) trait Total: Default + Clone {
    type Counts;
    fn add(&mut self, counts: &Self::Counts);

    /// Drops what is true only of counts that still grow.
    fn forget_state(&mut self) {}
}

/// Sums of [`RouteCounts`].
#[derive(Debug, Clone, Default)]
pub(crate) struct RouteTotal {
    pub(crate) by_class: [u64; CLASSES.len()],
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) upgraded: i64,
    pub(crate) duration: HistogramTotal,
}

impl Total for RouteTotal {
    type Counts = RouteCounts;

    fn add(&mut self, counts: &RouteCounts) {
        add_all(&mut self.by_class, &counts.by_class);
        self.received += counts.received.load(Ordering::Relaxed);
        self.sent += counts.sent.load(Ordering::Relaxed);
        self.upgraded += counts.upgraded.load(Ordering::Relaxed);
        self.duration.add(&counts.duration);
    }

    fn forget_state(&mut self) {
        self.upgraded = 0;
    }
}

/// Sums of [`UpstreamCounts`].
#[derive(Debug, Clone, Default)]
pub(crate) struct UpstreamTotal {
    pub(crate) by_class: [u64; CLASSES.len()],
    pub(crate) to_head: HistogramTotal,
    pub(crate) incidents: [u64; Incident::ALL.len()],
    pub(crate) refused: [u64; Refused::ALL.len()],
}

impl Total for UpstreamTotal {
    type Counts = UpstreamCounts;

    fn add(&mut self, counts: &UpstreamCounts) {
        add_all(&mut self.by_class, &counts.by_class);
        self.to_head.add(&counts.to_head);
        add_all(&mut self.incidents, &counts.incidents);
        add_all(&mut self.refused, &counts.refused);
    }
}

/// Sums of [`Histogram`]s.
#[derive(Debug, Clone, Default)]
pub(crate) struct HistogramTotal {
    pub(crate) buckets: [u64; BOUNDS.len() + 1],
    sum_us: u64,
}

impl HistogramTotal {
    fn add(&mut self, histogram: &Histogram) {
        add_all(&mut self.buckets, &histogram.buckets);
        self.sum_us += histogram.sum_us.load(Ordering::Relaxed);
    }

    pub(crate) fn sum_seconds(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// Sums of a plugin's counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct PluginTotal {
    pub(crate) calls: Vec<(&'static str, u64)>,
    pub(crate) failures: Vec<(&'static str, u64)>,
    pub(crate) verdicts: Vec<(&'static str, u64)>,
    pub(crate) times: Vec<CallTimes>,
    pub(crate) instances: u64,
    /// Bytes.
    pub(crate) memory: u64,
    /// On at least one worker.
    pub(crate) is_quarantined: bool,
}

impl Total for PluginTotal {
    type Counts = witgate_runtime::PluginCounts;

    fn add(&mut self, counts: &Self::Counts) {
        add_labelled(&mut self.calls, &counts.calls());
        add_labelled(&mut self.failures, &counts.failures());
        add_labelled(&mut self.verdicts, &counts.verdicts());
        add_times(&mut self.times, counts.times());
        self.instances += counts.instances();
        self.memory += counts.memory();
        self.is_quarantined |= counts.is_quarantined();
    }

    fn forget_state(&mut self) {
        self.is_quarantined = false;
        (self.instances, self.memory) = (0, 0);
    }
}

fn add_times(totals: &mut Vec<CallTimes>, counts: impl IntoIterator<Item = CallTimes>) {
    if totals.is_empty() {
        return totals.extend(counts);
    }
    for (total, more) in totals.iter_mut().zip(counts) {
        total.sum += more.sum;
        for (bucket, more) in total.buckets.iter_mut().zip(more.buckets) {
            *bucket += more;
        }
    }
}

fn add_all(totals: &mut [u64], counts: &[AtomicU64]) {
    for (total, count) in totals.iter_mut().zip(counts) {
        *total += count.load(Ordering::Relaxed);
    }
}

fn add_labelled(totals: &mut Vec<(&'static str, u64)>, counts: &[(&'static str, u64)]) {
    if totals.is_empty() {
        return totals.extend_from_slice(counts);
    }
    for (total, count) in totals.iter_mut().zip(counts) {
        total.1 += count.1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::default();
        for ms in [0, 1, 2, 60_000, 61_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let mut total = HistogramTotal::default();
        total.add(&histogram);
        assert_eq!(total.buckets[..5], [1, 0, 0, 1, 1]);
        assert_eq!(total.buckets[BOUNDS.len() - 1..], [1, 1]);
        assert_eq!(total.count(), 5);
        assert!((total.sum_seconds() - 121.003).abs() < 1e-9);
    }

    #[test]
    fn every_status_has_a_class_and_none_has_its_own() {
        assert_eq!(CLASSES[class(None)], "none");
        assert_eq!(CLASSES[class(Some(StatusCode::SWITCHING_PROTOCOLS))], "1xx");
        assert_eq!(CLASSES[class(Some(StatusCode::NOT_FOUND))], "4xx");
        let strange = StatusCode::from_u16(999).expect("the http crate takes three digits");
        assert_eq!(CLASSES[class(Some(strange))], "none");
    }
}
