//! An exchange as spans, by the semantic conventions for HTTP
//! (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>).

use std::time::{Instant, SystemTime};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use witgate_runtime::{FailureKind, Step};

use super::{Attempt, Finished, derived};

/// Numbers of spans behind those of the attempts.
const FIRST_STEP: usize = 1 << 16;

pub(super) fn of(finished: &Finished) -> Vec<SpanData> {
    let mut spans = vec![exchange(finished)];
    let attempts = finished.attempts.iter().enumerate();
    spans.extend(attempts.map(|(at, attempt)| finished.attempt(at, attempt)));
    let steps = finished.ended.steps.iter().enumerate();
    spans.extend(steps.map(|(at, step)| finished.hook(at, step)));
    spans
}

fn exchange(finished: &Finished) -> SpanData {
    let ended = &finished.ended;
    let mut attributes = vec![
        KeyValue::new("http.request.method", ended.method.as_str().to_owned()),
        KeyValue::new("url.scheme", finished.scheme.as_str()),
        KeyValue::new("url.path", ended.path.to_string()),
        KeyValue::new("network.protocol.name", "http"),
        KeyValue::new("network.protocol.version", finished.version),
        KeyValue::new("client.address", ended.client.to_string()),
        KeyValue::new("http.request.body.size", signed(ended.received)),
        KeyValue::new("http.response.body.size", signed(ended.sent)),
        KeyValue::new("witgate.listener", ended.listener.to_string()),
        KeyValue::new("witgate.route", ended.route.to_string()),
        KeyValue::new("witgate.request_id", ended.request_id.to_string()),
    ];
    if !ended.host.is_empty() {
        attributes.extend(server(&ended.host));
    }
    if let Some(agent) = &finished.user_agent {
        attributes.push(KeyValue::new("user_agent.original", agent.to_string()));
    }
    for (name, value) in &ended.notes {
        attributes.push(KeyValue::new(
            format!("witgate.attribute.{name}"),
            value.clone(),
        ));
    }
    let status = ended.status.map(|status| status.as_u16());
    if let Some(status) = status {
        attributes.push(KeyValue::new(
            "http.response.status_code",
            i64::from(status),
        ));
    }
    // What a client does wrong is no error of the server's.
    let failed =
        status.is_some_and(|status| status >= 500) || !matches!(ended.fault, "" | "client");
    let mut span_status = Status::Unset;
    if failed {
        let kind = match (ended.fault, status) {
            ("", Some(status)) => status.to_string(),
            (fault, _) => fault.to_owned(),
        };
        attributes.push(KeyValue::new("error.type", kind));
        span_status = Status::error(ended.reason.to_string());
    }
    SpanData {
        parent_span_id: finished.parent.map_or(SpanId::INVALID, SpanId::from),
        parent_span_is_remote: finished.parent.is_some(),
        span_kind: SpanKind::Server,
        name: match &*ended.route {
            "" => ended.method.as_str().to_owned().into(),
            route => format!("{} {route}", ended.method).into(),
        },
        start_time: finished.wall_clock(ended.started),
        end_time: finished.end(),
        attributes,
        status: span_status,
        ..finished.child(finished.span)
    }
}

impl Finished {
    /// A span of this trace below that of the exchange.
    fn child(&self, span: u64) -> SpanData {
        let trace = u128::from_str_radix(&self.trace, 16).unwrap_or_default();
        let (flags, state) = (TraceFlags::SAMPLED, TraceState::NONE);
        SpanData {
            span_context: SpanContext::new(
                TraceId::from(trace),
                SpanId::from(span),
                flags,
                false,
                state,
            ),
            parent_span_id: SpanId::from(self.span),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: "".into(),
            start_time: self.at,
            end_time: self.at,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("witgate")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }
    }

    fn attempt(&self, at: usize, attempt: &Attempt) -> SpanData {
        let mut attributes = vec![KeyValue::new(
            "http.request.method",
            self.ended.method.as_str().to_owned(),
        )];
        attributes.extend(server(&attempt.endpoint));
        if at > 0 {
            let resent = i64::try_from(at).unwrap_or(i64::MAX);
            attributes.push(KeyValue::new("http.request.resend_count", resent));
        }
        let status = attempt.status.map(|status| status.as_u16());
        if let Some(status) = status {
            attributes.push(KeyValue::new(
                "http.response.status_code",
                i64::from(status),
            ));
        }
        let error = match (attempt.error, status) {
            (Some(error), _) => Some(error.to_owned()),
            (None, Some(status)) if status >= 400 => Some(status.to_string()),
            (None, None) if attempt.took.is_none() => Some("client".to_owned()),
            _ => None,
        };
        let is_error = error.is_some();
        attributes.extend(error.map(|error| KeyValue::new("error.type", error)));
        let start = self.wall_clock(attempt.began);
        SpanData {
            span_kind: SpanKind::Client,
            name: self.ended.method.as_str().to_owned().into(),
            start_time: start,
            end_time: attempt.took.map_or(self.end(), |took| start + took),
            attributes,
            status: if is_error {
                Status::error("")
            } else {
                Status::Unset
            },
            ..self.child(attempt.span)
        }
    }

    fn hook(&self, at: usize, step: &Step) -> SpanData {
        let start = self.wall_clock(step.began);
        let failed = FailureKind::LABELS.contains(&step.verdict);
        SpanData {
            name: format!("{} {}", step.plugin, step.hook).into(),
            start_time: start,
            end_time: start + step.took,
            attributes: vec![
                KeyValue::new("witgate.plugin", step.plugin.to_string()),
                KeyValue::new("witgate.hook", step.hook),
                KeyValue::new("witgate.verdict", step.verdict),
            ],
            status: match failed {
                true => Status::error(step.verdict),
                false => Status::Unset,
            },
            ..self.child(derived(self.span, FIRST_STEP + at))
        }
    }

    fn end(&self) -> SystemTime {
        self.wall_clock(self.ended.started + self.ended.duration)
    }

    fn wall_clock(&self, moment: Instant) -> SystemTime {
        let before = self.now.saturating_duration_since(moment);
        self.at.checked_sub(before).unwrap_or(self.at)
    }
}

/// `server.address` and `server.port` of `host` or `host:port`.
fn server(authority: &str) -> Vec<KeyValue> {
    let split = authority.rsplit_once(':');
    let (host, port) = match split.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
    {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut attributes = vec![KeyValue::new("server.address", host.to_owned())];
    attributes.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
    attributes
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
