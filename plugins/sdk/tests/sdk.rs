//! The SDK under the runtime, by a plugin that does what the request says (`guest/`).

use std::time::Duration;

use witgate_testkit::{
    Component, CustomValue, Cuts, End, Exchange, FailureKind, FaultySide, Finished, HeldEnd,
    Plugin, Reply, ReplyBody, Scheme, Store, Summary, assert_chunks_do_not_matter,
};

fn component() -> Component {
    Component::of_package(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guest"),
        "sdk-guest",
        "plugin",
    )
}

fn plugin() -> Plugin {
    component().start("{}")
}

fn order(order: &str) -> Exchange {
    Exchange::get("/a?b")
        .authority("box:1")
        .header("x-do", order)
}

fn text(reply: &Reply) -> &str {
    match &reply.body {
        ReplyBody::Bytes(body) => str::from_utf8(body).expect("UTF-8"),
        other => panic!("expected bytes, got {other:?}"),
    }
}

/// The reason for which the plugin failed; its instance lives on.
fn reason(order_: &str) -> String {
    match plugin()
        .try_on_request(&mut order(order_))
        .expect_err("refused")
        .kind
    {
        FailureKind::Error(reason) => reason,
        other => panic!("expected a failure, got {other:?}"),
    }
}

#[test]
fn the_named_hooks_make_a_component_that_exports_them() {
    let hooks = component().hooks();
    assert!(hooks.request && hooks.response && hooks.completion);
}

#[test]
fn a_store_keeps_what_instances_forget_until_its_time_is_over() {
    let store = Store::new();
    let keep = |plugin: &Plugin| {
        let reply = plugin.on_request(&mut order("keep")).expect_answer();
        text(&reply).to_owned()
    };
    let plugin = component().keyvalue(&store).start("{}");
    assert_eq!(keep(&plugin), "None\n2\n1\n()\n()\ntrue\nfalse\ntrue");
    let another = component().keyvalue(&store).start("{}");
    assert_eq!(
        keep(&another).lines().take(3).collect::<Vec<_>>(),
        ["Some([50])", "4", "2"]
    );
    assert_eq!(store.get("a").as_deref(), Some(&b"3"[..]));

    plugin.advance(Duration::from_secs(60));

    assert_eq!((store.get("a"), store.get("window")), (None, None));
    assert_eq!(store.get("seen").as_deref(), Some(&b"4"[..]));
    store.set("seen", "many");
    let failure = plugin
        .try_on_request(&mut order("keep"))
        .expect_err("no number");
    assert!(
        failure.to_string().contains("no 64-bit integer"),
        "{failure}"
    );
    let gone = component().keyvalue(&Store::unavailable()).start("{}");
    let failure = gone.try_on_request(&mut order("keep")).expect_err("gone");
    assert!(failure.to_string().contains("not available"), "{failure}");
    assert!(reason("keep").contains("`grant.keyvalue`"));
}

#[test]
fn what_a_plugin_counts_can_be_asked_for() {
    let plugin = component().metrics(3).start("{}");
    for _ in 0..2 {
        plugin.on_request(&mut order("measure")).expect_next();
    }
    let seen = plugin.metric("seen", &[("kind", "fox")]);
    assert_eq!(seen, Some(CustomValue::Counter(4)));
    assert_eq!(plugin.metric("depth", &[]), Some(CustomValue::Gauge(1.5)));
    let buckets = vec![(1.0, 0), (f64::INFINITY, 2)];
    assert_eq!(
        plugin.metric("size", &[]),
        Some(CustomValue::Histogram { buckets, sum: 6.0 })
    );
    assert_eq!(plugin.metric("other", &[]), None);
    let fewer = component().metrics(2).start("{}");
    let failure = fewer
        .try_on_request(&mut order("measure"))
        .expect_err("three");
    assert!(failure.to_string().contains("all 2 series"), "{failure}");
    assert!(reason("measure").contains("`grant.metrics`"));
}

#[test]
fn a_secret_is_given_by_its_name() {
    let plugin = component().secrets(&[("key", "s3cret")]).start("{}");
    assert_eq!(
        text(&plugin.on_request(&mut order("secret")).expect_answer()),
        "6"
    );
    assert!(reason("secret").contains("`key` is not granted"));
}

#[test]
fn all_that_the_contract_lets_a_request_hook_read_is_there() {
    let mut exchange = Exchange::new("PATCH", "/a?b=c?d")
        .authority("box:1")
        .scheme(Scheme::Https)
        .client_path_with_query("/prefix/a?b=c?d")
        .upgrade("websocket")
        .header("X-Do", "facts")
        .header("x-many", "1")
        .header("x-many", "2");
    let reply = plugin().on_request(&mut exchange).expect_answer();
    let facts: Vec<&str> = text(&reply).lines().collect();
    assert_eq!(
        facts,
        [
            "test-exchange",
            "test-listener",
            "test-route",
            "192.0.2.7:51324",
            "192.0.2.7",
            "https",
            "box:1",
            "/prefix/a?b=c?d",
            "PATCH",
            "box:1",
            "/a?b=c?d",
            "/a",
            "websocket",
            "host,x-do,x-many",
            "1+2",
        ]
    );
}

#[test]
fn the_configuration_arrives() {
    let plugin = component().start(r#"{"greeting":"hé\"llo"}"#);
    assert_eq!(
        text(&plugin.on_request(&mut order("greet")).expect_answer()),
        "hé\"llo"
    );
}

#[test]
fn an_instance_keeps_its_state_between_calls() {
    let plugin = plugin();
    for calls in ["1", "2", "3"] {
        assert_eq!(
            text(&plugin.on_request(&mut order("count")).expect_answer()),
            calls
        );
    }
}

#[test]
fn edits_of_a_request_arrive() {
    let mut exchange = order("edit")
        .header("x-gone", "1")
        .header("x-set", "0")
        .header("x-many", "1");
    plugin().on_request(&mut exchange).expect_next();
    assert_eq!(exchange.path_with_query(), "/new?q");
    assert_eq!(exchange.upstream_authority(), "new.example:1");
    assert_eq!(exchange.request_header("x-set"), Some("set"));
    assert_eq!(exchange.request_header("x-gone"), None);
    let many: Vec<_> = exchange
        .inner()
        .request
        .headers
        .get_all("x-many")
        .iter()
        .collect();
    assert_eq!(many, [&b"1"[..], b"\xff"]);
}

#[test]
fn edits_of_a_response_arrive() {
    let mut exchange = order("edit").response(200, &[("x-gone", "1"), ("x-many", "1")]);
    plugin().on_response(&mut exchange).expect_next();
    assert_eq!(exchange.status(), 201);
    assert_eq!(exchange.response_header("x-gone"), None);
    let names = exchange
        .response_header("x-names")
        .expect("set by the guest");
    assert!(
        names == "x-gone,x-many" || names == "x-many,x-gone",
        "{names}"
    );
    let response = exchange.inner().response.as_ref().expect("given");
    assert_eq!(response.headers.get_all("x-many").iter().count(), 2);
    assert!(response.end_connection);
}

#[test]
fn refused_edits_say_what_was_refused_but_not_the_value() {
    assert_eq!(reason("bad-header"), "`content-length` belongs to the host");
    assert_eq!(reason("bad-value"), "`x-a` cannot take this value");
    assert_eq!(reason("bad-name"), "`:path` is not a legal header name");
    assert_eq!(
        reason("bad-authority"),
        "`authority` cannot take this value"
    );
    assert_eq!(reason("bad-note"), "attribute `A Note` is not a legal name");
    assert_eq!(
        reason("large-note"),
        "attribute `note` is over 1024 bytes, or one note too many"
    );
    let failure = plugin()
        .try_on_response(&mut order("bad-status").response(200, &[]))
        .expect_err("refused");
    assert!(
        failure
            .to_string()
            .ends_with("`status` cannot take this value"),
        "{failure}"
    );
}

#[test]
fn notes_are_read_back_in_the_same_and_in_a_later_hook() {
    let plugin = plugin();
    let mut exchange = order("note").response(200, &[]);
    plugin.on_request(&mut exchange).expect_next();
    plugin.on_response(&mut exchange).expect_next();
    assert_eq!(exchange.attribute("note").as_deref(), Some("second"));
    let log: Vec<String> = plugin.log().iter().map(ToString::to_string).collect();
    assert_eq!(
        log,
        [r#"INFO Some("second") None"#, r#"INFO Some("second")"#]
    );
}

#[test]
fn replies_arrive_as_they_were_built() {
    let plugin = plugin();
    let empty = plugin.on_request(&mut order("empty")).expect_answer();
    assert_eq!(empty.status, 204);
    assert_eq!(
        empty.headers.get_all("x-a").iter().collect::<Vec<_>>(),
        ["1", "2"]
    );
    assert!(matches!(empty.body, ReplyBody::Empty));
    let file = plugin.on_request(&mut order("file")).expect_answer();
    assert!(
        matches!(&file.body, ReplyBody::File(file) if file.path == "/mount/file" && file.not_found.is_none() && file.stale.is_none())
    );
    let greeting = plugin.on_request(&mut order("greet")).expect_answer();
    assert_eq!(
        greeting.headers["content-type"],
        "text/plain; charset=utf-8"
    );
    let answer = plugin
        .on_response(&mut order("answer").response(200, &[]))
        .expect_answer();
    assert_eq!((answer.status.as_u16(), text(&answer)), (500, "{}"));
    assert_eq!(answer.headers["content-type"], "application/json");
}

#[test]
fn log_lines_keep_their_level() {
    let plugin = plugin();
    plugin.on_request(&mut order("log")).expect_next();
    let log: Vec<String> = plugin.log().iter().map(ToString::to_string).collect();
    assert_eq!(
        log,
        [
            "ERROR an error",
            "WARN a warning",
            "INFO info",
            "DEBUG debug",
            "TRACE trace"
        ]
    );
}

#[test]
fn a_panic_is_logged_with_its_place_and_costs_the_instance_only() {
    let plugin = plugin();
    let failure = plugin
        .try_on_request(&mut order("panic"))
        .expect_err("it panics");
    assert!(
        matches!(failure.kind, FailureKind::Trap { .. }),
        "{failure}"
    );
    let log = plugin.log();
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(log[0].message.contains("asked to in a request"), "{log:?}");
    assert!(log[0].message.contains("src/lib.rs:"), "{log:?}");
    assert_eq!(
        text(&plugin.on_request(&mut order("count")).expect_answer()),
        "1",
        "a new instance"
    );
}

#[test]
fn a_streamed_body_comes_out_piece_by_piece_in_both_directions() {
    let plugin = plugin();
    let mut body = plugin.on_request(&mut order("stream")).expect_transform();
    assert_eq!(body.push(b"ab"), "AB");
    assert_eq!(body.push(b"c"), "C");
    assert_eq!(body.finish(), "");
    let body = plugin
        .on_response(&mut order("stream").response(200, &[]))
        .expect_transform();
    assert_eq!(body.send([&b"x"[..], b"yz"]), b"XYZ");
}

#[test]
fn a_held_body_comes_out_at_its_end_in_both_directions() {
    let plugin = plugin();
    let mut body = plugin.on_request(&mut order("hold")).expect_hold();
    assert_eq!(body.push(b"abcd"), "");
    assert_eq!(body.push(b"efgh"), "");
    assert_eq!(body.finish(), "ABCDEFGH");
    let body = plugin
        .on_response(&mut order("hold").response(200, &[]))
        .expect_hold();
    assert_eq!(body.send([&b"x"[..]]), b"X");
}

#[test]
fn a_transform_that_fails_leaves_the_others_of_its_instance_alone() {
    let plugin = plugin();
    let mut failing = plugin.on_request(&mut order("stream")).expect_transform();
    let mut other = plugin.on_request(&mut order("stream")).expect_transform();
    let failure = failing.try_push(b"!").expect_err("the guest refuses it");
    assert!(
        matches!(&failure.kind, FailureKind::Error(reason) if reason == "shouted already"),
        "{failure}"
    );
    drop(failing);
    assert_eq!(other.push(b"a"), "A");
    assert_eq!(
        text(&plugin.on_request(&mut order("count")).expect_answer()),
        "3",
        "the same instance"
    );
}

#[test]
fn a_body_over_a_buffers_limit_is_a_failure() {
    let mut body = plugin().on_request(&mut order("hold")).expect_hold();
    assert_eq!(body.push(b"12345678"), "");
    let failure = body.try_push(b"9").expect_err("nine bytes are over eight");
    assert!(
        failure.to_string().contains("over the 8 bytes"),
        "{failure}"
    );
}

#[test]
#[should_panic(expected = "asked to in the configuration")]
fn a_panic_in_the_configuration_is_told_by_the_testkit() {
    component().start(r#"{"greeting":"panic"}"#);
}

#[test]
#[should_panic(expected = "the plugin logged: ERROR")]
fn a_failing_call_tells_what_the_plugin_logged() {
    plugin().on_request(&mut order("panic"));
}

#[test]
#[should_panic(expected = "expected the verdict answer, got Next")]
fn another_verdict_than_expected_is_told() {
    plugin().on_request(&mut order("nothing")).expect_answer();
}

#[test]
#[should_panic(expected = "the plugin takes the configuration {}")]
fn a_configuration_without_mistakes_is_told_when_mistakes_are_expected() {
    component().config_errors("{}");
}

#[test]
fn a_call_costs_the_same_in_every_run() {
    let cost = || {
        let plugin = plugin();
        assert_eq!(plugin.cost(), 0, "its start does not count");
        plugin.on_request(&mut order("edit")).expect_next();
        plugin.cost()
    };
    let once = cost();
    assert!(once > 0);
    assert_eq!(cost(), once);
}

#[test]
fn a_transform_that_keeps_nothing_back_makes_the_same_of_a_body_however_it_is_cut() {
    let plugin = plugin();
    let start = || plugin.on_request(&mut order("stream")).expect_transform();
    let made = assert_chunks_do_not_matter(b"the whole body", Cuts(16), start);
    assert_eq!(made, b"THE WHOLE BODY");
}

#[test]
#[should_panic(
    expected = "byte by byte, the transform makes something else of the body:\n- ab|\n+ a|b|\n"
)]
fn a_transform_for_which_pieces_matter_is_found_out() {
    let plugin = plugin();
    let start = || plugin.on_request(&mut order("mark")).expect_transform();
    assert_chunks_do_not_matter(b"ab", Cuts::default(), start);
}

#[test]
fn what_is_no_component_is_refused() {
    let error = Component::from_bytes(b"\0asm\x01\0\0\0").expect_err("a core module");
    assert!(
        error.to_string().contains("core WebAssembly module"),
        "{error}"
    );
}

#[test]
fn time_passes_only_as_the_test_lets_it() {
    let plugin = plugin();
    let time = || {
        let reply = plugin.on_request(&mut order("time")).expect_answer();
        text(&reply).parse::<u64>().expect("milliseconds")
    };
    let start = time();
    assert_eq!(time(), start);
    plugin.advance(Duration::from_millis(2500));
    assert_eq!(time(), start + 2500);
}

#[track_caller]
fn finished(end: HeldEnd) -> Finished {
    match end {
        HeldEnd::Body(finished) => finished,
        HeldEnd::Answer(reply) => panic!("expected a body, got {reply:?}"),
    }
}

#[test]
fn a_held_head_can_be_edited_when_the_body_is_whole() {
    let plugin = plugin();
    let mut exchange = order("whole");
    let mut body = plugin.on_request(&mut exchange).expect_hold();
    assert!(body.push(b"abc").is_empty());
    let end = finished(body.finish_held(&mut exchange, &[("x-late", "1")]));
    assert_eq!((&end.bytes[..], end.trailers.len()), (&b"abc"[..], 1));
    assert_eq!(exchange.request_header("x-length"), Some("3"));
    assert_eq!(exchange.attribute("length").as_deref(), Some("3"));

    let mut exchange = exchange.response(200, &[]);
    let body = plugin.on_response(&mut exchange).expect_hold();
    assert!(
        finished(body.finish_held(&mut exchange, &[]))
            .bytes
            .is_empty()
    );
    assert_eq!(
        (exchange.status(), exchange.response_header("x-path")),
        (203, Some("/a"))
    );
}

#[test]
fn a_held_message_can_be_answered_when_the_body_is_whole() {
    let mut exchange = order("refuse");
    let body = plugin().on_request(&mut exchange).expect_hold();
    match body.finish_held(&mut exchange, &[]) {
        HeldEnd::Answer(reply) => assert_eq!((reply.status.as_u16(), text(&reply)), (422, "no")),
        HeldEnd::Body(_) => panic!("it goes on"),
    }
}

#[test]
fn a_head_that_was_sent_is_out_of_a_transforms_reach() {
    let body = plugin().on_request(&mut order("whole")).expect_hold();
    let failure = body.try_finish().expect_err("there is no exchange");
    assert!(
        failure
            .to_string()
            .contains("no current exchange in transform.finish"),
        "{failure}"
    );
}

#[test]
fn trailers_are_read_and_written_at_the_end_of_a_body() {
    let plugin = plugin();
    let mut exchange = order("trail");
    let body = plugin.on_request(&mut exchange).expect_transform();
    assert_eq!(exchange.request_header("trailer"), Some("x-again"));
    let end = body.finish_before(&[("x-once", "1")]);
    assert_eq!(end.bytes, "end");
    let again = end.trailers.get_all("x-again").iter();
    assert_eq!(again.collect::<Vec<_>>(), ["1", "x-once,x-again"]);
    assert_eq!(end.trailers.len(), 2);
    assert_eq!(
        plugin.log().last().expect("a line").message,
        "2 Err(NotAnnounced) Err(\"trailer `cookie` may not be one\")"
    );
}

#[test]
fn an_end_is_told_with_all_that_is_known_of_it() {
    let plugin = plugin();
    let mut exchange = order("").response(404, &[]);
    let summary = Summary {
        end: End::Failed(FaultySide::Upstream, "it broke".into()),
        status: None,
        received: 1,
        sent: 2,
        duration: Duration::from_micros(1500),
        upstream_time: Some(Duration::from_millis(1)),
        upstream: Some("box:1".into()),
        answered_by: None,
    };
    plugin.on_complete(&mut exchange, &summary);
    assert_eq!(exchange.attribute("told").as_deref(), Some("yes"));
    assert_eq!(
        plugin.log().last().expect("a line").message,
        "test-exchange None Summary { end: Failed(Upstream, \"it broke\"), status: None, received_bytes: 1, \
         sent_bytes: 2, duration: 1.5ms, upstream_time: Some(1ms), upstream: Some(\"box:1\"), answered_by: None }"
    );

    let failure = plugin
        .try_on_complete(&mut order("fail"), &summary)
        .expect_err("it fails");
    assert!(
        failure.to_string().contains("gave up in on-complete"),
        "{failure}"
    );
}
