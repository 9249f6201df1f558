//! `headers` under the runtime.

use witgate_testkit::{Component, Exchange, Plugin};

fn plugin(config: &str) -> Plugin {
    Component::of_this_package("plugin").start(config)
}

fn mistakes(config: &str) -> Vec<String> {
    let mistakes = Component::of_this_package("plugin").config_errors(config);
    mistakes.into_iter().map(|mistake| mistake.path).collect()
}

fn values<'a>(headers: &'a http::HeaderMap, name: &str) -> Vec<&'a str> {
    let text = |value: &'a http::HeaderValue| value.to_str().expect("the tests' values are text");
    headers.get_all(name).iter().map(text).collect()
}

#[test]
fn a_request_is_removed_from_then_set_then_appended_to() {
    let plugin = plugin(
        r#"{"request":{"remove":["x-debug","x-list"],"set":{"X-Set":"new","X-Two":["a","b"]},"append":{"x-list":["1","2"],"x-set":"more"}}}"#,
    );
    let mut exchange = Exchange::get("/")
        .header("x-debug", "1")
        .header("x-set", "old")
        .header("x-list", "0");
    plugin.on_request(&mut exchange).expect_next();
    let headers = &exchange.inner().request.headers;
    assert_eq!(values(headers, "x-debug"), [""; 0]);
    assert_eq!(values(headers, "x-set"), ["new", "more"]);
    assert_eq!(values(headers, "x-two"), ["a", "b"]);
    assert_eq!(values(headers, "x-list"), ["1", "2"]);
}

#[test]
fn a_response_is_edited_and_its_request_is_not() {
    let plugin = plugin(
        r#"{"response":{"remove":["server"],"set":{"x-frame-options":"DENY"},"append":{"vary":"Origin"}}}"#,
    );
    let mut exchange = Exchange::get("/")
        .header("server", "mine")
        .response(200, &[("server", "nginx"), ("vary", "Accept")]);
    plugin.on_response(&mut exchange).expect_next();
    assert_eq!(exchange.response_header("server"), None);
    assert_eq!(exchange.response_header("x-frame-options"), Some("DENY"));
    assert_eq!(exchange.request_header("server"), Some("mine"));
    let response = exchange.inner().response.as_ref().expect("it was given");
    assert_eq!(values(&response.headers, "vary"), ["Accept", "Origin"]);
}

#[test]
fn placeholders_stand_for_what_is_known_of_the_exchange() {
    let plugin = plugin(
        r#"{"request":{"set":{"x-who":"{client-address} by {client-scheme}","x-where":"{client-authority}{client-path}",
        "x-agent":"<{header:User-Agent}>","x-braces":"{{{route}}}"}}}"#,
    );
    let mut exchange = Exchange::get("/a?b")
        .authority("box:1")
        .header("user-agent", "curl");
    let (client, route) = {
        let facts = &exchange.inner().facts;
        (facts.client.to_string(), facts.route.to_string())
    };
    plugin.on_request(&mut exchange).expect_next();
    assert_eq!(
        exchange.request_header("x-who"),
        Some(&*format!("{client} by http"))
    );
    assert_eq!(exchange.request_header("x-where"), Some("box:1/a?b"));
    assert_eq!(exchange.request_header("x-agent"), Some("<curl>"));
    assert_eq!(
        exchange.request_header("x-braces"),
        Some(&*format!("{{{route}}}"))
    );
}

#[test]
fn a_note_that_nobody_left_takes_the_clients_own_header_away() {
    let plugin = plugin(r#"{"request":{"set":{"x-user":"user={attribute:token.token}"}}}"#);
    let mut exchange = Exchange::get("/").header("x-user", "user=admin");
    plugin.on_request(&mut exchange).expect_next();
    assert_eq!(exchange.request_header("x-user"), None);
}

#[test]
fn a_value_may_be_made_of_a_header_that_is_removed() {
    let plugin = plugin(r#"{"request":{"remove":["x-old"],"set":{"x-new":"{header:x-old}"}}}"#);
    let mut exchange = Exchange::get("/").header("x-old", "7");
    plugin.on_request(&mut exchange).expect_next();
    assert_eq!(exchange.request_header("x-old"), None);
    assert_eq!(exchange.request_header("x-new"), Some("7"));
}

#[test]
fn each_mistake_is_at_its_own_key() {
    assert_eq!(mistakes("{}"), [""]);
    assert_eq!(mistakes(r#"{"request":{"sett":{}}}"#), ["request.sett"]);
    assert_eq!(
        mistakes(r#"{"response":{"set":{"x":7}}}"#),
        ["response.set.x"]
    );
    assert_eq!(
        mistakes(
            r#"{"request":{"remove":["a b","Host"],"set":{"":"1","Connection":"close","x":"a\nb","y":["1","{nope}"],"z":[]},
            "append":{"X-A":"1","x-a":"2"}},"response":{"set":{"v":"{open"}}}"#
        ),
        [
            "request.remove.0",
            "request.remove.1",
            "request.set.",
            "request.set.Connection",
            "request.set.x",
            "request.set.y.1",
            "request.set.z",
            "request.append.x-a",
            "response.set.v"
        ]
    );
}

#[test]
fn a_wrong_placeholder_says_which_there_are() {
    let mistakes = Component::of_this_package("plugin")
        .config_errors(r#"{"request":{"set":{"x":"{client-adress}"}}}"#);
    assert!(
        mistakes[0].message.contains("`{client-address}`"),
        "{mistakes:?}"
    );
}
