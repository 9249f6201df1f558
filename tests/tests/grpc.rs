//! Promise: gRPC passes as it is, by a library that knows nothing of witgate at both ends; and what goes wrong on the way is
//! said in gRPC.

use std::net::SocketAddr;

use serde_json::json;
use witgate_tests::clients;
use witgate_tests::process::Process;
use witgate_tests::tls::Certificates;
use witgate_tests::wait::PATIENCE;
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, Witgate, port};

/// A server of gRPC, and where it listens.
fn server() -> (Process, SocketAddr) {
    let mut command = clients::interpreter("python");
    command.arg(clients::directory().join("grpc_server.py"));
    let server = Process::start("grpc_server.py", command);
    let port = server.find_line(PATIENCE * 3, |line| {
        line.strip_prefix("listening ")?.parse::<u16>().ok()
    });
    let port = port.expect("the server says where it listens");
    (server, SocketAddr::from(([127, 0, 0, 1], port)))
}

#[test]
fn calls_of_every_kind_pass_with_their_metadata_and_ends() {
    let (_server, address) = server();
    let certificates = Certificates::new(&["IP:127.0.0.1"]);
    let directory = certificates.directory().display();
    let witgate = Witgate::start(&format!(
        "[[listener]]\nname = \"plain\"\nbind = \"127.0.0.1:0\"\nprotocols = [\"h2\"]\n\
         [[listener]]\nname = \"tls\"\nbind = \"127.0.0.1:0\"\n\
         tls = {{ certificates = [{{ cert = \"{directory}/certificate.pem\", key = \"{directory}/key.pem\" }}] }}\n\
         [[route]]\nname = \"plain\"\nlistener = \"plain\"\nupstream = \"origin\"\n\
         [[route]]\nname = \"tls\"\nlistener = \"tls\"\nupstream = \"origin\"\n\
         [upstream.origin]\nendpoints = [\"http://{address}\"]\nprotocol = \"h2\"\n"
    ));
    let expected = json!({
        "unary": { "answer": "hello", "initial": "this", "trailing": "last", "bytes": [0, 255] },
        "large": true,
        "empty": true,
        "gather": "a,b,c",
        "count": 1000,
        "chat": { "talked": ["re: a", "re: b", "re: c"], "ended": true, "code": "OK" },
        "refuse": { "code": "FAILED_PRECONDITION", "details": "no: ä %", "trailing": "refused" },
        "break_off": {
            "got": ["one"], "code": "DATA_LOSS", "details": "the rest is lost", "trailing": null,
        },
        "deadline": true,
        "cancelled": "yes",
        "late": "DEADLINE_EXCEEDED",
    });
    let plain = witgate.address("plain").to_string();
    let said = clients::python("grpc_client.py", &["calls", &plain]);
    assert_eq!(said, expected);
    let (tls, ca) = (witgate.address("tls").to_string(), certificates.ca());
    let ca = ca.display().to_string();
    let said = clients::python("grpc_client.py", &["calls", &tls, &ca]);
    assert_eq!(said, expected);
}

#[test]
fn an_error_on_the_way_is_said_in_grpc() {
    // Takes what comes and never answers.
    let silent = Upstream::start(|peer| drop(peer.read_to_end()));
    let gone = port::unused();
    let witgate = Setup::new()
        .secret("token", "a-token-of-some-length-that-nobody-has")
        .start(&format!(
            "[[listener]]\nname = \"main\"\nbind = \"127.0.0.1:0\"\nprotocols = [\"h2\"]\n\
             [[route]]\nname = \"down\"\npath = \"/test.Down/*\"\nupstream = \"down\"\n\
             [[route]]\nname = \"slow\"\npath = \"/test.Slow/*\"\nupstream = \"slow\"\n\
             [[route]]\nname = \"gated\"\npath = \"/test.Gated/*\"\nplugins = [\"token\"]\nupstream = \"down\"\n\
             [[route]]\nname = \"busy\"\npath = \"/test.Busy/*\"\n\
             reply = {{ status = 503, body = \"later\", headers = {{ \"retry-after\" = \"7\" }} }}\n\
             [upstream.down]\nendpoints = [\"http://127.0.0.1:{gone}\"]\nprotocol = \"h2\"\n\
             [upstream.slow]\nendpoints = [\"http://{}\"]\nprotocol = \"h2\"\nresponse-timeout = \"200ms\"\n\
             [plugin.token]\ncomponent = \"builtin:bearer-auth\"\n\
             config.tokens = [{{ name = \"one\", value = \"${{file:token}}\" }}]\n",
            silent.address()
        ));
    let address = witgate.address("main").to_string();
    let methods = [
        "/test.Down/Call",
        "/test.Slow/Call",
        "/test.Gated/Call",
        "/test.Busy/Call",
        "/test.Nowhere/Call",
    ];
    let arguments = [&["failures", address.as_str()], &methods[..]].concat();
    let said = clients::python("grpc_client.py", &arguments);
    let failed =
        |code: &str, details: &str| json!({ "code": code, "details": details, "trailing": null });
    for (method, expected) in std::iter::zip(
        methods,
        [
            failed("UNAVAILABLE", "HTTP 502: bad gateway"),
            failed("UNAVAILABLE", "HTTP 504: gateway timeout"),
            failed("UNAUTHENTICATED", "HTTP 401: unauthorized"),
            failed("UNAVAILABLE", "HTTP 503: service unavailable"),
            failed("UNIMPLEMENTED", "HTTP 404: not found"),
        ],
    ) {
        assert_eq!(said[method], expected, "{method}");
    }
    // In the log stands what it was.
    witgate.log_line("the exchange", |line| {
        line.field("status").and_then(serde_json::Value::as_u64) == Some(504)
    });
}
