//! Promise: behind a proxy that ends TLS, under a path prefix and under any number of host names, every client is told
//! URLs that work where it is. The proxy is nginx, as docs/migration.md sets it up.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use witgate_tests::chrome_service::{ChromeService, TOKEN, replaced};
use witgate_tests::clients;
use witgate_tests::nginx::Nginx;
use witgate_tests::process::Process;
use witgate_tests::site::{SIGNED_IN, Site};
use witgate_tests::wait::PATIENCE;

/// The page's block in this language that has this text.
#[track_caller]
fn block(language: &str, with: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/migration.md");
    let page = fs::read_to_string(page).expect("the page is there");
    let blocks = page.split("\n```").skip(1).step_by(2);
    let mut blocks = blocks.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'));
    let found = blocks.find(|text| text.contains(with));
    found.expect("the page has the block").to_owned()
}

/// The container's service with its route under the prefix that the page has.
fn service() -> ChromeService {
    let prefix = block("toml,no-check", "strip-prefix");
    let keys = prefix
        .lines()
        .filter(|line| line.starts_with("path =") || line.starts_with("strip-prefix ="));
    let keys: String = keys.map(|line| format!("{line}\n")).collect();
    assert_eq!(keys.lines().count(), 2, "{keys}");
    ChromeService::start(|config| {
        let route = "name = \"devtools\"\n";
        // The service without a prefix stays beside it, for `ChromeService` to ask whether it is ready.
        let under = config.split("[[route]]\n").nth(1).expect("it has a route");
        let under = under.split("\n[upstream").next().expect("a part");
        let under = replaced(under, route, &format!("name = \"under\"\n{keys}"));
        format!("{config}\n[[route]]\n{under}\n")
    })
}

fn nginx(service: &ChromeService) -> Nginx {
    let location = block("nginx", "location /chrome/");
    let upstream = format!("127.0.0.1:{}", service.ports().cdp);
    let location = replaced(&location, "127.0.0.1:9222", &upstream);
    Nginx::start(
        &[
            "localhost",
            "*.localhost",
            &clients::host_name(),
            "chrome.example",
            "browser.example",
        ],
        &location,
    )
}

/// The WebSocket's URL that a client is told which knows the service by this name.
#[track_caller]
fn url_told_to(name: &str, nginx: &Nginx) -> String {
    let port = nginx.port();
    let mut command = Command::new("curl");
    command
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--noproxy",
            "*",
            "--cacert",
        ])
        .arg(nginx.ca())
        .args(["--resolve", &format!("{name}:{port}:127.0.0.1")])
        .args(["--header", &format!("Authorization: Bearer {TOKEN}")])
        .arg(format!("https://{name}:{port}/chrome/json/version"));
    let ended = Process::start("curl", command).wait(PATIENCE);
    assert!(ended.status.success(), "{}", ended.output());
    let version: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let url = version["webSocketDebuggerUrl"].as_str().expect("text");
    url.to_owned()
}

#[test]
fn real_clients_connect_by_https_and_wss_under_a_prefix_by_any_name() {
    let site = Site::start();
    let service = service();
    let nginx = nginx(&service);
    let port = nginx.port();

    for name in ["localhost", "chrome.example", "browser.example"] {
        let url = url_told_to(name, &nginx);
        let expected = format!("wss://{name}:{port}/chrome/devtools/browser/");
        assert!(url.starts_with(&expected), "{url}");
    }

    let own = clients::host_name();
    let urls = [
        (
            "playwright_connect.mjs",
            format!("https://localhost:{port}/chrome?token={TOKEN}"),
        ),
        (
            "playwright_connect.mjs",
            format!("wss://{own}:{port}/chrome/?token={TOKEN}"),
        ),
        (
            "puppeteer_connect.mjs",
            format!("https://{own}:{port}/chrome?token={TOKEN}"),
        ),
        (
            "puppeteer_connect.mjs",
            format!("wss://localhost:{port}/chrome/?token={TOKEN}"),
        ),
    ];
    for (number, (script, url)) in urls.iter().enumerate() {
        let site = site.origin(&format!("s{number}"));
        let seen = clients::node_trusting(&nginx.ca(), script, &[url, "sign-in", &site]);
        assert_eq!(seen["who"], SIGNED_IN, "{script} {url}: {seen}");
    }
}
