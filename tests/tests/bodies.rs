//! Promise: a body is sent on whole or visibly not at all, its length is said once, and an answer that comes before the
//! body was read still arrives.

use std::io::Write as _;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use witgate_tests::upstream::response;
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, Witgate, config, eventually};

/// More than a socket buffers, less than what is read of an unwanted body.
const LARGE: usize = 700 * 1024;

fn hello() -> Upstream {
    Upstream::answering(|_| response("200 OK", &[], "hello"))
}

#[test]
fn an_answer_that_comes_before_the_body_was_read_arrives_and_the_connection_stays() {
    let upstream = hello();
    let config = config::through(&["token"], upstream.address())
        + "\n[plugin.token]\ncomponent = \"builtin:bearer-auth\"\n\
           config.tokens = [{ name = \"a\", value = \"0123456789abcdef\" }]\n";
    let witgate = Witgate::start(&config);
    let mut client = witgate.connect("main");

    for _ in 0..2 {
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n"
        ));
        client.send(vec![b'x'; LARGE]);
        assert_eq!(client.read_response().status(), 401);
    }

    assert!(upstream.received().is_empty());
}

#[test]
fn the_body_of_a_chunked_get_is_sent_on() {
    let upstream = hello();
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    client.send("GET /_search HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nquery\r\n0\r\n\r\n");

    assert_eq!(client.read_response().text(), "hello");
    assert_eq!(upstream.only_request().text(), "query");
}

#[test]
fn a_response_with_two_lengths_goes_on_with_one() {
    let upstream = Upstream::start(|peer| {
        while peer.next_request().is_some() {
            peer.send(
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
                 5\r\nhello\r\n0\r\n\r\n",
            );
        }
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.read_response();
        assert_eq!(answer.text(), "hello");
        assert_eq!(answer.header("content-length"), None);
    }
}

#[test]
fn an_upstream_of_http_1_0_does_not_cost_the_client_its_connection() {
    let upstream = Upstream::start(|peer| {
        if peer.next_request().is_some() {
            peer.send("HTTP/1.0 200 OK\r\n\r\nhello");
        }
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.read_response();
        assert_eq!(answer.head.start_line, "HTTP/1.1 200 OK");
        assert_eq!(answer.text(), "hello");
    }
}

#[test]
fn a_client_that_does_not_send_its_body_is_the_one_at_fault() {
    let upstream = hello();
    let text = config::relay(upstream.address())
        .replace("bind = ", "limits.body-timeout = \"200ms\"\nbind = ")
        + "response-timeout = \"100ms\"\n";
    let witgate = Witgate::start(&text);
    let mut client = witgate.connect("main");

    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");

    assert_eq!(client.read_response().status(), 408);
    let told = witgate.log_line("the exchange", |line| line.message() == "exchange");
    assert_eq!(told.text("fault"), Some("client"));
}

#[test]
fn a_request_that_ends_its_upstream_is_sent_again_once_and_not_on_every_connection() {
    // Four requests at once need a connection each.
    let together = Arc::new(Barrier::new(4));
    let upstream = Upstream::start(move |peer| {
        while let Some(request) = peer.next_request() {
            if request.head.start_line.contains("/deadly") {
                return;
            }
            together.wait();
            peer.send(response("200 OK", &[], "hello"));
        }
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut clients: Vec<_> = (0..4).map(|_| witgate.connect("main")).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.read_response().status(), 200);
    }
    assert_eq!(upstream.open(), 4);

    clients[0].send("GET /deadly HTTP/1.1\r\nHost: a\r\n\r\n");

    assert_eq!(clients[0].read_response().status(), 502);
    let received = upstream.received();
    let deadly = received
        .iter()
        .filter(|received| received.request.head.start_line.contains("/deadly"));
    assert_eq!(deadly.count(), 2);
}

#[test]
fn an_upgraded_connection_keeps_its_place_among_the_allowed() {
    let upstream = Upstream::start(|peer| {
        if peer.next_request().is_some() {
            peer.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n",
            );
            peer.next_request();
        }
    });
    let text =
        config::relay(upstream.address()).replace("bind = ", "limits.connections = 1\nbind = ");
    let witgate = Witgate::start(&text);
    let mut first = witgate.connect("main");
    first.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n");
    assert_eq!(first.read_head().status(), 101);

    let mut second = witgate.connect("main");
    second.send("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n");
    second
        .stream()
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("a socket");
    assert!(
        second.try_read_head().is_err(),
        "it was served beside the upgraded one"
    );

    first.reset();
    second
        .stream()
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a socket");
    assert_eq!(second.read_head().status(), 405);
}

#[test]
fn a_file_that_is_replaced_while_it_is_sent_arrives_whole() {
    const SIZE: usize = 24 << 20;
    let setup = Setup::new().file("files/state.json", vec![b'a'; SIZE]);
    let witgate = setup.start(
        r#"
[[listener]]
name = "main"
bind = "127.0.0.1:0"
[[route]]
plugins = ["snapshot"]
[plugin.snapshot]
component = "builtin:snapshot-server"
config.file = "/files/state.json"
grant.files = [{ path = "files", as = "/files" }]
"#,
    );
    let mut client = witgate.connect("main");
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.read_head();

    let directory = witgate.setup().path().join("files");
    let mut file = std::fs::File::create(directory.join("next")).expect("a new file");
    file.write_all(&vec![b'b'; SIZE])
        .expect("a file of our own");
    std::fs::rename(directory.join("next"), directory.join("state.json")).expect("a rename");

    let body = client.read_body(&head, true);
    assert_eq!(body.len(), SIZE);
    assert!(
        body.iter().all(|byte| *byte == b'a'),
        "two versions were mixed"
    );
    eventually("the new version", || {
        let head = {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            client.read_head()
        };
        (client.read_body(&head, true).first() == Some(&b'b')).then_some(())
    });
}
