//! Promise: the admin listener's API is what its OpenAPI document says, shows no secret, and does nothing for a page of
//! another site.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use witgate_tests::clients::checker;
use witgate_tests::http::{self, Message};
use witgate_tests::json_schema;
use witgate_tests::process::Process;
use witgate_tests::upstream::response;
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, Witgate, config, eventually};

const PLUGINS: &str = "
[plugin.rewrite]
component = \"builtin:host-rewrite\"
config.host = \"localhost\"

[plugin.token]
component = \"builtin:bearer-auth\"
config.tokens = [{ name = \"me\", value = \"hunter2hunter2hunter2\" }]

[admin]
bind = \"127.0.0.1:0\"
";

const TOKEN: &str = "Authorization: Bearer hunter2hunter2hunter2\r\n";

fn admin(witgate: &Witgate) -> SocketAddr {
    let line = witgate.log_line("the admin listener", |line| {
        line.message() == "admin listening"
    });
    let address = line.text("address").expect("the line has the address");
    address.parse().expect("an address")
}

fn ask(admin: SocketAddr, method: &str, path: &str, fields: &str, body: &str) -> Message {
    let host = match fields.contains("Host:") {
        true => String::new(),
        false => format!("Host: {admin}\r\n"),
    };
    let length = body.len();
    http::exchange(
        admin,
        format!("{method} {path} HTTP/1.1\r\n{host}{fields}Content-Length: {length}\r\n\r\n{body}"),
    )
}

fn json(answer: &Message) -> Value {
    serde_json::from_str(answer.text()).expect("the body is JSON")
}

/// Checks an answer against the document.
#[track_caller]
fn described(document: &Value, method: &str, path: &str, answer: &Message) -> Value {
    let (status, method) = (answer.status().to_string(), method.to_lowercase());
    let content = &document["paths"][path][&method]["responses"][&status]["content"];
    let kind = answer.header("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default();
    let schema = &content[kind]["schema"];
    assert!(
        schema.is_object(),
        "{method} {path} may not answer {status} with {kind}: {}",
        answer.text()
    );
    if kind != "application/json" {
        return Value::Null;
    }
    let value = json(answer);
    let problems = json_schema::problems(document, schema, &value);
    assert!(
        problems.is_empty(),
        "{method} {path}: {problems:#?}\n{value:#}"
    );
    value
}

#[test]
fn every_operation_answers_what_the_document_says() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let config = config::through(&["token", "rewrite"], upstream.address());
    let witgate = Witgate::start(&format!("{config}{PLUGINS}"));
    let admin = admin(&witgate);
    let get = |path: &str| ask(admin, "GET", path, "", "");
    let document = json(&get("/openapi.json"));
    // Somebody looks, so the next exchanges are kept with their steps.
    drop(get("/exchanges"));
    let main = witgate.address("main");
    assert_eq!(ask(main, "GET", "/with", TOKEN, "").status(), 200);
    assert_eq!(ask(main, "GET", "/without", "", "").status(), 401);
    let exchanges = eventually("both exchanges to be shown", || {
        let shown = described(&document, "GET", "/exchanges", &get("/exchanges"));
        let exchanges = shown["exchanges"].as_array().expect("a list").clone();
        (exchanges.len() == 2).then_some(exchanges)
    });

    let steps = |exchange: &Value| -> Vec<String> {
        let steps = exchange["steps"].as_array().expect("a list").iter();
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        steps
            .map(|step| {
                [&step["plugin"], &step["hook"], &step["verdict"]]
                    .map(text)
                    .join(" ")
            })
            .collect()
    };
    let of = |path: &str| exchanges.iter().find(|exchange| exchange["path"] == path);
    let with = of("/with").expect("it is shown");
    assert_eq!(with["status"], 200);
    let passed = ["token on-request next", "rewrite on-request next"];
    assert_eq!(steps(with)[..2], passed, "{with:#}");
    let without = of("/without").expect("it is shown");
    assert_eq!(steps(without), ["token on-request answer"]);

    let mut asked = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        // The first does not end, and what changes something is tried elsewhere.
        if path == "/events" || !methods.as_object().is_some_and(|it| it.contains_key("get")) {
            continue;
        }
        let answer = get(&path.replace("{name}", "token"));
        described(&document, "GET", path, &answer);
        let policy = answer.header("content-security-policy").unwrap_or_default();
        assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
        assert!(!answer.text().contains("hunter2"), "{path} shows a secret");
        assert!(
            answer.header("access-control-allow-origin").is_none(),
            "{path}"
        );
        asked.insert(path.as_str());
    }
    assert!(asked.len() > 15, "{asked:?}");
    let plugin = json(&get("/plugins/token"));
    assert_eq!(plugin["calls"]["on-request"], 2);
    assert_eq!(plugin["verdicts"]["answer"], 1);
    assert_eq!(plugin["instances"], 1);
    assert!(plugin["memory_bytes"].as_u64() > Some(0), "{plugin:#}");
    assert!(plugin["times"]["on-request"]["count"].as_u64() >= Some(2));
    assert_eq!(plugin["digest"].as_str().map(str::len), Some(64));
    let routes = json(&get("/routes"));
    assert_eq!(routes["routes"][0]["requests"]["2xx"], 1);
    described(&document, "GET", "/plugins/{name}", &get("/plugins/nobody"));

    let own = "x-witgate-admin: 1\r\n";
    let reload = ask(admin, "POST", "/reload", own, "");
    let report = described(&document, "POST", "/reload", &reload);
    assert_eq!((reload.status(), &report["done"]), (200, &json!(true)));
    let file = witgate.setup().path().join("witgate.toml");
    let good = std::fs::read_to_string(&file).expect("it can be read");
    std::fs::write(&file, format!("{good}\nbnid = 1\n")).expect("it can be written");
    let reload = ask(admin, "POST", "/reload", own, "");
    let report = described(&document, "POST", "/reload", &reload);
    assert_eq!(reload.status(), 422);
    let problem = &report["report"]["problems"][0];
    assert_eq!(problem["key"], "admin.bnid");
    assert!(problem["line"].is_u64(), "{problem}");
    let status = described(&document, "GET", "/status", &get("/status"));
    assert_eq!(status["reload"], report, "it is shown until it is mended");
    assert_eq!(status["generation"], 2);

    let set = |body: &str| ask(admin, "PUT", "/log-level", own, body);
    let refused = set("{\"filter\": \"info,=\"}");
    assert_eq!(refused.status(), 400);
    described(&document, "PUT", "/log-level", &refused);
    assert_eq!(set("info").status(), 400, "that is no JSON");
    let level = described(
        &document,
        "PUT",
        "/log-level",
        &set("{\"filter\": \"warn,access=info\"}"),
    );
    assert_eq!(level["filter"], "warn,access=info");
    let harvest = ask(admin, "POST", "/harvest", own, "");
    assert_eq!(harvest.status(), 404, "there is no Chromium");
    described(&document, "POST", "/harvest", &harvest);

    let drain = ask(admin, "POST", "/drain", own, "");
    described(&document, "POST", "/drain", &drain);
    assert_eq!(drain.status(), 202);
    let mut witgate = witgate;
    eventually("it to have stopped", || witgate.process().ended());
}

#[test]
fn a_page_of_another_site_sees_nothing_and_changes_nothing() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let relay = config::relay(upstream.address());
    let witgate = Witgate::start(&format!("{relay}\n[admin]\nbind = \"127.0.0.1:0\"\n"));
    let admin = admin(&witgate);
    let status = |method: &str, path: &str, fields: &str| {
        let answer = ask(admin, method, path, fields, "");
        (answer.status(), answer.text().contains("hello"))
    };
    let own = "x-witgate-admin: 1\r\n";
    assert_eq!(status("GET", "/config", "").0, 200);
    // A name that leads here, a page that says where it is from, and a form.
    for fields in [
        "Host: evil.example\r\n",
        "Origin: http://evil.example\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
    ] {
        assert_eq!(status("GET", "/config", fields).0, 403, "{fields}");
        let also_own = format!("{fields}{own}");
        assert_eq!(status("POST", "/reload", &also_own).0, 403, "{fields}");
    }
    for path in ["/reload", "/drain", "/harvest"] {
        assert_eq!(status("POST", path, "").0, 403, "{path}");
        assert_eq!(status("GET", path, own).0, 405, "{path}");
    }
    assert_eq!(status("OPTIONS", "/reload", "").0, 405);
    assert_eq!(status("POST", "/reload", own).0, 200);
}

#[test]
fn with_a_token_nothing_is_seen_or_changed_without_it() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let relay = config::relay(upstream.address());
    let witgate = Setup::new()
        .file("token", "0123456789abcdef0123456789abcdef\n")
        .start(&format!(
            "{relay}\n[admin]\nbind = \"127.0.0.1:0\"\ntoken = \"${{file:token}}\"\nexchanges = false\n"
        ));
    let admin = admin(&witgate);
    let token = "Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n";
    for (method, path) in [
        ("GET", "/config"),
        ("GET", "/events"),
        ("GET", "/exchanges"),
        ("PUT", "/log-level"),
        ("POST", "/reload"),
    ] {
        let own = "x-witgate-admin: 1\r\n";
        assert_eq!(ask(admin, method, path, own, "").status(), 401, "{path}");
    }
    // A name is as good as an address to who has the token.
    let named = format!("Host: witgate.internal\r\n{token}");
    let shown = ask(admin, "GET", "/config", &named, "");
    assert_eq!(shown.status(), 200);
    assert!(shown.text().contains("${file:token}"), "{}", shown.text());
    assert_eq!(ask(admin, "POST", "/reload", token, "").status(), 200);
    assert_eq!(
        ask(witgate.address("main"), "GET", "/", "", "").status(),
        200
    );
    let shown = json(&ask(admin, "GET", "/exchanges", token, ""));
    assert_eq!(shown["exchanges"], json!([]), "they are not kept");
    assert_eq!(
        ask(admin, "GET", "/", "", "").status(),
        200,
        "the page holds nothing"
    );
}

#[test]
fn requests_of_all_kinds_made_of_the_document_get_what_it_says_and_break_nothing() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let config = config::through(&["token", "rewrite"], upstream.address());
    let witgate = Witgate::start(&format!("{config}{PLUGINS}"));
    let admin = admin(&witgate);
    let mut command = checker("schemathesis");
    command
        .current_dir(witgate.setup().path())
        .args(["run", &format!("http://{admin}/openapi.json"), "--no-color"])
        .args(["--header", "x-witgate-admin: 1"])
        // One ends the process, the other never ends.
        .args(["--exclude-path", "/drain", "--exclude-path", "/events"])
        // A filter for the log is text, and not every text is a filter.
        .args(["--exclude-checks", "positive_data_acceptance"])
        .args(["--phases", "coverage,fuzzing", "--max-examples", "5"])
        .args(["--generation-deterministic", "--request-timeout", "60"]);

    let ended = Process::start("schemathesis", command).wait(Duration::from_secs(240));

    assert!(ended.status.success(), "{}", ended.output());
    assert!(ended.stdout.contains("19 passed"), "{}", ended.output());
    assert_eq!(ask(admin, "GET", "/health", "", "").status(), 200);
}
