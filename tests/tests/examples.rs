//! Promise: the examples do what their pages say. (`chrome_service.rs` runs that example.)

use std::fs;
use std::path::Path;

use witgate_tests::http::exchange;
use witgate_tests::upstream::response;
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, wasi_http};

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples")
        .join(name);
    fs::read_to_string(path).expect("the example is there")
}

#[test]
fn quickstart_puts_a_token_in_front_of_a_web_server() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "the directory"));
    let config = example("quickstart/witgate.toml")
        .replace("127.0.0.1:8080", "127.0.0.1:0")
        .replace("127.0.0.1:3000", &upstream.address().to_string());
    let witgate = Setup::new()
        .env("QUICKSTART_TOKEN", "open-sesame")
        .start(&config);

    let without = witgate.get("web", "/");
    assert_eq!(
        (without.status(), without.text()),
        (401, r#"{"error":"invalid bearer"}"#)
    );
    let request = "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer open-sesame\r\n\r\n";
    let with = exchange(witgate.address("web"), request);
    assert_eq!((with.status(), with.text()), (200, "the directory"));
}

#[test]
fn a_standard_component_answers_behind_a_token() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/wasi-http");
    let built = wasi_http::cargo(&directory, "greeting");
    let config = example("wasi-http/witgate.toml").replace("127.0.0.1:8080", "127.0.0.1:0");
    let witgate = Setup::new()
        .env("GREETING_TOKEN", "open-sesame")
        .file("target/wasm32-wasip2/release/greeting.wasm", built)
        .start(&config);

    assert_eq!(witgate.get("web", "/?name=you").text(), "hello, you\n");
    let request = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\ntext";
    let without = exchange(witgate.address("web"), request);
    assert_eq!(without.text(), r#"{"error":"invalid bearer"}"#);
    let token = "Host: a\r\nAuthorization: Bearer open-sesame\r\n";
    let with = exchange(
        witgate.address("web"),
        request.replace("Host: a\r\n", token),
    );
    assert_eq!((with.status(), with.text()), (200, "text"));
}

#[test]
fn quickstart_without_its_variable_says_which() {
    let output = Setup::new()
        .run_and_fail(&example("quickstart/witgate.toml"))
        .output();

    assert!(output.contains("QUICKSTART_TOKEN"), "{output}");
}
