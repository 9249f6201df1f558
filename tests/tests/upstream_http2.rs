//! Promise: an upstream that speaks HTTP/2 is spoken to by HTTP/2: many requests on one connection, streams both ways at
//! once, trailers; and what it did not look at is sent again.

use std::fs;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::Request;
use witgate_tests::http::Connection;
use witgate_tests::http2::{
    ACK, Client, END_HEADERS, END_STREAM, Frame, block, frame, kind, try_read,
};
use witgate_tests::nginx::Nginx;
use witgate_tests::upstream::{Peer, response};
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, Witgate, port};

/// A listener of HTTP/1.1 and one of HTTP/2, and the upstream `origin` with these keys.
fn config(keys: &str) -> String {
    format!(
        "[server]\nworkers = 1\n[[listener]]\nname = \"main\"\nbind = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"h2\"\nbind = \"127.0.0.1:0\"\nprotocols = [\"h2\"]\n\
         [[route]]\nname = \"all\"\nlistener = \"main\"\nupstream = \"origin\"\n\
         [[route]]\nname = \"calls\"\nlistener = \"h2\"\nupstream = \"origin\"\n\
         [upstream.origin]\n{keys}\n"
    )
}

fn http2(upstream: &Upstream, keys: &str) -> Witgate {
    let address = upstream.address();
    let keys = format!("endpoints = [\"http://{address}\"]\nprotocol = \"h2\"\n{keys}");
    Witgate::start(&config(&keys))
}

/// Takes what a client begins with, and begins as a server.
fn accept(peer: &mut Peer, settings: &[u8]) {
    let preface = peer.read_exact(24);
    assert_eq!(preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    peer.send(frame(kind::SETTINGS, 0, 0, settings));
}

/// The next frame of a request; `None` when the connection ends. Settings are acknowledged.
fn next(connection: &mut Connection) -> Option<Frame> {
    loop {
        let frame = try_read(connection).ok()?;
        match frame.kind {
            kind::HEADERS | kind::DATA | kind::RST_STREAM => return Some(frame),
            kind::SETTINGS if frame.flags & ACK == 0 => {
                let acknowledged = witgate_tests::http2::frame(kind::SETTINGS, ACK, 0, &[]);
                connection.try_send(acknowledged).ok()?;
            }
            _ => {}
        }
    }
}

fn head(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, END_HEADERS | flags, stream, &block(fields))
}

/// A whole answer.
fn answer(stream: u32, body: &str) -> Vec<u8> {
    let mut bytes = head(stream, 0, &[(":status", "200")]);
    bytes.extend(frame(kind::DATA, END_STREAM, stream, body.as_bytes()));
    bytes
}

/// Answers every request on a connection.
fn serve(peer: &mut Peer) {
    while let Some(frame) = next(peer) {
        if frame.flags & END_STREAM != 0 && peer.try_send(answer(frame.stream, "served")).is_err() {
            return;
        }
    }
}

#[test]
fn requests_share_a_connection() {
    let origin = Upstream::start(|peer| {
        accept(peer, &[]);
        // Both are there before either is answered, the later one first.
        let streams = [next(peer), next(peer)].map(|frame| frame.expect("a request").stream);
        peer.send(answer(streams[1], "one of two"));
        peer.send(answer(streams[0], "one of two"));
        serve(peer);
    });
    let witgate = http2(&origin, "");
    let mut clients = [witgate.connect("main"), witgate.connect("main")];
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.read_response().text(), "one of two");
    }
    assert_eq!(witgate.get("main", "/").text(), "served");
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn no_more_streams_are_opened_than_the_server_allows() {
    const MAX_CONCURRENT_STREAMS: [u8; 6] = [0, 3, 0, 0, 0, 1];
    let origin = Upstream::start(|peer| {
        accept(peer, &MAX_CONCURRENT_STREAMS);
        serve(peer);
    });
    let witgate = http2(&origin, "");
    assert_eq!(witgate.get("main", "/").text(), "served");
    std::thread::scope(|scope| {
        let clients = (0..20).map(|_| scope.spawn(|| witgate.get("main", "/").text().to_owned()));
        for client in clients.collect::<Vec<_>>() {
            assert_eq!(client.join().expect("it did not panic"), "served");
        }
    });
    assert!(origin.accepted() <= 8, "{}", origin.accepted());
}

#[test]
fn a_call_streams_both_ways_and_ends_with_trailers() {
    let origin = Upstream::start(|peer| {
        accept(peer, &[]);
        let begun = next(peer).expect("a request");
        assert_eq!(begun.flags & END_STREAM, 0);
        // The answer begins before the request has a body.
        let fields = [(":status", "200"), ("content-type", "application/grpc")];
        peer.send(head(begun.stream, 0, &fields));
        while let Some(data) = next(peer) {
            if !data.payload.is_empty() {
                peer.send(frame(kind::DATA, 0, begun.stream, &data.payload));
            }
            if data.flags & END_STREAM != 0 {
                let trailers = [("grpc-status", "0"), ("grpc-message", "fine")];
                peer.send(head(begun.stream, END_STREAM, &trailers));
            }
        }
    });
    let witgate = http2(&origin, "");
    let mut client = Client::open(witgate.address("h2"));
    let call = Request::post("http://calls.test/echo.Echo/Both")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a request");
    let (response, mut sending) = client.begin(call, false).expect("it is taken");
    let response = client.wait(response).expect("an answer before the body");
    assert_eq!(response.status(), 200);
    let mut receiving = response.into_body();
    for message in ["one", "two", "three"] {
        let message = Bytes::from_static(message.as_bytes());
        sending
            .send_data(message.clone(), false)
            .expect("it is open");
        let echo = client
            .wait(receiving.data())
            .expect("an echo")
            .expect("it is whole");
        assert_eq!(echo, message);
        let released = receiving.flow_control().release_capacity(echo.len());
        released.expect("it was received");
    }
    sending.send_data(Bytes::new(), true).expect("it is open");
    assert!(client.wait(receiving.data()).is_none());
    let trailers = client
        .wait(receiving.trailers())
        .expect("an end")
        .expect("trailers");
    assert_eq!(
        (&trailers["grpc-status"], &trailers["grpc-message"]),
        (
            &"0".parse().expect("a value"),
            &"fine".parse().expect("a value")
        )
    );
}

/// Serves one request, and says in the head of its answer what its body and its trailers held.
async fn tell_what_came(listener: TcpListener) {
    listener.set_nonblocking(true).expect("it is a socket");
    let listener = tokio::net::TcpListener::from_std(listener).expect("it is a socket");
    let (stream, _) = listener.accept().await.expect("a connection");
    let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
    let request = connection.accept().await.expect("a request");
    let (request, mut respond) = request.expect("it is whole");
    // It also moves the frames of the request.
    let driving = tokio::spawn(async move { connection.accept().await.is_some() });
    let announced = request.headers().contains_key("trailer");
    let (mut body, mut length) = (request.into_body(), 0);
    while let Some(data) = body.data().await {
        length += data.expect("it is whole").len();
    }
    let trailers = body.trailers().await.expect("they are whole");
    let sum = trailers.and_then(|trailers| trailers.get("x-sum").cloned());
    let told = format!("{announced} {length} {sum:?}");
    let response = http::Response::builder().header("x-told", told).body(());
    let response = response.expect("a response");
    respond.send_response(response, true).expect("it is open");
    driving.await.expect("it does not panic");
}

#[test]
fn trailers_of_a_request_pass_that_nothing_announces() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    let origin = std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().expect("a runtime");
        runtime.block_on(tell_what_came(listener));
    });
    let keys = format!("endpoints = [\"http://{address}\"]\nprotocol = \"h2\"\n");
    let witgate = Witgate::start(&config(&keys));
    let mut client = Client::open(witgate.address("h2"));
    let request = Request::post("http://calls.test/").body(());
    let begun = client.begin(request.expect("a request"), false);
    let (response, mut sending) = begun.expect("it is taken");
    let body = Bytes::from_static(b"body");
    sending.send_data(body, false).expect("it is open");
    let sum = [(
        "x-sum".parse().expect("a name"),
        "7".parse().expect("a value"),
    )];
    let trailers = sending.send_trailers(sum.into_iter().collect());
    trailers.expect("it is open");
    let answer = client.answer(response).expect("an answer");
    assert_eq!(answer.headers["x-told"], "false 4 Some(\"7\")");
    drop((client, witgate));
    origin.join().expect("it does not panic");
}

#[test]
fn what_the_server_did_not_look_at_is_sent_again() {
    const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];
    let refused = AtomicBool::new(false);
    let origin = Upstream::start(move |peer| {
        accept(peer, &[]);
        if !refused.swap(true, Ordering::SeqCst) {
            let request = next(peer).expect("a request");
            peer.send(frame(kind::RST_STREAM, 0, request.stream, &REFUSED_STREAM));
            // The same request once more, and now the whole connection ends before it is looked at.
            next(peer).expect("the request");
            // No stream was looked at, and nothing was wrong.
            peer.send(frame(kind::GOAWAY, 0, 0, &[0; 8]));
        }
        serve(peer);
    });
    let witgate = http2(&origin, "");
    // What is not idempotent as well: nobody has seen it.
    let mut client = witgate.connect("main");
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.read_response().text(), "served");
    assert_eq!(origin.accepted(), 2);
}

#[test]
fn a_stream_that_breaks_leaves_the_others_alone() {
    const INTERNAL_ERROR: [u8; 4] = [0, 0, 0, 2];
    let origin = Upstream::start(|peer| {
        accept(peer, &[]);
        let request = next(peer).expect("a request");
        peer.send(frame(kind::RST_STREAM, 0, request.stream, &INTERNAL_ERROR));
        // A length that is a lie.
        let request = next(peer).expect("a request");
        peer.send(head(
            request.stream,
            0,
            &[(":status", "200"), ("content-length", "9")],
        ));
        peer.send(frame(kind::DATA, END_STREAM, request.stream, b"short"));
        serve(peer);
    });
    let witgate = http2(&origin, "");
    assert_eq!(witgate.get("main", "/").status(), 502);
    let mut client = witgate.connect("main");
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.read_head();
    assert!(
        head.status() == 502 || client.try_read_body(&head, true).is_err(),
        "{head:?}"
    );
    assert_eq!(witgate.get("main", "/").text(), "served");
}

#[test]
fn a_server_of_another_protocol_is_a_502_that_says_so() {
    let old = Upstream::start(|peer| {
        // As a server that finds no request in what it is sent.
        let read = peer.try_read_exact(24);
        let sent = peer.try_send(response("400 Bad Request", &[], "what?"));
        drop((read, sent, peer.read_to_end()));
    });
    let new = Upstream::start(|peer| {
        let sent = peer.try_send(frame(kind::SETTINGS, 0, 0, &[]));
        drop((sent, peer.read_to_end()));
    });
    let endpoints =
        |upstream: &Upstream| format!("endpoints = [\"http://{}\"]", upstream.address());
    for (keys, upstream) in [("protocol = \"h2\"", &old), ("", &new)] {
        let witgate = Witgate::start(&config(&format!("{}\n{keys}", endpoints(upstream))));
        assert_eq!(witgate.get("main", "/").status(), 502);
        let line = witgate.log_line("the reason", |line| line.message() == "exchange failed");
        let reason = line.text("reason").unwrap_or_default();
        assert!(
            reason.contains("another protocol than `protocol` says"),
            "{reason}"
        );
    }
}

#[test]
fn by_tls_the_server_chooses() {
    let both = port::unused();
    let origin = Nginx::start(
        &["localhost"],
        &format!(
            "listen {both} ssl http2; location / {{ return 200 \"$server_protocol $scheme $http_host\"; }}"
        ),
    );
    let ca = fs::read(origin.ca()).expect("openssl made it");
    let start = |port: u16, protocol: &str| {
        let keys = format!(
            "endpoints = [\"https://127.0.0.1:{port}\"]\nprotocol = \"{protocol}\"\n\
             tls = {{ ca = \"ca.pem\", server-name = \"localhost\" }}\n\
             health = {{ path = \"/\", interval = \"1h\" }}"
        );
        Setup::new().file("ca.pem", &ca).start(&config(&keys))
    };
    let ask = |witgate: &Witgate| {
        let mut client = witgate.connect("main");
        client.send("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n");
        client.read_response()
    };
    for (port, protocol, spoken) in [
        (both, "auto", "HTTP/2.0"),
        (both, "h2", "HTTP/2.0"),
        (both, "http/1.1", "HTTP/1.1"),
        (origin.port(), "auto", "HTTP/1.1"),
    ] {
        let witgate = start(port, protocol);
        for _ in 0..2 {
            assert_eq!(
                ask(&witgate).text(),
                format!("{spoken} https origin.test"),
                "{protocol}"
            );
        }
    }
    let witgate = start(origin.port(), "h2");
    assert_eq!(ask(&witgate).status(), 502);
    let line = witgate.log_line("the reason", |line| line.message() == "exchange failed");
    let reason = line.text("reason").unwrap_or_default();
    assert!(reason.contains("`protocol`"), "{reason}");
}
