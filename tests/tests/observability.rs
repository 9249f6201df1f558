//! Promise: what is measured is what scrapers and people expect: promtool finds nothing wrong with it, and every query of the
//! dashboard and the alerts in `examples/observability` is about something that is there.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use witgate_tests::admin::{self, ADMIN};
use witgate_tests::http::{self, Message};
use witgate_tests::upstream::response;
use witgate_tests::wait::eventually;
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, Witgate, config};

fn example(name: &str) -> PathBuf {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/observability");
    examples.join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(example(name)).expect("the example is there")
}

#[track_caller]
fn promtool(arguments: &[&str], directory: &Path, input: Option<&Path>) {
    let stdin = match input {
        Some(path) => fs::File::open(path).expect("it was written").into(),
        None => Stdio::null(),
    };
    let ran = Command::new("promtool")
        .args(arguments)
        .current_dir(directory)
        .stdin(stdin)
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = ran.expect("promtool is missing: `make test` installs it");
    let (said, complained) = (
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr),
    );
    assert!(
        status.success(),
        "promtool {arguments:?}:\n{said}{complained}"
    );
}

/// A proxy that has served, through a plugin, from an upstream.
fn served() -> (Upstream, Witgate, SocketAddr) {
    let origin = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let relay = config::through(&["headers"], origin.address());
    let plugin = "\n[plugin.headers]\ncomponent = \"builtin:security-headers\"\n";
    let witgate = Witgate::start(&format!("{relay}{plugin}{ADMIN}"));
    assert_eq!(witgate.get("main", "/").status(), 200);
    let admin = admin::address(&witgate);
    let count = "witgate_requests_total{listener=\"main\",route=\"all\",status=\"2xx\"}";
    eventually("the request is counted", || {
        (admin::metric(admin, count) == 1.0).then_some(())
    });
    (origin, witgate, admin)
}

fn metrics(admin: SocketAddr, accept: &str) -> Message {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n");
    http::exchange(admin, request)
}

/// The names of all series that there can be.
fn names(metrics: &str) -> BTreeSet<String> {
    let types = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let names = types.flat_map(|(name, kind)| match kind {
        "histogram" => ["_bucket", "_sum", "_count"]
            .map(|part| format!("{name}{part}"))
            .to_vec(),
        _ => vec![name.to_owned()],
    });
    names.collect()
}

/// Words of a query that look like our series.
fn words(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("witgate_") || word.starts_with("process_"))
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics_and_each_scraper_gets_its_format() {
    let (_origin, witgate, admin) = served();

    let classic = metrics(admin, "*/*");
    assert_eq!(
        classic.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let file = witgate.setup().path().join("metrics");
    fs::write(&file, classic.text()).expect("the test's directory can be written");
    promtool(&["check", "metrics"], witgate.setup().path(), Some(&file));
    for name in [
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_resident_memory_bytes",
        "witgate_build_info",
    ] {
        assert!(
            names(classic.text()).contains(name),
            "{name} in\n{}",
            classic.text()
        );
    }

    let accept = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5";
    let open = metrics(admin, accept);
    assert!(
        open.header("content-type")
            .is_some_and(|kind| kind.starts_with("application/openmetrics-text"))
    );
    assert!(open.text().ends_with("# EOF\n"));
    assert!(
        open.text()
            .contains("# UNIT witgate_request_duration_seconds seconds\n")
    );
}

#[test]
fn the_dashboard_and_the_alerts_ask_for_what_is_there() {
    let (_origin, witgate, admin) = served();
    let known = names(metrics(admin, "text/plain").text());

    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).expect("it is JSON");
    let panels = dashboard["panels"].as_array().expect("it has panels");
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    let queries: Vec<_> = targets
        .filter_map(|target| target["expr"].as_str())
        .collect();
    assert!(queries.len() > 20, "there are {}", queries.len());
    let variables = dashboard["templating"]["list"]
        .as_array()
        .expect("it has variables");
    let variables = variables
        .iter()
        .filter_map(|variable| variable["query"].as_str());
    let alerts = read("alerts.yml");
    for query in queries.iter().copied().chain(variables).chain([&*alerts]) {
        for word in words(query) {
            assert!(known.contains(word), "there is no {word}, as in {query}");
        }
    }

    // As rules, so that promtool reads them.
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (number, query) in queries.iter().enumerate() {
        let query = query.replace("$__rate_interval", "5m").replace('$', "");
        let query = Value::from(query);
        rules.push_str(&format!(
            "      - record: dashboard:query:{number}\n        expr: {query}\n"
        ));
    }
    let directory = witgate.setup().path();
    fs::write(directory.join("rules.yml"), rules).expect("the test's directory can be written");
    promtool(&["check", "rules", "rules.yml"], directory, None);
}

#[test]
fn prometheus_takes_the_example_and_its_alerts_fire_when_they_should() {
    promtool(&["check", "config", "prometheus.yml"], &example(""), None);
    promtool(&["test", "rules", "alerts.test.yml"], &example(""), None);
}

#[test]
fn the_example_serves_without_a_collector() {
    let origin = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let config = read("witgate.toml")
        .replace("127.0.0.1:3000", &origin.address().to_string())
        .replace("127.0.0.1:8080", "127.0.0.1:0")
        .replace("127.0.0.1:9901", "127.0.0.1:0");
    let witgate = Setup::new().start(&config.replace("drain-delay = \"2s\"", ""));

    assert_eq!(witgate.get("web", "/").text(), "hello");
    assert_eq!(witgate.get("web", "/healthz").status(), 204);
    let log = witgate.setup().path().join("access.log");
    eventually("the line of the one and not of the other", || {
        let lines = fs::read_to_string(&log).ok()?;
        (lines.ends_with('\n') && lines.contains("\"path\":\"/\"")).then(|| {
            assert!(!lines.contains("/healthz"), "{lines}");
        })
    });
}
