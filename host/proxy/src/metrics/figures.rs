//! The same counts for people: what the admin listener's documents and the dashboard are made of.

use std::sync::Arc;

use witgate_runtime::RecentFailure;

use super::{Metrics, PluginTotal, RouteTotal, Served, UpstreamTotal};

/// What was counted for a listener and route.
pub(crate) type OfRoute = ((Arc<str>, Arc<str>), RouteTotal);

/// All that is counted, at one moment.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Which generation serves, from 1.
    pub(crate) generation: u64,
    pub(crate) listeners: Vec<Served>,
    /// By listener and route; the route is empty for what no route took.
    pub(crate) routes: Vec<OfRoute>,
    pub(crate) upstreams: Vec<(Arc<str>, UpstreamTotal)>,
    pub(crate) plugins: Vec<(Arc<str>, PluginTotal)>,
}

impl Metrics {
    pub(crate) fn figures(&self) -> Figures {
        let mut series = self.series();
        let routes = series.routes.iter_mut();
        let routes = routes.map(|(key, folded)| (key.clone(), folded.total()));
        let routes = routes.collect();
        let upstreams = series.upstreams.iter_mut();
        let upstreams = upstreams.map(|(name, folded)| (name.clone(), folded.total()));
        let upstreams = upstreams.collect();
        let plugins = series.plugins.iter_mut();
        let plugins = plugins.map(|(name, folded)| (name.clone(), folded.total()));
        let plugins = plugins.collect();
        Figures {
            generation: series.generation,
            listeners: series.listeners.clone(),
            routes,
            upstreams,
            plugins,
        }
    }

    /// A plugin's last failures on all workers, the newest first.
    pub(crate) fn failures_of(&self, plugin: &str) -> Vec<RecentFailure> {
        let series = self.series();
        let live = series.plugins.get(plugin).map(|folded| &folded.live);
        let counts = live.into_iter().flatten();
        let mut failures: Vec<_> = counts.flat_map(|counts| counts.recent_failures()).collect();
        failures.sort_by_key(|failure| std::cmp::Reverse(failure.at));
        failures
    }
}

/// The time that a share `q` of all calls did not exceed, between the bounds of its bucket; `None` without any call. What
/// lies beyond the last bound is said to be at it.
pub(crate) fn quantile(bounds: &[f64], buckets: &[u64], q: f64) -> Option<f64> {
    let count: u64 = buckets.iter().sum();
    let rank = q * count as f64;
    let mut below = 0;
    for (at, in_bucket) in buckets.iter().enumerate() {
        let with = below + in_bucket;
        if *in_bucket > 0 && with as f64 >= rank {
            let Some(upper) = bounds.get(at) else {
                return bounds.last().copied();
            };
            let lower = at.checked_sub(1).map_or(0.0, |before| bounds[before]);
            let part = (rank - below as f64) / *in_bucket as f64;
            return Some(lower + (upper - lower) * part.clamp(0.0, 1.0));
        }
        below = with;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let bounds = [1.0, 2.0, 4.0];
        assert_eq!(quantile(&bounds, &[0, 0, 0, 0], 0.5), None);
        assert_eq!(quantile(&bounds, &[2, 2, 0, 0], 0.5), Some(1.0));
        assert_eq!(quantile(&bounds, &[2, 2, 0, 0], 0.75), Some(1.5));
        assert_eq!(quantile(&bounds, &[0, 0, 0, 9], 0.5), Some(4.0));
    }
}
