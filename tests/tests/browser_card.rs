//! Promise: the admin listener and the dashboard show a real Chromium as it is, and harvest it when an operator asks.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use witgate_tests::wait::within;
use witgate_tests::witgate::Setup;
use witgate_tests::{Witgate, chromium, clients, http, json_schema, port};

/// How long a start of Chromium may take on a busy machine.
const BROWSER: Duration = Duration::from_secs(120);

fn service() -> (Witgate, String) {
    let port = port::unused();
    let witgate = Setup::new().file("snapshots/keep", "").start(&format!(
        "[[listener]]\nname = \"main\"\nbind = \"127.0.0.1:0\"\n\n\
         [[route]]\nreply = {{ body = \"hello\" }}\n\n\
         [admin]\nbind = \"127.0.0.1:0\"\n\n\
         [chrome]\nprofile = \"profile\"\nport = {port}\nsandbox = false\nbinary = \"{}\"\n\n\
         [chrome.snapshot]\nfile = \"snapshots/state.json\"\nschedule = \"never\"\n",
        chromium::binary().display()
    ));
    let line = witgate.log_line("the admin listener", |line| {
        line.message() == "admin listening"
    });
    let admin = line.text("address").expect("the line has the address");
    let admin = admin.to_owned();
    (witgate, admin)
}

fn ask(admin: &str, method: &str, path: &str) -> (u16, Value) {
    let address = admin.parse().expect("an address");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {admin}\r\nX-Witgate-Admin: 1\r\nContent-Length: 0\r\n\r\n"
    );
    let answer = http::exchange(address, request);
    let body = serde_json::from_str(answer.text()).expect("the body is JSON");
    (answer.status(), body)
}

#[test]
fn an_operator_sees_the_browser_and_harvests_it_now() {
    let (witgate, admin) = service();
    let (_, document) = ask(&admin, "GET", "/openapi.json");
    let described = |method: &str, path: &str, body: &Value| {
        let schema = &document["paths"][path][method]["responses"]["200"]["content"];
        let problems =
            json_schema::problems(&document, &schema["application/json"]["schema"], body);
        assert!(problems.is_empty(), "{path}: {problems:#?}\n{body:#}");
    };
    let ready = within(BROWSER, || {
        let (status, chrome) = ask(&admin, "GET", "/chrome");
        (status == 200 && chrome["state"] == "ready").then_some(chrome)
    });
    let chrome = ready.expect("Chromium becomes ready");
    described("get", "/chrome", &chrome);
    let browser = chrome["browser"].as_str().unwrap_or_default();
    assert!(browser.contains("Chrom"), "{chrome:#}");

    let (status, harvested) = ask(&admin, "POST", "/harvest");

    assert_eq!(status, 200, "{harvested:#}");
    described("post", "/harvest", &harvested);
    let file = witgate.setup().path().join("snapshots/state.json");
    let snapshot = std::fs::read(&file).expect("the snapshot was written");
    assert_eq!(harvested["bytes"], json!(snapshot.len()));

    let screenshots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboard");
    std::fs::create_dir_all(&screenshots).expect("the target directory can be written");
    let seen = clients::node(
        "browser_card.mjs",
        &[
            &chromium::binary().to_string_lossy(),
            &format!("http://{admin}"),
            &screenshots.to_string_lossy(),
        ],
    );
    let facts = seen["facts"].as_str().unwrap_or_default();
    assert!(facts.contains("ready") && facts.contains(browser), "{seen}");
    assert!(facts.contains("0 cookies"), "{seen}");
    let (_, chrome) = ask(&admin, "GET", "/chrome");
    described("get", "/chrome", &chrome);
    assert_eq!(chrome["snapshot"]["failures_in_a_row"], 0, "{chrome:#}");
}
