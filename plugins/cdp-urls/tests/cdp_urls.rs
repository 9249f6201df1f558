//! `cdp-urls` under the runtime, on documents as Chromium sends them.

use witgate_testkit::{Component, Exchange, Plugin, Scheme};

const JSON: &[(&str, &str)] = &[("content-type", "application/json; charset=UTF-8")];

const VERSION: &str = r#"{
   "Browser": "Chrome/156.0.0.0",
   "Protocol-Version": "1.3",
   "webSocketDebuggerUrl": "ws://localhost:9223/devtools/browser/0f3c-1"
}
"#;

const LIST: &str = r#"[ {
   "description": "",
   "devtoolsFrontendUrl": "https://frontend.example/serve_rev/@1/inspector.html?ws=localhost:9223/devtools/page/A",
   "id": "A",
   "title": "ws://localhost:9223/devtools/page/A é \u003C",
   "type": "page",
   "url": "https://site.example/?u=ws://localhost:9223/",
   "webSocketDebuggerUrl": "ws://localhost:9223/devtools/page/A"
} ]
"#;

fn plugin(config: &str) -> Plugin {
    Component::of_this_package("plugin").start(config)
}

/// What becomes of a document when a client asked `box:9222` for it.
fn rewritten(exchange: Exchange, document: &str) -> String {
    rewritten_by(&plugin("{}"), exchange, document)
}

fn rewritten_by(plugin: &Plugin, exchange: Exchange, document: &str) -> String {
    let mut exchange = exchange.response(200, JSON);
    let body = plugin.on_response(&mut exchange).expect_hold();
    String::from_utf8(body.send([document.as_bytes()])).expect("UTF-8")
}

fn from_box(path: &str) -> Exchange {
    Exchange::get(path).authority("box:9222")
}

#[test]
fn it_has_the_response_hook_only() {
    let hooks = Component::of_this_package("plugin").hooks();
    assert!(hooks.response && !hooks.request);
}

#[test]
fn the_urls_lead_to_where_the_client_came_from_and_every_other_byte_stays() {
    assert_eq!(
        rewritten(from_box("/json/version"), VERSION),
        VERSION.replace("ws://localhost:9223", "ws://box:9222")
    );
    let expected = LIST
        .replace("?ws=localhost:9223", "?ws=box:9222")
        .replace(r#"Url": "ws://localhost:9223"#, r#"Url": "ws://box:9222"#);
    assert_eq!(rewritten(from_box("/json/list"), LIST), expected);
    assert_eq!(
        expected.matches("localhost:9223").count(),
        2,
        "title and address are the page's own"
    );
}

#[test]
fn behind_tls_the_scheme_is_wss() {
    let exchange = from_box("/json/list").scheme(Scheme::Https);
    let document = rewritten(exchange, LIST);
    assert!(
        document.contains(r#""wss://box:9222/devtools/page/A""#),
        "{document}"
    );
    assert!(
        document.contains("inspector.html?wss=box:9222/devtools/page/A"),
        "{document}"
    );
}

#[test]
fn the_prefix_that_the_route_took_off_comes_back() {
    let exchange =
        from_box("/json/version?x=1").client_path_with_query("/team/chrome/json/version?x=1");
    let document = rewritten(exchange, VERSION);
    assert!(
        document.contains(r#""ws://box:9222/team/chrome/devtools/browser/0f3c-1""#),
        "{document}"
    );
}

#[test]
fn a_prefix_cannot_put_anything_else_into_the_document() {
    let exchange = from_box("/json/version").client_path_with_query("/a\"b'/json/version");
    let document = rewritten(exchange, VERSION);
    assert!(
        document.contains(r#""ws://box:9222/a%22b'/devtools/browser/0f3c-1""#),
        "{document}"
    );
}

#[test]
fn a_relative_front_end_is_found_below_the_prefix() {
    let document =
        r#"[{"devtoolsFrontendUrl":"/devtools/inspector.html?ws=localhost:9223/devtools/page/A"}]"#;
    assert_eq!(
        rewritten(
            from_box("/json").client_path_with_query("/c/json"),
            document
        ),
        r#"[{"devtoolsFrontendUrl":"/c/devtools/inspector.html?ws=box:9222/c/devtools/page/A"}]"#
    );
}

#[test]
fn every_document_with_urls_is_taken_with_and_without_slash_and_query() {
    for path in [
        "/json",
        "/json/",
        "/json?for_tab",
        "/json/list",
        "/json/list/",
        "/json/list?for_tab",
        "/json/version",
        "/json/version/",
        "/json/version/?x",
    ] {
        let document = rewritten(from_box(path), VERSION);
        assert!(document.contains("ws://box:9222/"), "{path}: {document}");
    }
    let new = Exchange::new("PUT", "/json/new?https://a.example/").authority("box:9222");
    assert!(rewritten(new, VERSION).contains("ws://box:9222/"));
}

#[test]
fn everything_else_is_passed_by() {
    let plugin = plugin("{}");
    let by = |exchange: Exchange| plugin.on_response(&mut { exchange }).expect_next();
    for path in [
        "/json/protocol",
        "/json/protocol/",
        "/json/activate/A",
        "/json/close/A",
        "/",
        "/jsonx",
        "/JSON",
        "/json/list/x",
        "//json",
        "/devtools/page/A",
    ] {
        by(from_box(path).response(200, JSON));
    }
    for method in ["HEAD", "POST", "OPTIONS", "DELETE"] {
        by(Exchange::new(method, "/json")
            .authority("box")
            .response(200, JSON));
    }
    for status in [101, 204, 404, 405, 500] {
        by(from_box("/json").response(status, JSON));
    }
    for content_type in [
        &[][..],
        &[("content-type", "text/html")],
        &[("content-type", "application/jsonp")],
    ] {
        by(from_box("/json").response(200, content_type));
    }
}

#[test]
fn a_client_that_named_no_host_gets_the_document_as_it_is() {
    plugin("{}")
        .on_response(&mut Exchange::get("/json/version").response(200, JSON))
        .expect_next();
}

#[test]
fn a_public_url_goes_before_what_the_client_used() {
    let plugin = plugin(r#"{"public-url":"wss://cdp.example.com/prefix/"}"#);
    for exchange in [
        from_box("/json/version"),
        Exchange::get("/json/version").client_path_with_query("/x/json/version"),
    ] {
        let document = rewritten_by(&plugin, exchange, VERSION);
        assert!(
            document.contains(r#""wss://cdp.example.com/prefix/devtools/browser/0f3c-1""#),
            "{document}"
        );
    }
}

#[test]
fn where_the_chunks_end_makes_no_difference() {
    let whole = rewritten(from_box("/json/list"), LIST);
    let plugin = plugin("{}");
    for size in [1, 2, 7, 100] {
        let mut exchange = from_box("/json/list").response(200, JSON);
        let body = plugin.on_response(&mut exchange).expect_hold();
        let sent = body.send(LIST.as_bytes().chunks(size));
        assert_eq!(String::from_utf8_lossy(&sent), whole, "chunks of {size}");
    }
}

#[test]
fn documents_of_several_clients_do_not_mix() {
    let plugin = plugin("{}");
    let mut bodies = ["a:1", "b:2"].map(|authority| {
        let mut exchange = Exchange::get("/json/version")
            .authority(authority)
            .response(200, JSON);
        plugin.on_response(&mut exchange).expect_hold()
    });
    for chunk in VERSION.as_bytes().chunks(10) {
        for body in &mut bodies {
            assert!(body.push(chunk).is_empty(), "held back until the end");
        }
    }
    let [a, b] = bodies.map(|body| String::from_utf8(body.finish().to_vec()).expect("UTF-8"));
    assert!(a.contains("ws://a:1/") && !a.contains("b:2"), "{a}");
    assert!(b.contains("ws://b:2/") && !b.contains("a:1"), "{b}");
}

#[test]
fn what_is_no_json_is_sent_on_with_a_line_in_the_log() {
    let plugin = plugin("{}");
    for document in ["", "{", "[1]", "Unknown command"] {
        assert_eq!(rewritten_by(&plugin, from_box("/json"), document), document);
    }
    let log = plugin.log();
    assert_eq!(log.len(), 4, "{log:?}");
    assert!(
        log.iter().all(|line| line
            .to_string()
            .starts_with("WARN the document is sent on as it came: ")),
        "{log:?}"
    );
}

#[test]
fn a_list_of_many_tabs_is_rewritten_whole() {
    let entry = LIST.trim().trim_start_matches('[').trim_end_matches(']');
    let list = format!("[{}]", vec![entry; 1500].join(","));
    let document = rewritten(from_box("/json"), &list);
    assert_eq!(
        document.matches("ws://box:9222/devtools/page/A").count(),
        1500
    );
}

#[test]
fn a_document_without_end_is_a_failure_and_not_a_trap() {
    let mut exchange = from_box("/json").response(200, JSON);
    let mut body = plugin("{}").on_response(&mut exchange).expect_hold();
    let chunk = vec![b' '; 1 << 20];
    let failure = (0..17)
        .find_map(|_| body.try_push(&chunk).err())
        .expect("17 MiB are over the limit");
    assert!(
        failure.to_string().contains("over the 16777216 bytes"),
        "{failure}"
    );
}

#[test]
fn a_public_url_that_is_none_is_refused_at_its_key() {
    for url in [
        "",
        "cdp.example.com",
        "https://cdp.example.com",
        "wss://",
        "wss://a?b",
        "wss://a b",
    ] {
        let config = format!(r#"{{"public-url":"{url}"}}"#);
        let mistakes = Component::of_this_package("plugin").config_errors(&config);
        assert_eq!(mistakes[0].path, "public-url", "{url}");
    }
}

/// As behind a proxy that ends TLS and a route that strips a prefix, after `bearer-auth` took the token off.
fn behind_everything() -> Exchange {
    from_box("/json/list?for_tab")
        .scheme(Scheme::Https)
        .client_path_with_query("/team/json/list?token=a%2Bb==&for_tab")
}

#[test]
fn prefix_tls_and_the_clients_token_come_together() {
    let plugin = plugin(r#"{"carry-query":["token"]}"#);
    let document = rewritten_by(&plugin, behind_everything(), LIST);
    assert!(
        document.contains(r#""wss://box:9222/team/devtools/page/A?token=a%2Bb==""#),
        "{document}"
    );
    assert!(
        document.contains(r#"inspector.html?wss=box:9222/team/devtools/page/A""#),
        "another host serves the front end: {document}"
    );
    let relative =
        r#"[{"devtoolsFrontendUrl":"/devtools/inspector.html?ws=localhost:9223/devtools/page/A"}]"#;
    assert_eq!(
        rewritten_by(&plugin, behind_everything(), relative),
        r#"[{"devtoolsFrontendUrl":"/team/devtools/inspector.html?wss=box:9222/team/devtools/page/A%3Ftoken%3Da%252Bb%3D%3D"}]"#
    );
}

#[test]
fn no_parameter_is_carried_unless_told_so() {
    assert!(!rewritten(behind_everything(), LIST).contains("a%2Bb"));
    let other = plugin(r#"{"carry-query":["key"]}"#);
    assert!(!rewritten_by(&other, behind_everything(), LIST).contains("a%2Bb"));
}

#[test]
fn what_is_carried_cannot_put_anything_else_into_the_document() {
    let exchange = from_box("/json/version").client_path_with_query("/json/version?token=a\"b'");
    let document = rewritten_by(&plugin(r#"{"carry-query":["token"]}"#), exchange, VERSION);
    assert!(
        document.contains(r#"/devtools/browser/0f3c-1?token=a%22b'""#),
        "{document}"
    );
}

#[test]
fn a_public_url_carries_the_clients_parameter_too() {
    let plugin = plugin(r#"{"public-url":"wss://cdp.example.com","carry-query":["token"]}"#);
    let document = rewritten_by(&plugin, behind_everything(), LIST);
    assert!(
        document.contains(r#""wss://cdp.example.com/devtools/page/A?token=a%2Bb==""#),
        "{document}"
    );
}

#[test]
fn a_parameter_that_would_have_to_be_encoded_is_refused_at_its_place() {
    let mistakes =
        Component::of_this_package("plugin").config_errors(r#"{"carry-query":["a","b c",""]}"#);
    let paths: Vec<&str> = mistakes
        .iter()
        .map(|mistake| mistake.path.as_str())
        .collect();
    assert_eq!(paths, ["carry-query.1", "carry-query.2"]);
}
