//! The metrics as OpenMetrics text.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use witgate_runtime::PluginCounts;

use super::{
    BOUNDS, CLASSES, HistogramTotal, Incident, Metrics, Refused, RouteTotal, UpstreamTotal,
};
use crate::access::LineCounts;
use crate::telemetry::SpanCounts;
use crate::tls::acme::{Managed, Standing};
use crate::upstream::Target;

type Encoded = Result<(), fmt::Error>;
type RouteTotals = [((Arc<str>, Arc<str>), RouteTotal)];

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Encoded {
        let mut series = self.series();
        let routes: Vec<_> = series
            .routes
            .iter_mut()
            .map(|(key, folded)| (key.clone(), folded.total()))
            .collect();
        requests(&mut encoder, &routes)?;
        let help = "Connections of clients that are open, upgraded ones included";
        let mut family =
            encoder.encode_descriptor("witgate_connections", help, None, MetricType::Gauge)?;
        for listener in &series.listeners {
            family
                .encode_family(&[("listener", &*listener.name)].as_slice())?
                .encode_gauge(&(listener.open() as u64))?;
        }
        let help =
            "TLS handshakes with clients that failed; the log has the reason of each at `debug`";
        let mut family = encoder.encode_descriptor(
            "witgate_tls_handshakes_failed",
            help,
            None,
            MetricType::Counter,
        )?;
        for (name, count) in &series.failed_handshakes {
            let count = count.load(Ordering::Relaxed);
            counter(&mut family, &[("listener", &**name)], count)?;
        }
        refusals(&mut encoder, &series)?;
        certificates(&mut encoder, &series.certificates)?;
        let upstreams: Vec<_> = series
            .upstreams
            .iter_mut()
            .map(|(name, folded)| (name.clone(), folded.total()))
            .collect();
        let help = "Requests to upstreams by the class of the answer; `none` were not answered";
        let mut family = encoder.encode_descriptor(
            "witgate_upstream_requests",
            help,
            None,
            MetricType::Counter,
        )?;
        for (name, total) in &upstreams {
            for (class, count) in CLASSES.iter().zip(total.by_class) {
                let labels = [("upstream", &**name), ("status", class)];
                counter(&mut family, &labels, count)?;
            }
        }
        let help = "Time from sending a request upstream to the head of its answer";
        let mut family = encoder.encode_descriptor(
            "witgate_upstream_response",
            help,
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (name, total) in &upstreams {
            histogram(&mut family, &[("upstream", &**name)], &total.to_head)?;
        }
        incidents(&mut encoder, &upstreams)?;
        endpoints(&mut encoder, &series)?;
        plugins(&mut encoder, &mut series)?;
        lines(&mut encoder, &self.lines)?;
        spans(&mut encoder, &self.spans)?;
        super::custom::encode(&mut encoder, &series.custom.series())
    }
}

fn certificates(encoder: &mut DescriptorEncoder<'_>, managed: &[Arc<Managed>]) -> Encoded {
    if managed.is_empty() {
        return Ok(());
    }
    let mut standings: Vec<Standing> = Vec::new();
    for standing in managed.iter().map(|managed| managed.standing()) {
        // Two that begin with one name are one series.
        let same = standings
            .iter_mut()
            .find(|same| same.domain == standing.domain);
        let Some(same) = same else {
            standings.push(standing);
            continue;
        };
        same.expiry = [same.expiry, standing.expiry].into_iter().flatten().min();
        same.obtained += standing.obtained;
        same.failed += standing.failed;
    }
    let help = "When a certificate that is had by ACME expires, in seconds since 1970";
    let mut family = encoder.encode_descriptor(
        "witgate_acme_certificate_expiry_timestamp",
        help,
        Some(&Unit::Seconds),
        MetricType::Gauge,
    )?;
    for standing in &standings {
        if let Some(expiry) = standing.expiry {
            family
                .encode_family(&[("domain", standing.domain.as_str())].as_slice())?
                .encode_gauge(&expiry)?;
        }
    }
    let help = "Attempts to have a certificate by ACME";
    let mut family =
        encoder.encode_descriptor("witgate_acme_orders", help, None, MetricType::Counter)?;
    for standing in &standings {
        let counts = [("obtained", standing.obtained), ("failed", standing.failed)];
        for (outcome, count) in counts {
            let labels = [("domain", standing.domain.as_str()), ("outcome", outcome)];
            counter(&mut family, &labels, count)?;
        }
    }
    Ok(())
}

fn requests(encoder: &mut DescriptorEncoder<'_>, routes: &RouteTotals) -> Encoded {
    let help =
        "Exchanges that ended, by the class of their status; `none` ended before there was one";
    let mut family =
        encoder.encode_descriptor("witgate_requests", help, None, MetricType::Counter)?;
    for ((listener, route), total) in routes {
        for (class, count) in CLASSES.iter().zip(total.by_class) {
            let labels = [
                ("listener", &**listener),
                ("route", &**route),
                ("status", class),
            ];
            counter(&mut family, &labels, count)?;
        }
    }
    let help =
        "Time from a request's head to the last byte of its response, upgraded exchanges left out";
    let mut family = encoder.encode_descriptor(
        "witgate_request_duration",
        help,
        Some(&Unit::Seconds),
        MetricType::Histogram,
    )?;
    for (key, total) in routes {
        histogram(&mut family, &of_route(key), &total.duration)?;
    }
    let help = "Bytes of request bodies, and of tunnels upstream";
    let mut family = encoder.encode_descriptor(
        "witgate_received",
        help,
        Some(&Unit::Bytes),
        MetricType::Counter,
    )?;
    for (key, total) in routes {
        counter(&mut family, &of_route(key), total.received)?;
    }
    let help = "Bytes of response bodies, and of tunnels downstream";
    let mut family = encoder.encode_descriptor(
        "witgate_sent",
        help,
        Some(&Unit::Bytes),
        MetricType::Counter,
    )?;
    for (key, total) in routes {
        counter(&mut family, &of_route(key), total.sent)?;
    }
    let help = "Upgraded connections (WebSockets) that are open";
    let mut family = encoder.encode_descriptor(
        "witgate_upgraded_connections",
        help,
        None,
        MetricType::Gauge,
    )?;
    for (key, total) in routes {
        family
            .encode_family(&of_route(key).as_slice())?
            .encode_gauge(&total.upgraded)?;
    }
    Ok(())
}

fn refusals(encoder: &mut DescriptorEncoder<'_>, series: &super::Series) -> Encoded {
    let help = "Requests and connections of clients that were refused, by reason; the log has each at `debug`";
    let mut family =
        encoder.encode_descriptor("witgate_refused", help, None, MetricType::Counter)?;
    for (listener, refusals) in &series.refusals {
        for (reason, count) in refusals.counted() {
            let labels = [("listener", &**listener), ("reason", reason.as_str())];
            counter(&mut family, &labels, count)?;
        }
    }
    Ok(())
}

fn incidents(
    encoder: &mut DescriptorEncoder<'_>,
    upstreams: &[(Arc<str>, UpstreamTotal)],
) -> Encoded {
    for what in Incident::ALL {
        let (name, help) = match what {
            Incident::Unconnected => (
                "witgate_upstream_connect_failures",
                "Connections to endpoints that failed",
            ),
            Incident::Retried => (
                "witgate_upstream_retries",
                "Requests that were sent once more",
            ),
            Incident::Ejected => (
                "witgate_upstream_ejections",
                "Endpoints that failed too often in a row and were left alone",
            ),
            Incident::AllBad => (
                "witgate_upstream_none_well",
                "Requests to an endpoint that something speaks against, because something spoke against all",
            ),
        };
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (upstream, total) in upstreams {
            let count = total.incidents[what as usize];
            counter(&mut family, &[("upstream", &**upstream)], count)?;
        }
    }
    let help = "What a limit of an upstream refused: requests, or with `retries` and `budget` another attempt";
    let mut family =
        encoder.encode_descriptor("witgate_upstream_refused", help, None, MetricType::Counter)?;
    for (upstream, total) in upstreams {
        for (limit, count) in Refused::ALL.iter().zip(total.refused) {
            let labels = [("upstream", &**upstream), ("limit", limit.as_str())];
            counter(&mut family, &labels, count)?;
        }
    }
    Ok(())
}

fn endpoints(encoder: &mut DescriptorEncoder<'_>, series: &super::Series) -> Encoded {
    type Holds = fn(&Target) -> bool;
    let gauges: [(&str, &str, Holds); 2] = [
        (
            "witgate_upstream_healthy",
            "1 while an upstream's endpoint passes its health check, or has none",
            Target::is_healthy,
        ),
        (
            "witgate_upstream_ejected",
            "1 while an upstream's endpoint is left alone because it failed too often",
            Target::is_ejected,
        ),
    ];
    for (name, help, holds) in gauges {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for upstream in &series.endpoints {
            // Several endpoints, or names, may come to the same address.
            let targets = upstream.targets();
            let by_name: BTreeMap<_, _> = targets
                .list
                .iter()
                .map(|target| (&*target.name, holds(target)))
                .collect();
            for (endpoint, holds) in by_name {
                let labels = [("upstream", &*upstream.name), ("endpoint", endpoint)];
                family
                    .encode_family(&labels.as_slice())?
                    .encode_gauge(&u64::from(holds))?;
            }
        }
    }
    Ok(())
}

fn spans(encoder: &mut DescriptorEncoder<'_>, counts: &SpanCounts) -> Encoded {
    let help = "Spans that the collector of traces took";
    let mut family =
        encoder.encode_descriptor("witgate_trace_spans", help, None, MetricType::Counter)?;
    let count = counts.exported.load(Ordering::Relaxed);
    family.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
    let help = "Spans that were lost: the `queue` was full, or the `export` failed";
    let name = "witgate_trace_spans_dropped";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (reason, count) in [
        ("queue", &counts.crowded_out),
        ("export", &counts.unexported),
    ] {
        let count = count.load(Ordering::Relaxed);
        counter(&mut family, &[("reason", reason)], count)?;
    }
    Ok(())
}

fn lines(encoder: &mut DescriptorEncoder<'_>, counts: &LineCounts) -> Encoded {
    let help = "Lines of the access log that were written, where it has a place of its own";
    let mut family =
        encoder.encode_descriptor("witgate_access_log_lines", help, None, MetricType::Counter)?;
    let count = counts.written.load(Ordering::Relaxed);
    family.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
    let help =
        "Lines of the access log that were lost: its `queue` was full, or the `write` failed";
    let name = "witgate_access_log_dropped";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (reason, count) in [("queue", &counts.crowded_out), ("write", &counts.unwritten)] {
        let count = count.load(Ordering::Relaxed);
        counter(&mut family, &[("reason", reason)], count)?;
    }
    Ok(())
}

fn plugins(encoder: &mut DescriptorEncoder<'_>, series: &mut super::Series) -> Encoded {
    let plugins: Vec<_> = series
        .plugins
        .iter_mut()
        .map(|(name, folded)| (name.clone(), folded.total()))
        .collect();
    let help = "Calls of a plugin's hooks";
    let mut family =
        encoder.encode_descriptor("witgate_plugin_calls", help, None, MetricType::Counter)?;
    for (name, total) in &plugins {
        for (hook, count) in &total.calls {
            counter(&mut family, &[("plugin", &**name), ("hook", hook)], *count)?;
        }
    }
    let help = "Failures of a plugin by kind; the log has the reason of each";
    let mut family =
        encoder.encode_descriptor("witgate_plugin_failures", help, None, MetricType::Counter)?;
    for (name, total) in &plugins {
        for (kind, count) in &total.failures {
            counter(&mut family, &[("plugin", &**name), ("kind", kind)], *count)?;
        }
    }
    let help = "How long calls of hooks take: of one in sixteen, and of all of an exchange that somebody follows";
    let mut family = encoder.encode_descriptor(
        "witgate_plugin_call_duration",
        help,
        Some(&Unit::Seconds),
        MetricType::Histogram,
    )?;
    for (name, total) in &plugins {
        for times in total.times.iter().filter(|times| times.count() > 0) {
            let bounds = PluginCounts::BOUNDS.iter().copied().chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(times.buckets).collect();
            family
                .encode_family(&[("plugin", &**name), ("hook", times.hook)].as_slice())?
                .encode_histogram::<NoLabelSet>(
                    times.sum.as_secs_f64(),
                    times.count(),
                    &buckets,
                    None,
                )?;
        }
    }
    let help = "Verdicts of a plugin's request and response hooks that were not `next`";
    let mut family =
        encoder.encode_descriptor("witgate_plugin_verdicts", help, None, MetricType::Counter)?;
    for (name, total) in &plugins {
        for (verdict, count) in &total.verdicts {
            counter(
                &mut family,
                &[("plugin", &**name), ("verdict", verdict)],
                *count,
            )?;
        }
    }
    let help = "Instances of a plugin with hooks that live, over all workers";
    let mut family =
        encoder.encode_descriptor("witgate_plugin_instances", help, None, MetricType::Gauge)?;
    for (name, total) in &plugins {
        family
            .encode_family(&[("plugin", &**name)].as_slice())?
            .encode_gauge(&total.instances)?;
    }
    let help = "Linear memory of these instances";
    let mut family = encoder.encode_descriptor(
        "witgate_plugin_memory",
        help,
        Some(&Unit::Bytes),
        MetricType::Gauge,
    )?;
    for (name, total) in &plugins {
        family
            .encode_family(&[("plugin", &**name)].as_slice())?
            .encode_gauge(&total.memory)?;
    }
    let help = "1 while a plugin that failed again and again is left alone on some worker";
    let mut family =
        encoder.encode_descriptor("witgate_plugin_quarantined", help, None, MetricType::Gauge)?;
    for (name, total) in &plugins {
        family
            .encode_family(&[("plugin", &**name)].as_slice())?
            .encode_gauge(&u64::from(total.is_quarantined))?;
    }
    Ok(())
}

fn of_route((listener, route): &(Arc<str>, Arc<str>)) -> [(&'static str, &str); 2] {
    [("listener", listener), ("route", route)]
}

fn counter(family: &mut MetricEncoder<'_>, labels: &[(&str, &str)], count: u64) -> Encoded {
    family
        .encode_family(&labels)?
        .encode_counter::<NoLabelSet, _, u64>(&count, None)
}

fn histogram(
    family: &mut MetricEncoder<'_>,
    labels: &[(&str, &str)],
    total: &HistogramTotal,
) -> Encoded {
    let bounds = BOUNDS.iter().copied().chain([f64::INFINITY]);
    let buckets: Vec<_> = bounds.zip(total.buckets).collect();
    family
        .encode_family(&labels)?
        .encode_histogram::<NoLabelSet>(total.sum_seconds(), total.count(), &buckets, None)
}
