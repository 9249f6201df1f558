//! `cdp-guard` under the runtime, on commands as clients send them, and as somebody would who wants past it.

use serde_json::{Value, json};
use witgate_testkit::{
    Component, Direction, Exchange, LogLine, Message, MessageVerdict, Messages, Plugin,
};

fn plugin(config: &Value) -> Plugin {
    Component::of_this_package("plugin").start(&config.to_string())
}

fn upgrade(token: Option<&str>) -> Exchange {
    let exchange = Exchange::get("/devtools/browser/1")
        .upgrade("websocket")
        .response(101, &[]);
    match token {
        Some(token) => exchange.note_of("access", "token", token),
        None => exchange,
    }
}

fn connect(plugin: &Plugin, token: Option<&str>) -> Messages {
    plugin
        .on_upgrade(&mut upgrade(token))
        .expect("it looks at every WebSocket")
}

fn guard(config: &Value) -> Messages {
    connect(&plugin(config), None)
}

fn command(method: &str) -> String {
    json!({ "id": 7, "method": method, "params": {} }).to_string()
}

#[track_caller]
fn passes(messages: &Messages, text: &str) {
    assert_eq!(messages.send_text(text), MessageVerdict::Forward, "{text}");
}

/// The error that came back.
#[track_caller]
fn refused(messages: &Messages, text: &str) -> Value {
    match messages.send_text(text) {
        MessageVerdict::Reply(Message::Text(reply)) => {
            serde_json::from_str(&reply).expect("the reply is JSON")
        }
        other => panic!("{text} came to {other:?}"),
    }
}

#[test]
fn it_looks_at_what_clients_send_and_at_nothing_else() {
    let hooks = Component::of_this_package("plugin").hooks();
    assert!(hooks.message && !hooks.request && !hooks.response);
    let messages = guard(&json!({}));
    assert!(messages.wants(Direction::ToUpstream, false));
    assert!(!messages.wants(Direction::ToUpstream, true));
    assert!(!messages.wants(Direction::ToClient, false));
}

#[test]
fn what_would_harm_others_is_refused_by_default_and_answered_as_the_browser_would() {
    let messages = guard(&json!({}));
    assert_eq!(
        refused(&messages, &command("Browser.close")),
        json!({ "id": 7, "error": { "code": -32000, "message": "'Browser.close' is not allowed here" } })
    );
    let in_session = r#"{"id":8,"method":"Storage.clearCookies","sessionId":"5\"A"}"#;
    assert_eq!(refused(&messages, in_session)["sessionId"], "5\"A");
    for method in [
        "Browser.crash",
        "Network.clearBrowserCookies",
        "Target.exposeDevToolsProtocol",
    ] {
        refused(&messages, &command(method));
    }
    for method in [
        "Browser.getVersion",
        "Browser.setDownloadBehavior",
        "Target.setAutoAttach",
        "Page.navigate",
        "Browser.closer",
    ] {
        passes(&messages, &command(method));
    }
}

#[test]
fn no_way_of_writing_a_command_leads_around_the_rule() {
    let messages = guard(&json!({}));
    let inner = command("Browser.close");
    let wrap = |message: &str| {
        json!({ "id": 7, "method": "Target.sendMessageToTarget", "params": { "message": message, "sessionId": "A" } })
            .to_string()
    };
    let mut deep = command("Browser.getVersion");
    for _ in 0..4 {
        deep = wrap(&deep);
    }
    for text in [
        r#"{"id":7,"method":"\u0042rowser.close"}"#,
        r#"{"id":7,"\u006dethod":"Browser.close"}"#,
        r#"{"id":7,"method":"Browser.getVersion","method":"Browser.close"}"#,
        r#"{"id":7,"method":"Browser.close","method":"Browser.getVersion"}"#,
        r#"{"id":7,"method":"Browser.getVersion","\u006dethod":"Browser.close"}"#,
        r#"{"id":7,"id":8,"method":"Browser.getVersion"}"#,
        "  \t\r\n{\"id\":7,\"method\":\"Browser.close\"}  ",
        "\u{feff}{\"id\":7,\"method\":\"Browser.getVersion\"}",
        "/* a comment */{\"id\":7,\"method\":\"Browser.getVersion\"}",
        r#"{"id":7,"method":/**/"Browser.close"}"#,
        r#"{"id":7,"method":"Browser.getVersion"}{"id":8,"method":"Browser.close"}"#,
        r#"[{"id":7,"method":"Browser.close"}]"#,
        r#"[7,"Browser.close",null,null]"#,
        r#"{"id":7,"method":["Browser.close"]}"#,
        r#"{"id":"7","method":"Browser.getVersion"}"#,
        r#"{"id":7.5,"method":"Browser.getVersion"}"#,
        r#"{"id":7,"method":"Browser.getVersion","more":1}"#,
        r#"{"method":"Browser.getVersion"}"#,
        r#"{"id":7,"method":"Browser.getVersion""#,
        "",
        "null",
        &wrap(&inner),
        &wrap(&wrap(&inner)),
        &deep,
        r#"{"id":7,"method":"Target.sendMessageToTarget"}"#,
        r#"{"id":7,"method":"Target.sendMessageToTarget","params":{"message":"{\"id\":1,\"method\":\"Page.enable\"}","message":"{\"id\":1,\"method\":\"Browser.close\"}"}}"#,
        r#"{"id":7,"method":"Target.sendMessageToTarget","params":{"m\u0065ssage":"{\"id\":1,\"method\":\"\\u0042rowser.close\"}"}}"#,
    ] {
        refused(&messages, text);
    }
    passes(&messages, &wrap(&wrap(&command("Page.enable"))));
}

#[test]
fn parameters_are_of_no_importance() {
    let messages = guard(&json!({}));
    passes(
        &messages,
        r#"{"id":1,"method":"Runtime.evaluate","params":{"expression":"Browser.close","method":"Browser.close","a":[{"method":"Browser.close"}],"a":"\ud800"}}"#,
    );
    let nested = format!(
        r#"{{"id":1,"method":"Runtime.evaluate","params":{}1{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    passes(&messages, &nested);
}

#[test]
fn a_large_message_costs_no_memory_that_others_need() {
    let plugin = plugin(&json!({}));
    let messages = connect(&plugin, None);
    let large = "a".repeat((16 << 20) - 200);
    for text in [
        format!(r#"{{"id":1,"method":"{large}\n"}}"#),
        format!(r#"{{"id":1,"method":"Page.enable","sessionId":"{large}\n"}}"#),
        format!(r#"{{"id":1,"method":"Page.enable","{large}\n":1}}"#),
        format!(
            r#"{{"id":1,"method":"Target.sendMessageToTarget","params":{{"message":"{large}\n"}}}}"#
        ),
    ] {
        assert_eq!(refused(&messages, &text)["error"]["code"], -32700);
    }
    let script = format!(
        r#"{{"id":1,"method":"Runtime.evaluate","params":{{"expression":"\"{large}\n"}}}}"#
    );
    passes(&messages, &script);
    let name = "a".repeat(1_024);
    passes(&messages, &format!(r#"{{"id":1,"method":"{name}"}}"#));
    refused(&messages, &format!(r#"{{"id":1,"method":"{name}a"}}"#));
}

#[test]
fn a_binary_message_is_no_command() {
    let bytes = command("Browser.getVersion").into_bytes();
    let verdict = guard(&json!({})).send(Direction::ToUpstream, Message::Binary(bytes));
    let MessageVerdict::Reply(Message::Text(reply)) = verdict else {
        panic!("it came to {verdict:?}");
    };
    let reply: Value = serde_json::from_str(&reply).expect("JSON");
    assert_eq!(reply["error"]["code"], -32700);
    assert_eq!(reply.get("id"), None);
}

#[test]
fn each_token_has_its_rule_and_all_others_the_default() {
    let plugin = plugin(&json!({
        "tokens-of": "access",
        "default": { "allow": ["Browser.getVersion"] },
        "rules": {
            "admin": { "deny": [] },
            "reader": { "allow": ["Page.*", "Browser.close"], "deny": ["Page.navigate"] },
        },
    }));
    let admin = connect(&plugin, Some("admin"));
    for method in ["Browser.close", "Target.exposeDevToolsProtocol"] {
        passes(&admin, &command(method));
    }
    let reader = connect(&plugin, Some("reader"));
    for method in ["Page.enable", "Browser.close"] {
        passes(&reader, &command(method));
    }
    for method in ["Page.navigate", "Pages.enable", "Runtime.evaluate", "Page"] {
        refused(&reader, &command(method));
    }
    for token in [None, Some("other"), Some("")] {
        let other = connect(&plugin, token);
        passes(&other, &command("Browser.getVersion"));
        refused(&other, &command("Page.enable"));
    }
}

#[test]
fn the_way_around_is_closed_wherever_anything_is_refused() {
    for rule in [
        json!({ "deny": ["Browser.close"] }),
        json!({ "deny": [], "allow": ["Target.*", "Runtime.*"] }),
    ] {
        let messages = guard(&json!({ "default": rule }));
        refused(&messages, &command("Target.exposeDevToolsProtocol"));
        passes(&messages, &command("Target.getTargets"));
    }
    let more = guard(&json!({ "default": { "deny": ["shared-profile", "Page.*"] } }));
    refused(&more, &command("Browser.close"));
    refused(&more, &command("Page.enable"));
}

#[test]
fn the_log_says_what_was_refused_and_as_much_of_the_rest_as_it_is_told_to() {
    let logged = |audit: &str| -> Vec<String> {
        let plugin = plugin(&json!({ "audit": audit, "tokens-of": "access" }));
        let messages = connect(&plugin, Some("devbox"));
        messages.send_text(&command("Browser.close"));
        messages.send_text(
            r#"{"id":1,"method":"Page.navigate","sessionId":"5A","params":{"url":"secret"}}"#,
        );
        messages.send_text(&command("Input.dispatchKeyEvent"));
        plugin.log().iter().map(LogLine::to_string).collect()
    };
    let refused = "WARN refused Browser.close, token devbox, id 7";
    let notable = "INFO allowed Page.navigate, token devbox, id 1, session 5A";
    let frequent = "INFO allowed Input.dispatchKeyEvent, token devbox, id 7";
    assert_eq!(logged("refused"), [refused]);
    assert_eq!(logged("notable"), [refused, notable]);
    assert_eq!(logged("all"), [refused, notable, frequent]);
}

#[test]
fn a_log_line_holds_no_more_of_a_clients_words_than_it_should() {
    let plugin = plugin(&json!({ "default": { "allow": [] } }));
    connect(&plugin, None).send_text(&command(&"ü".repeat(500)));
    let log = plugin.log();
    assert!(log[0].message.len() < 500, "{}", log[0].message.len());
}

#[test]
fn mistakes_in_the_configuration_are_found_at_their_keys() {
    let errors = |config: Value| -> Vec<String> {
        let errors = Component::of_this_package("plugin").config_errors(&config.to_string());
        errors.into_iter().map(|error| error.path).collect()
    };
    assert_eq!(
        errors(json!({
            "default": { "allow": ["Page.*", "Page", ""] },
            "rules": { "a": { "deny": ["*.close", "Page.a.b", "Page.navigate"] } },
        })),
        [
            "rules",
            "default.allow.1",
            "default.allow.2",
            "rules.a.deny.0",
            "rules.a.deny.1"
        ]
    );
    assert_eq!(errors(json!({ "rule": {} })), ["rule"]);
    assert_eq!(errors(json!({ "audit": "none" })), ["audit"]);
}
