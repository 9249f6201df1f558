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
    json!({ "id": 7, "method": method, "params": { "url": "https://a.test/" } }).to_string()
}

fn navigation(method: &str, url: &str) -> String {
    json!({ "id": 7, "method": method, "params": { "url": url } }).to_string()
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
        "Target.openDevTools",
        "Extensions.clearStorageItems",
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
fn pages_of_the_browser_itself_are_not_opened_however_their_address_is_written() {
    let messages = guard(&json!({}));
    for url in [
        "chrome://settings/clearBrowserData",
        "CHROME://settings",
        "chrome:settings",
        "chrome-untrusted://print",
        "chrome-search://local-ntp",
        "devtools://devtools/bundled/inspector.html",
        "about:settings",
        "about://settings",
        "about:blankets",
        "\u{1} \tchrome://settings",
        "ch\tro\r\nme://settings",
        "view-source:chrome://settings",
        "View-Source: view-source:\tchrome://settings",
        "blob:chrome://settings/0b1c",
        "file:///etc/passwd",
        "settings",
    ] {
        for method in ["Page.navigate", "Target.createTarget"] {
            let error = refused(&messages, &navigation(method, url));
            assert_eq!(
                error["error"]["message"],
                format!("'{method}' is not allowed here with this `url`"),
                "{url}"
            );
        }
    }
    for url in [
        "",
        "about:blank",
        "about:blank#a",
        " HTTPS://a.test/chrome://settings",
        "http://a.test:8080/",
        "data:text/html,chrome://settings",
        "blob:https://a.test/0b1c",
        "blob:null/0b1c",
        "view-source:https://a.test/",
    ] {
        passes(&messages, &navigation("Target.createTarget", url));
    }
}

#[test]
fn an_address_has_one_reading() {
    let messages = guard(&json!({}));
    let carried = json!({ "id": 7, "method": "Target.sendMessageToTarget", "params": {
        "message": navigation("Page.navigate", "chrome://settings"),
    } });
    refused(&messages, &carried.to_string());
    for params in [
        r#"{"url":"about:blank","url":"chrome://settings"}"#,
        r#"{"url":"chrome://settings","url":"about:blank"}"#,
        r#"{"url":"about:blank","\u0075rl":"chrome://settings"}"#,
        r#"{"u\u0072l":"\u0063hrome://settings"}"#,
        r#"{"url":["chrome://settings"]}"#,
        r#"{"url":"about:blank\ud800"}"#,
        r#"["chrome://settings"]"#,
        r"{}",
        "null",
    ] {
        let text = format!(r#"{{"id":7,"method":"Page.navigate","params":{params}}}"#);
        refused(&messages, &text);
    }
    let large = "a".repeat(2 << 20);
    refused(
        &messages,
        &navigation("Page.navigate", &format!("data:,{large}")),
    );
}

#[test]
fn who_may_open_any_page_may_open_those_of_the_browser() {
    let messages = guard(&json!({ "default": { "urls": "any" } }));
    passes(&messages, &navigation("Page.navigate", "chrome://version"));
    refused(&messages, &command("Browser.close"));
    let operator = guard(&json!({ "default": { "deny": [] } }));
    passes(&operator, &command("Browser.close"));
    refused(&operator, &navigation("Page.navigate", "chrome://version"));
}

#[test]
fn who_is_not_known_may_nothing_where_tokens_are_told_apart() {
    let rules = json!({ "reader": { "allow": ["Browser.getVersion"] } });
    let right = plugin(&json!({ "tokens-of": "access", "rules": rules }));
    passes(
        &connect(&right, Some("reader")),
        &command("Browser.getVersion"),
    );
    // A token that was renamed, and a route without the plugin that knows tokens.
    for token in [Some("renamed"), None] {
        refused(&connect(&right, token), &command("Browser.getVersion"));
    }
    let mistyped = plugin(&json!({ "tokens-of": "acess", "rules": rules }));
    refused(
        &connect(&mistyped, Some("reader")),
        &command("Browser.getVersion"),
    );
    let log = mistyped.log();
    assert_eq!(
        log[0].to_string(),
        "WARN `acess` has named no token for this client, so `default` holds"
    );
    let without_rules = plugin(&json!({ "tokens-of": "access" }));
    refused(
        &connect(&without_rules, Some("reader")),
        &command("Browser.getVersion"),
    );
    let open = plugin(&json!({ "tokens-of": "access", "default": {} }));
    passes(&connect(&open, None), &command("Browser.getVersion"));
}

#[test]
fn who_is_refused_again_and_again_fills_no_log_and_is_shown_the_door() {
    let plugin = plugin(&json!({}));
    let messages = connect(&plugin, None);
    let refusal = command("Browser.close");
    for _ in 0..1_000 {
        refused(&messages, &refusal);
    }
    passes(&messages, &command("Browser.getVersion"));
    let MessageVerdict::Close(reason) = messages.send_text(&refusal) else {
        panic!("the connection goes on");
    };
    assert_eq!(reason.code, 1008);
    let log: Vec<String> = plugin.log().iter().map(LogLine::to_string).collect();
    let lines = |start: &str| log.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(lines("WARN refused Browser.close, id 7"), 20);
    assert_eq!(lines("WARN refused 100 more commands; the last"), 9);
    assert_eq!(lines("WARN closed a connection after 1000 refused"), 1);
    refused(&connect(&plugin, None), &refusal);
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
            "admin": { "deny": [], "urls": "any" },
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
        json!({ "deny": ["Browser.close"], "urls": "any" }),
        json!({ "deny": [] }),
        json!({ "deny": [], "urls": "any", "allow": ["Target.*", "Runtime.*"] }),
    ] {
        let messages = guard(&json!({ "default": rule }));
        refused(&messages, &command("Target.exposeDevToolsProtocol"));
        refused(&messages, &command("Target.openDevTools"));
        passes(&messages, &command("Target.getTargets"));
    }
    let more = guard(&json!({ "default": { "deny": ["shared-profile", "Page.*"] } }));
    refused(&more, &command("Browser.close"));
    refused(&more, &command("Page.enable"));
}

#[test]
fn a_command_may_be_answered_as_if_it_had_been_carried_out() {
    let rule = json!({ "pretend": ["Browser.close", "Page.bringToFront"] });
    let plugin = plugin(&json!({ "default": rule }));
    let messages = connect(&plugin, None);
    assert_eq!(
        refused(&messages, &command("Browser.close")),
        json!({ "id": 7, "result": {} })
    );
    let in_session = r#"{"id":8,"method":"Page.bringToFront","sessionId":"5A"}"#;
    assert_eq!(
        refused(&messages, in_session),
        json!({ "id": 8, "result": {}, "sessionId": "5A" })
    );
    refused(&messages, &command("Browser.crash"));
    let carried = json!({ "id": 7, "method": "Target.sendMessageToTarget", "params": {
        "message": command("Browser.close"),
    } });
    assert_eq!(
        refused(&messages, &carried.to_string())["error"]["code"],
        -32000
    );
    refused(&messages, &command("Target.exposeDevToolsProtocol"));
    passes(&messages, &command("Page.enable"));
    assert_eq!(
        plugin.log()[0].to_string(),
        "INFO pretended Browser.close, id 7"
    );
}

#[test]
fn the_log_says_what_was_refused_and_as_much_of_the_rest_as_it_is_told_to() {
    let logged = |audit: Option<&str>| -> Vec<String> {
        let mut config = json!({ "tokens-of": "access", "default": {} });
        if let Some(audit) = audit {
            config["audit"] = audit.into();
        }
        let plugin = plugin(&config);
        let messages = connect(&plugin, Some("devbox"));
        messages.send_text(&command("Browser.close"));
        messages.send_text(
            r#"{"id":1,"method":"Page.navigate","sessionId":"5A","params":{"url":"https://secret.test/"}}"#,
        );
        messages.send_text(&command("Input.dispatchKeyEvent"));
        plugin.log().iter().map(LogLine::to_string).collect()
    };
    let refused = "WARN refused Browser.close, token devbox, id 7";
    let notable = "INFO allowed Page.navigate, token devbox, id 1, session 5A";
    let frequent = "INFO allowed Input.dispatchKeyEvent, token devbox, id 7";
    assert_eq!(logged(Some("refused")), [refused]);
    for audit in [None, Some("notable")] {
        assert_eq!(logged(audit), [refused, notable]);
    }
    assert_eq!(logged(Some("all")), [refused, notable, frequent]);
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
    // A single method each, since only of such is it known what the browser would say.
    let pretend = json!(["Browser.close", "Browser.*", "*", "close", "shared-profile"]);
    assert_eq!(
        errors(json!({ "default": { "pretend": pretend } })),
        [1, 2, 3, 4].map(|at| format!("default.pretend.{at}"))
    );
    assert_eq!(errors(json!({ "rule": {} })), ["rule"]);
    assert_eq!(errors(json!({ "audit": "none" })), ["audit"]);
    assert_eq!(
        errors(json!({ "default": { "urls": "all" } })),
        ["default.urls"]
    );
}
