//! What is shown as JSON. Times are in seconds, moments in seconds since 1970, sizes in bytes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value, json};
use witgate_runtime::{CallTimes, Isolation, PluginCounts};

use super::Shown;
use crate::config::{self, Destination, OnFailure};
use crate::generation::Generation;
use crate::imports::{Import, PluginReport, Standing};
use crate::metrics::{
    BOUNDS, CLASSES, Figures, HistogramTotal, Metrics, PluginTotal, RouteTotal, quantile,
};
use crate::recent::Past;

/// The shares of calls whose times are told.
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];

pub(super) fn seconds_since_1970(time: SystemTime) -> f64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

impl Shown {
    /// Everything for somebody who looks elsewhere, too.
    pub(super) fn another(&self) -> Self {
        Self {
            status: self.status.clone(),
            generations: self.generations.clone(),
            is_loopback: self.is_loopback,
            streams: self.streams.clone(),
        }
    }

    /// The process as a whole.
    pub(super) async fn status_document(&self) -> Value {
        let status = self.status.clone();
        // What is known of Chromium's harvests is read from a file.
        let known = tokio::task::spawn_blocking(move || {
            let (_, ready) = status.ready(true);
            let operate = status.operate.as_ref();
            (ready, operate.and_then(|operate| operate.browser()))
        });
        let (ready, chrome) = known.await.unwrap_or_default();
        let reload = self.status.last_reload();
        let generation = self.generations.borrow().clone();
        json!({
            "version": self.status.version,
            "started": seconds_since_1970(self.status.started),
            "now": seconds_since_1970(SystemTime::now()),
            "file": generation.config().location.file(),
            "generation": self.status.metrics.figures().generation,
            "workers": generation.config().server.workers,
            "readiness": ready,
            "reload": reload.map(|report| report.document().clone()),
            "chrome": chrome,
        })
    }
}

/// The routes, and behind them, without a name, what no route of a listener took.
pub(super) fn routes(generation: &Generation, figures: &Figures) -> Value {
    let config = generation.config();
    let total = |listener: &Arc<str>, name: &Arc<str>| {
        let mut totals = figures.routes.iter();
        let of = |((in_listener, route), _): &&((Arc<str>, Arc<str>), RouteTotal)| {
            in_listener == listener && route == name
        };
        totals.find(of).map(|(_, total)| total.clone())
    };
    let mut routes = Vec::new();
    for route in &config.routes {
        let listener = &config.listeners[route.listener].name;
        let mut document = route_document(route);
        document["listener"] = (&**listener).into();
        let total = total(listener, &route.name).unwrap_or_default();
        extend(&mut document, route_figures(&total));
        routes.push(document);
    }
    let nameless = Arc::from("");
    let unrouted = config.listeners.iter().map(|listener| {
        let total = total(&listener.name, &nameless).unwrap_or_default();
        let mut document = json!({"listener": &*listener.name});
        extend(&mut document, route_figures(&total));
        document
    });
    json!({"routes": routes, "unrouted": unrouted.collect::<Vec<_>>()})
}

fn route_document(route: &config::Route) -> Value {
    let hosts = route.hosts.iter().map(ToString::to_string);
    let (kind, to) = match &route.destination {
        Destination::Upstream(name) => ("upstream", Some(name.to_string())),
        Destination::Component { name, .. } => ("component", Some(name.to_string())),
        Destination::Split(split) => {
            let shares = split.shares.iter();
            let shares: Vec<_> = shares
                .map(|(name, weight)| format!("{name} {weight}"))
                .collect();
            ("split", Some(shares.join(", ")))
        }
        Destination::Redirect(redirect) => ("redirect", Some(redirect.status.as_u16().to_string())),
        Destination::Reply(reply) => ("reply", Some(reply.status.as_u16().to_string())),
        Destination::Plugins => ("plugins", None),
    };
    let methods = route.conditions.methods.iter();
    let methods: Vec<_> = methods.map(|method| method.as_str()).collect();
    let plugins: Vec<_> = route.plugins.iter().map(|name| &**name).collect();
    json!({
        "name": &*route.name,
        "hosts": hosts.collect::<Vec<_>>(),
        "path": route.path.to_string(),
        "methods": methods,
        "plugins": plugins,
        "destination": {"kind": kind, "name": to},
    })
}

fn route_figures(total: &RouteTotal) -> Value {
    json!({
        "requests": by_class(&total.by_class),
        "received_bytes": total.received,
        "sent_bytes": total.sent,
        "upgraded": total.upgraded,
        "duration": duration(&total.duration),
    })
}

fn by_class(counts: &[u64; CLASSES.len()]) -> Value {
    let counts = CLASSES.iter().zip(counts);
    let entries = counts.map(|(class, count)| ((*class).to_owned(), (*count).into()));
    Value::Object(entries.collect())
}

fn duration(histogram: &HistogramTotal) -> Value {
    let (count, sum) = (histogram.count(), histogram.sum_seconds());
    times(count, sum, &BOUNDS, &histogram.buckets)
}

/// A histogram: how many, how long together, and what some shares of them did not exceed.
fn times(count: u64, sum: f64, bounds: &[f64], buckets: &[u64]) -> Value {
    let mut document = json!({"count": count, "sum_seconds": sum});
    for (name, q) in QUANTILES {
        document[name] = json!(quantile(bounds, buckets, q));
    }
    let upper = bounds.iter().copied().map(Some).chain([None]);
    let buckets = upper.zip(buckets);
    let bucket = |(up_to, count): (Option<f64>, &u64)| json!({"up_to": up_to, "count": count});
    document["buckets"] = buckets.map(bucket).collect();
    document
}

pub(super) fn upstreams(generation: &Generation, figures: &Figures) -> Value {
    let shown = generation.upstreams.values().map(|shared| {
        let totals = figures.upstreams.iter();
        let total = totals.filter(|(name, _)| *name == shared.name);
        let total = total
            .map(|(_, total)| total.clone())
            .next()
            .unwrap_or_default();
        let targets = shared.targets();
        // Several endpoints, or names, may come to the same address.
        let by_name: BTreeMap<_, _> = targets.list.iter().map(|it| (&*it.name, it)).collect();
        let endpoints = by_name.iter().map(|(address, target)| {
            json!({
                "address": address,
                "healthy": target.is_healthy(),
                "ejected": target.is_ejected(),
            })
        });
        let endpoints: Vec<_> = endpoints.collect();
        json!({
            "name": &*shared.name,
            "endpoints": endpoints,
            "failure": targets.failure,
            "health_check": shared.config.health.is_some(),
            "requests": by_class(&total.by_class),
            "response": duration(&total.to_head),
        })
    });
    json!({ "upstreams": shown.collect::<Vec<_>>() })
}

/// Connections that are shown of one worker, the oldest first.
const MOST_CONNECTIONS: usize = 100;

pub(super) fn connections(metrics: &Metrics) -> Value {
    let workers = metrics.connections().clone();
    let workers = workers.iter().enumerate().map(|(worker, connections)| {
        let (open, oldest) = connections.oldest(MOST_CONNECTIONS);
        let oldest = oldest.iter().map(|connection| {
            let state = connection.state;
            json!({
                "peer": connection.peer.to_string(),
                "listener": &*connection.listener,
                "protocol": connection.protocol,
                "age_seconds": connection.age.as_secs_f64(),
                "state": match state.exchanges {
                    _ if state.tunnels > 0 => "upgraded",
                    0 if state.is_idle => "idle",
                    0 => "reading",
                    _ => "busy",
                },
                "exchanges": state.exchanges,
            })
        });
        json!({"worker": worker, "open": open, "oldest": oldest.collect::<Vec<_>>()})
    });
    json!({
        "listeners": listeners(&metrics.figures()),
        "workers": workers.collect::<Vec<_>>(),
    })
}

pub(super) fn listeners(figures: &Figures) -> Value {
    let listeners = figures.listeners.iter().map(|listener| {
        let routes = figures.routes.iter();
        let own = routes.filter(|((name, _), _)| *name == listener.name);
        let upgraded: i64 = own.map(|(_, total)| total.upgraded).sum();
        json!({
            "name": &*listener.name,
            "address": listener.address.to_string(),
            "open": listener.open(),
            "limit": listener.most,
            "upgraded": upgraded,
        })
    });
    listeners.collect::<Vec<_>>().into()
}

pub(super) fn plugins(generation: &Generation, figures: &Figures) -> Value {
    let reports = generation.imports();
    let shown = reports
        .iter()
        .filter_map(|report| plugin_document(generation, figures, report));
    json!({ "plugins": shown.collect::<Vec<_>>() })
}

/// One plugin, with its failures.
pub(super) fn plugin(
    generation: &Generation,
    figures: &Figures,
    metrics: &Metrics,
    name: &str,
) -> Option<Value> {
    let reports = generation.imports();
    let report = reports.iter().find(|report| &*report.plugin == name)?;
    let mut document = plugin_document(generation, figures, report)?;
    let failures = metrics.failures_of(name);
    let failures = failures.iter().map(|failure| {
        json!({
            "at": seconds_since_1970(failure.at),
            "call": failure.call,
            "kind": failure.kind,
            "message": failure.words,
        })
    });
    document["recent_failures"] = failures.collect();
    Some(document)
}

fn plugin_document(
    generation: &Generation,
    figures: &Figures,
    report: &PluginReport,
) -> Option<Value> {
    let plugin = generation.config().plugins.get(&report.plugin)?;
    let code = generation.component_of(&report.plugin)?;
    let totals = figures.plugins.iter();
    let total = totals.filter(|(name, _)| *name == report.plugin);
    let total = total
        .map(|(_, total)| total.clone())
        .next()
        .unwrap_or_default();
    let routes = generation.config().routes.iter();
    let uses = |route: &&config::Route| {
        let ends_there = matches!(&route.destination, Destination::Component { name, .. } if *name == plugin.name);
        ends_there || route.plugins.contains(&plugin.name)
    };
    let routes: Vec<_> = routes.filter(uses).collect();
    let digest = code.digest().iter().map(|byte| format!("{byte:02x}"));
    let names: Vec<_> = routes.iter().map(|route| &*route.name).collect();
    let grants: Vec<_> = plugin.grant.written.iter().map(|(key, _)| &**key).collect();
    let mut document = json!({
        "name": &*plugin.name,
        "component": report.component,
        "digest": digest.collect::<String>(),
        "hooks": report.hooks,
        "imports": report.imports.iter().map(import).collect::<Vec<_>>(),
        "grants": grants,
        "isolation": match plugin.isolation {
            Isolation::Worker => "worker",
            Isolation::Exchange => "exchange",
        },
        "on_failure": match plugin.on_failure {
            OnFailure::Closed => "closed",
            OnFailure::Open => "open",
        },
        "limits": {
            "deadline_seconds": plugin.limits.deadline.as_secs_f64(),
            "memory_bytes": plugin.limits.memory,
            "concurrency": plugin.limits.concurrency,
        },
        "routes": names,
    });
    extend(&mut document, plugin_figures(&total));
    document["share"] = json!(share(&total, &routes, generation, figures));
    Some(document)
}

fn import(import: &Import) -> Value {
    let (standing, grant) = match import.standing {
        Standing::Free => ("free", None),
        Standing::Granted(key) => ("granted", Some(key)),
        Standing::Missing(key) => ("missing", Some(key)),
        Standing::Refused => ("refused", None),
    };
    json!({"name": import.name, "standing": standing, "grant": grant})
}

fn plugin_figures(total: &PluginTotal) -> Value {
    let times = total.times.iter().filter(|times| times.count() > 0);
    let times = times.map(|times| (times.hook.to_owned(), call_times(times)));
    json!({
        "instances": total.instances,
        "memory_bytes": total.memory,
        "calls": labelled(&total.calls),
        "verdicts": labelled(&total.verdicts),
        "failures": labelled(&total.failures),
        "quarantined": total.is_quarantined,
        "times": Value::Object(times.collect()),
    })
}

fn call_times(hook: &CallTimes) -> Value {
    let sum = hook.sum.as_secs_f64();
    times(hook.count(), sum, &PluginCounts::BOUNDS, &hook.buckets)
}

fn labelled(counts: &[(&'static str, u64)]) -> Value {
    let counts = counts.iter();
    let entries: Map<_, _> = counts
        .map(|(label, count)| ((*label).to_owned(), (*count).into()))
        .collect();
    Value::Object(entries)
}

/// Which part of the time of its routes' exchanges a plugin's request and response hooks take; `None` before anything was
/// timed.
fn share(
    total: &PluginTotal,
    routes: &[&config::Route],
    generation: &Generation,
    figures: &Figures,
) -> Option<f64> {
    let listeners = &generation.config().listeners;
    let is_one = |(listener, name): &(Arc<str>, Arc<str>)| {
        let mut routes = routes.iter();
        routes.any(|route| route.name == *name && listeners[route.listener].name == *listener)
    };
    let durations = figures.routes.iter().filter(|(key, _)| is_one(key));
    let all: f64 = durations
        .map(|(_, total)| total.duration.sum_seconds())
        .sum();
    let of_calls = |times: &CallTimes| {
        let calls = total.calls.iter().find(|(hook, _)| *hook == times.hook)?.1;
        let mean = times.sum.as_secs_f64() / times.count().max(1) as f64;
        Some(mean * calls as f64)
    };
    let hooks = total.times.iter();
    let hooks = hooks.filter(|times| matches!(times.hook, "on-request" | "on-response" | "handle"));
    let own: f64 = hooks.filter_map(of_calls).sum();
    (all > 0.0).then(|| (own / all).min(1.0))
}

pub(super) fn exchange(past: &Past) -> Value {
    let seconds = |time: Duration| time.as_secs_f64();
    let after = |moment: Instant| moment.saturating_duration_since(past.started).as_secs_f64();
    let steps = past.steps.iter().map(|step| {
        json!({
            "plugin": &*step.plugin,
            "hook": step.hook,
            "after_seconds": after(step.began),
            "took_seconds": seconds(step.took),
            "verdict": step.verdict,
        })
    });
    let mut notes = Map::new();
    past.attributes.for_each(|plugin, note, value| {
        notes.insert(format!("{plugin}.{note}"), value.into());
    });
    json!({
        "request_id": &*past.request_id,
        "ended": seconds_since_1970(past.at),
        "duration_seconds": seconds(past.duration),
        "listener": &*past.listener,
        "route": &*past.route,
        "client": past.client.to_string(),
        "method": past.method.as_str(),
        "host": &*past.host,
        "path": &*past.path,
        "status": past.status.map(|status| status.as_u16()),
        "upstream": past.upstream.as_deref(),
        "upstream_seconds": past.upstream_time.map(seconds),
        "received_bytes": past.received,
        "sent_bytes": past.sent,
        "outcome": past.outcome,
        "fault": past.fault,
        "reason": &*past.reason,
        "notes": notes,
        "steps": steps.collect::<Vec<_>>(),
    })
}

/// Puts the entries of one object into another.
fn extend(document: &mut Value, more: Value) {
    if let (Value::Object(document), Value::Object(more)) = (document, more) {
        document.extend(more);
    }
}
