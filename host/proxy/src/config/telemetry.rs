//! Reads `[telemetry]`.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use witgate_runtime::{Origin, Scheme};

use super::model::{Collector, Secret, TraceContext, Traces};
use super::shape::{boolean, integer, named_values, positive_duration, string, table};
use super::value::Value;
use super::{Item, Section, authorities};

/// How many of a million stand for all.
const MILLION: u32 = 1_000_000;

pub(super) fn read(section: &mut Section<'_>) -> Option<Option<Traces>> {
    Some(section.optional("traces", table(traces)))
}

fn traces(section: &mut Section<'_>) -> Option<Traces> {
    let collector = section.required("endpoint", "\"http://127.0.0.1:4318/v1/traces\"", collector);
    let ca = section.optional("ca", authorities::read);
    let headers = section.default("headers", BTreeMap::new(), named_values(header));
    let sampled = section.default("sampled", MILLION, percent);
    let parent_based = section.default("parent-based", true, boolean);
    let service = section.default("service", "witgate".to_owned(), string);
    let resource = section.default("resource", BTreeMap::new(), named_values(string));
    let seconds = Duration::from_secs;
    Some(Traces {
        context: TraceContext {
            begin: true,
            sampled,
            parent_based,
        },
        ca,
        headers,
        service,
        resource,
        queue: section.default("queue", 2048, integer(1..=1 << 20)),
        batch: section.default("batch", 512, integer(1..=1 << 16)),
        interval: section.default("interval", seconds(5), positive_duration),
        timeout: section.default("timeout", seconds(10), positive_duration),
        collector: collector?,
    })
}

fn collector(item: &Item<'_>) -> Option<Collector> {
    let text = item.text("a URL, such as \"http://127.0.0.1:4318/v1/traces\"")?;
    let parsed = || {
        let uri: Uri = text.parse().ok()?;
        let scheme = Scheme::parse(uri.scheme_str()?)?;
        let origin = Origin::parse(scheme, uri.authority()?.as_str())?;
        (uri.path() != "/" && uri.query().is_none()).then_some(Collector {
            url: text.into(),
            origin,
        })
    };
    parsed().or_else(|| {
        item.reject(
            format!("{} is no place that spans can be sent to", item.shown()),
            "write the whole URL of OTLP over HTTP, with its path: \"http://127.0.0.1:4318/v1/traces\"",
        )
    })
}

fn header(item: &Item<'_>) -> Option<Secret> {
    let text = string(item)?;
    let legal = HeaderName::try_from(item.name()).is_ok() && HeaderValue::try_from(&text).is_ok();
    match legal {
        true => Some(Secret::from(text)),
        false => item.reject(
            "this is no header field",
            "names are tokens, and values have no control characters: authorization = \"${file:/run/secrets/collector}\"",
        ),
    }
}

/// How many of a hundred, as how many of a million.
pub(super) fn percent(item: &Item<'_>) -> Option<u32> {
    let share = match item.value() {
        Value::Integer(Some(share)) => *share as f64,
        Value::Float(share) => *share,
        _ => return item.mismatch("a number from 0 to 100"),
    };
    match (0.0..=100.0).contains(&share) {
        // At most a million.
        true => Some((share * 10_000.0).round() as u32),
        false => item.reject(
            format!("{} is not from 0 to 100", item.shown()),
            "write how many of a hundred: 100, 5, 0.1",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Document;
    use super::*;

    fn telemetry(text: &str) -> Result<Option<Traces>, String> {
        let document = Document::parse("etc/a.toml", &format!("[telemetry.traces]\n{text}"))
            .expect("this is TOML");
        let reader = document.reader();
        let mut root = reader.root();
        let traces = root.optional("telemetry", table(read));
        root.finish();
        let read = reader.finish(traces);
        read.map(|(traces, _)| traces)
            .map_err(|wrong| wrong.to_string())
    }

    #[test]
    fn what_is_set_is_taken_over_and_secrets_are_not_shown() {
        let traces = telemetry(
            "endpoint = 'https://otel.example:4318/v1/traces'\nsampled = 0.5\nparent-based = false\n\
             headers = { authorization = 'Bearer hush' }\nresource = { 'deployment.environment.name' = 'test' }",
        );
        let traces = traces.expect("it is valid").expect("it is there");
        assert_eq!(
            traces.context,
            TraceContext {
                begin: true,
                sampled: 5_000,
                parent_based: false
            }
        );
        assert_eq!(traces.collector.origin.port(), 4318);
        assert_eq!(traces.resource["deployment.environment.name"], "test");
        assert_eq!(traces.headers["authorization"].reveal(), "Bearer hush");
        assert!(!format!("{traces:?}").contains("hush"), "{traces:?}");
    }

    #[test]
    fn what_cannot_be_is_told() {
        for (text, expected) in [
            (
                "endpoint = 'collector:4318'",
                "no place that spans can be sent to",
            ),
            ("endpoint = 'http://collector:4318'", "with its path"),
            ("endpoint = 'ftp://collector/v1/traces'", "no place"),
            (
                "endpoint = 'http://a/v1/traces'\nsampled = 101",
                "not from 0 to 100",
            ),
            (
                "endpoint = 'http://a/v1/traces'\nheaders = { 'a b' = 'c' }",
                "no header field",
            ),
        ] {
            let report = telemetry(text).expect_err(text);
            assert!(report.contains(expected), "{text}: {report}");
        }
    }
}
