//! Promise: an exchange that is sampled is told to a collector as spans, one for itself, one for each hook and one for each
//! attempt upstream; and no collector, however bad, is felt by who is served.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::net::TcpListener;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;
use witgate_tests::admin::{self, ADMIN, metric};
use witgate_tests::upstream::response;
use witgate_tests::wait::eventually;
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, Witgate, config};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn origin() -> Upstream {
    Upstream::answering(|_| response("200 OK", &[], "hello"))
}

fn collector() -> Upstream {
    Upstream::answering(|_| response("200 OK", &[], ""))
}

/// The table, with batches that go out at once.
fn traces(collector: SocketAddr, more: &str) -> String {
    format!(
        "{ADMIN}\n[telemetry.traces]\nendpoint = \"http://{collector}/v1/traces\"\ninterval = \"10ms\"\n{more}\n"
    )
}

fn get(witgate: &Witgate, path: &str, traceparent: &str) -> u16 {
    let mut client = witgate.connect("main");
    let fields = match traceparent {
        "" => String::new(),
        value => format!("traceparent: {value}\r\n"),
    };
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    client.read_response().status()
}

fn text(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let shown = |attribute: &KeyValue| {
        let value = attribute.value.as_ref()?.value.as_ref()?;
        let value = match value {
            Value::StringValue(text) => text.clone(),
            Value::IntValue(number) => number.to_string(),
            other => format!("{other:?}"),
        };
        Some((attribute.key.clone(), value))
    };
    attributes.iter().filter_map(shown).collect()
}

/// All spans that a collector was told, and what it was told of who sends them.
fn told(collector: &Upstream) -> (Vec<Span>, BTreeMap<String, String>) {
    let (mut spans, mut resource) = (Vec::new(), BTreeMap::new());
    for received in collector.received() {
        // One that is still being read has no body yet; an empty message is no message.
        let batch = ExportTraceServiceRequest::decode(&*received.request.body);
        for of_process in batch.expect("it is OTLP").resource_spans {
            let attributes = of_process.resource.map(|resource| resource.attributes);
            resource.extend(text(&attributes.unwrap_or_default()));
            spans.extend(
                of_process
                    .scope_spans
                    .into_iter()
                    .flat_map(|scope| scope.spans),
            );
        }
    }
    (spans, resource)
}

/// Waits for this many spans.
fn spans(collector: &Upstream, count: usize) -> Vec<Span> {
    eventually(&format!("{count} spans"), || {
        let (spans, _) = told(collector);
        (spans.len() >= count).then_some(spans)
    })
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_exchange_its_hooks_and_its_attempts_are_spans_of_the_callers_trace() {
    let (origin, collector) = (origin(), collector());
    let setup = Setup::new().secret("key", "hush");
    let relay = config::through(&["rewrite"], origin.address());
    let plugin =
        "\n[plugin.rewrite]\ncomponent = \"builtin:host-rewrite\"\nconfig = { host = \"b\" }\n";
    let traces = traces(
        collector.address(),
        "headers = { api-key = \"${file:key}\" }\nservice = \"edge\"\nresource = { \"deployment.environment.name\" = \"test\" }",
    );
    // Nobody listens on the first endpoint.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let free = free.expect("the loopback has a free port");
    let relay = relay.replace(
        "endpoints = [",
        &format!("balance = \"round-robin\"\nendpoints = [\"http://{free}\", "),
    );
    let witgate = setup.start(&format!("{relay}{plugin}{traces}"));

    assert_eq!(
        get(
            &witgate,
            "/a?token=secret",
            &format!("00-{TRACE}-00f067aa0ba902b7-01")
        ),
        200
    );

    // The exchange, one hook, and one attempt or, when the dead endpoint was tried first, two.
    let spans = spans(&collector, 3);
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
    let server = spans.iter().find(|span| span.kind() == SpanKind::Server);
    let server = server.expect("one is of the exchange");
    assert_eq!(hex(&server.parent_span_id), "00f067aa0ba902b7");
    assert_eq!(server.name, "GET all");
    let said = text(&server.attributes);
    assert_eq!(said["http.response.status_code"], "200");
    assert_eq!(said["url.path"], "/a");
    assert_eq!(said["witgate.route"], "all");
    assert!(server.start_time_unix_nano <= server.end_time_unix_nano);

    let below = |kind: SpanKind| {
        let of_kind = spans.iter().filter(move |span| span.kind() == kind);
        of_kind.collect::<Vec<_>>()
    };
    let [hook] = below(SpanKind::Internal)[..] else {
        panic!("one hook was called: {spans:?}");
    };
    assert_eq!(hook.name, "rewrite on-request");
    assert_eq!(text(&hook.attributes)["witgate.verdict"], "next");
    let attempts = below(SpanKind::Client);
    let last = attempts.last().expect("it was sent");
    assert_eq!(text(&last.attributes)["http.response.status_code"], "200");
    for unconnected in &attempts[..attempts.len() - 1] {
        assert_eq!(text(&unconnected.attributes)["error.type"], "connect");
    }
    for span in attempts.iter().copied().chain([hook]) {
        assert_eq!(span.parent_span_id, server.span_id);
        assert!(span.start_time_unix_nano >= server.start_time_unix_nano);
        assert!(span.end_time_unix_nano <= server.end_time_unix_nano);
    }
    let request = origin.only_request();
    let expected = format!("00-{TRACE}-{}-01", hex(&last.span_id));
    assert_eq!(
        request.header("traceparent"),
        Some(&*expected),
        "the upstream is told of our span"
    );

    let (_, resource) = told(&collector);
    assert_eq!(resource["service.name"], "edge");
    assert_eq!(resource["deployment.environment.name"], "test");
    let export = &collector.received()[0].request;
    assert_eq!(export.header("api-key"), Some("hush"));
    assert_eq!(
        export.header("content-type"),
        Some("application/x-protobuf")
    );
    assert!(export.head.start_line.starts_with("POST /v1/traces "));
    let everything = format!("{:?}", told(&collector));
    assert!(!everything.contains("secret"), "{everything}");
    let admin = admin::address(&witgate);
    eventually("the spans are counted", || {
        (metric(admin, "witgate_trace_spans_total") >= 3.0).then_some(())
    });
}

#[test]
fn what_is_recorded_is_the_callers_choice_and_else_a_share() {
    let (origin, collector) = (origin(), collector());
    let relay = config::relay(origin.address());
    let witgate = Setup::new().start(&format!(
        "{relay}{}",
        traces(collector.address(), "sampled = 0")
    ));

    // The first two are not recorded, and end before the third.
    assert_eq!(get(&witgate, "/mine", ""), 200);
    assert_eq!(
        get(
            &witgate,
            "/unsampled",
            &format!("00-{TRACE}-00f067aa0ba902b7-00")
        ),
        200
    );
    assert_eq!(
        get(
            &witgate,
            "/sampled",
            &format!("00-{TRACE}-00f067aa0ba902b7-01")
        ),
        200
    );

    let spans = spans(&collector, 2);
    let paths = spans
        .iter()
        .filter_map(|span| text(&span.attributes).remove("url.path"));
    assert_eq!(paths.collect::<Vec<_>>(), ["/sampled"]);
    let flags = origin.received().into_iter().map(|received| {
        let field = received.request.header("traceparent").unwrap_or_default();
        field[53..].to_owned()
    });
    assert_eq!(flags.collect::<Vec<_>>(), ["00", "00", "01"]);
}

#[test]
fn an_upstream_that_fails_is_an_error_and_a_client_that_asks_wrongly_is_none() {
    let origin = Upstream::answering(|request| {
        let missing = request.head.start_line.contains("/missing");
        let status = if missing { "404 Not Found" } else { "500 Oops" };
        response(status, &[], "")
    });
    let collector = collector();
    let relay = config::relay(origin.address());
    let witgate = Setup::new().start(&format!("{relay}{}", traces(collector.address(), "")));

    assert_eq!(get(&witgate, "/missing", ""), 404);
    assert_eq!(get(&witgate, "/broken", ""), 500);

    let spans = spans(&collector, 4);
    let code = |path: &str| {
        let of = |span: &&Span| {
            text(&span.attributes)
                .get("url.path")
                .is_some_and(|it| it == path)
        };
        let span = spans.iter().find(of).expect("it was recorded");
        span.status
            .as_ref()
            .map_or(StatusCode::Unset, |status| status.code())
    };
    assert_eq!(
        (code("/missing"), code("/broken")),
        (StatusCode::Unset, StatusCode::Error)
    );
}

/// Serves a while with this collector, and stops.
fn serve_with(collector: SocketAddr, dropped: &str) {
    let origin = origin();
    let relay = config::relay(origin.address());
    let more = "timeout = \"100ms\"\nqueue = 4\nbatch = 1";
    let witgate = Setup::new().start(&format!("{relay}{}", traces(collector, more)));
    let admin = admin::address(&witgate);

    eventually(&format!("spans are lost: {dropped}"), || {
        // More at once than the queue takes, however slow the machine is in between.
        for _ in 0..16 {
            assert_eq!(get(&witgate, "/", ""), 200);
        }
        let dropped = format!("witgate_trace_spans_dropped_total{{reason=\"{dropped}\"}}");
        (metric(admin, &dropped) > 0.0).then_some(())
    });
    witgate.log_line("lost spans", |line| {
        let what = line.message();
        what.starts_with("spans are lost") || what.contains("they are lost until it does")
    });

    let ended = witgate.stop();
    assert!(ended.status.success(), "{}", ended.output());
}

#[test]
fn a_collector_that_hangs_is_felt_by_nobody() {
    let hangs = Upstream::start(|peer| {
        peer.next_request();
        peer.next_request();
    });
    serve_with(hangs.address(), "queue");
}

#[test]
fn a_collector_that_answers_500_is_felt_by_nobody() {
    let fails = Upstream::answering(|_| response("500 Oops", &[], "no"));
    serve_with(fails.address(), "export");
}

#[test]
fn a_collector_that_refuses_or_speaks_something_else_is_felt_by_nobody() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    serve_with(free.expect("the loopback has a free port"), "export");
    let garbage = Upstream::start(|peer| {
        peer.next_request();
        peer.try_send("\u{0}\u{1}not http at all\r\n\r\n").ok();
    });
    serve_with(garbage.address(), "export");
}
