//! Promise: whatever holds for HTTP/1.1 holds for HTTP/2: one reading of each request, the same limits, the same hooks, the
//! same end. What only HTTP/2 makes possible is bounded.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use witgate_tests::curl::curl;
use witgate_tests::http::Connection;
use witgate_tests::http2::{self, ACK, Client, END_HEADERS, END_STREAM, block, frame, kind};
use witgate_tests::process::Process;
use witgate_tests::upstream::response;
use witgate_tests::wait::PATIENCE;
use witgate_tests::{Upstream, Witgate, config};

/// As [`config::relay`], on a listener with these more keys.
fn relay(upstream: SocketAddr, keys: &str) -> String {
    let bind = "bind = \"127.0.0.1:0\"\n";
    config::relay(upstream).replace(bind, &format!("{bind}{keys}\n"))
}

fn hello() -> Upstream {
    Upstream::answering(|_| {
        response(
            "200 OK",
            &["X-From: origin", "Connection: X-Hop", "X-Hop: 1"],
            "hello",
        )
    })
}

fn get(uri: &str) -> Request<()> {
    Request::get(uri).body(()).expect("a request")
}

const BOTH: &str = "protocols = [\"http/1.1\", \"h2\"]";

#[test]
fn curl_gets_either_version_of_one_port_and_the_upstream_one_kind_of_request() {
    let upstream = Upstream::answering(|request| {
        response(
            "200 OK",
            &["X-From: origin"],
            format!("got {}", request.body.len()),
        )
    });
    let witgate = Witgate::start(&relay(upstream.address(), BOTH));
    let url = format!("http://{}/a/../b?c=d", witgate.address("main"));
    let large = "x".repeat(300_000);
    let data = witgate.setup().path().join("data");
    std::fs::write(&data, &large).expect("the directory can be written");
    let data = format!("@{}", data.display());

    for (version, outcome) in [
        ("--http1.1", "HTTP/1.1 200"),
        ("--http2-prior-knowledge", "HTTP/2 200"),
    ] {
        let got = curl(&[
            version,
            "--path-as-is",
            "--data-binary",
            &data,
            "--header",
            "X-To: you",
            &url,
        ]);
        assert_eq!(
            (got.outcome.as_str(), got.body.as_str()),
            (outcome, "got 300000"),
            "{}",
            got.said
        );
    }

    let received = upstream.received();
    let heads = received.iter().map(|received| {
        let head = &received.request.head;
        assert_eq!(head.start_line, "POST /b?c=d HTTP/1.1");
        let fields = [
            "host",
            "x-to",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
        ];
        fields.map(|name| head.header(name).map(str::to_owned))
    });
    let heads: Vec<_> = heads.collect();
    assert_eq!(heads.len(), 2);
    assert_eq!(heads[0], heads[1]);
}

#[test]
fn a_listener_speaks_what_it_is_told_to_and_no_more() {
    let upstream = hello();
    let only = Witgate::start(&relay(upstream.address(), "protocols = [\"h2\"]"));
    let url = format!("http://{}/", only.address("main"));
    assert_eq!(
        curl(&["--http2-prior-knowledge", &url]).outcome,
        "HTTP/2 200"
    );
    assert_ne!(curl(&["--http1.1", &url]).code, 0);

    let none = Witgate::start(&relay(upstream.address(), ""));
    let url = format!("http://{}/", none.address("main"));
    assert_ne!(curl(&["--http2-prior-knowledge", &url]).code, 0);
    // Nor does it change over (RFC 9113 withdrew that).
    assert_eq!(curl(&["--http2", &url]).outcome, "HTTP/1.1 200");
}

#[test]
fn a_client_may_send_its_first_bytes_one_by_one() {
    let upstream = hello();
    let witgate = Witgate::start(&relay(upstream.address(), BOTH));
    for first in [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "PRINT / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut client = witgate.connect("main");
        for byte in first.bytes() {
            client.send([byte]);
        }
        match first.contains("HTTP/2") {
            true => {
                client.send(frame(kind::SETTINGS, 0, 0, &[]));
                let _settings = http2::read_to(&mut client, kind::SETTINGS);
            }
            false => assert_eq!(client.read_response().status(), 200),
        }
    }
}

#[test]
fn a_request_has_one_authority_one_cookie_and_one_reading() {
    let upstream = hello();
    let witgate = Witgate::start(&relay(
        upstream.address(),
        "protocols = [\"h2\"]\nlimits = { header-count = 12, header-size = \"4KiB\" }",
    ));
    let mut client = Client::open(witgate.address("main"));
    let status = |client: &mut Client, uri: &str, fields: &[(&str, &str)]| {
        let mut request = get(uri);
        for (name, value) in fields {
            let name = header::HeaderName::from_bytes(name.as_bytes()).expect("a name");
            request
                .headers_mut()
                .append(name, HeaderValue::from_str(value).expect("a value"));
        }
        client
            .exchange(request)
            .map(|answer| answer.status.as_u16())
    };
    let sound = &mut client;
    let uri = "http://a.example/";
    assert_eq!(status(sound, uri, &[("host", "A.EXAMPLE")]).ok(), Some(200));
    assert_eq!(
        status(sound, uri, &[("cookie", "a=1"), ("cookie", "b=2")]).ok(),
        Some(200)
    );
    assert_eq!(status(sound, uri, &[("host", "b.example")]).ok(), Some(400));
    assert_eq!(status(sound, uri, &[("x", " padded")]).ok(), Some(400));
    let many: Vec<(String, String)> = (0..13).map(|n| (format!("x-{n}"), n.to_string())).collect();
    let many: Vec<(&str, &str)> = many
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    assert_eq!(status(sound, uri, &many).ok(), Some(431));
    assert_eq!(
        status(sound, uri, &[("x", &"y".repeat(5000))]).ok(),
        Some(431)
    );
    // The connection was never in doubt.
    assert_eq!(status(sound, uri, &[]).ok(), Some(200));

    let received = upstream.received();
    let hosts: Vec<_> = received
        .iter()
        .map(|r| r.request.head.header_values("host").collect::<Vec<_>>())
        .collect();
    assert_eq!(hosts, [["a.example"]; 3]);
    let cookies: Vec<_> = received[1].request.head.header_values("cookie").collect();
    assert_eq!(cookies, ["a=1; b=2"]);
}

#[test]
fn what_is_malformed_ends_its_stream_and_reaches_nobody() {
    let upstream = hello();
    let witgate = Witgate::start(&relay(upstream.address(), BOTH));
    let sound = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a.example"),
        (":path", "/"),
    ];
    let with = |field| [&sound[..], &[field]].concat();
    for fields in [
        with(("connection", "close")),
        with(("transfer-encoding", "chunked")),
        with(("upgrade", "websocket")),
        with(("X-Upper", "1")),
        with(("x", "1\r\ny: 2")),
        with(("x", "1\0")),
        with(("x y", "1")),
        with((":path", "/twice")),
        with((":status", "200")),
        sound[1..].to_vec(),
        vec![
            sound[0],
            sound[1],
            sound[2],
            (":path", "/ HTTP/1.1\r\nx: y"),
        ],
        vec![sound[0], sound[1], sound[2], (":path", "/a b")],
        vec![
            (":method", "GET / HTTP/1.1\r\n"),
            sound[1],
            sound[2],
            sound[3],
        ],
        vec![(":method", "A B"), sound[1], sound[2], sound[3]],
        vec![
            sound[0],
            sound[1],
            (":authority", "a.example\r\nx: y"),
            sound[3],
        ],
    ] {
        let mut client = http2::begin(witgate.address("main"));
        client.send(frame(
            kind::HEADERS,
            END_STREAM | END_HEADERS,
            1,
            &block(&fields),
        ));
        // The stream, or the connection where its header blocks cannot be trusted any more.
        while let Ok(frame) = http2::try_read(&mut client) {
            assert_ne!(frame.kind, kind::HEADERS, "an answer to {fields:?}");
            if matches!(frame.kind, kind::RST_STREAM | kind::GOAWAY) {
                break;
            }
        }
    }
    for fields in [
        vec![sound[0], sound[1], sound[2], (":path", "a")],
        vec![sound[0], sound[1], sound[2], (":path", "*")],
        vec![
            sound[0],
            sound[1],
            (":authority", "user@a.example"),
            sound[3],
        ],
        vec![sound[0], sound[1], sound[3]],
    ] {
        let mut client = http2::begin(witgate.address("main"));
        client.send(frame(
            kind::HEADERS,
            END_STREAM | END_HEADERS,
            1,
            &block(&fields),
        ));
        loop {
            let frame = http2::try_read(&mut client).expect("a refusal");
            match frame.kind {
                kind::RST_STREAM => break,
                // 0x8c is `:status: 400` of the static table.
                kind::HEADERS => break assert_eq!(frame.payload[0], 0x8c, "{fields:?}"),
                _ => {}
            }
        }
    }
    assert_eq!(upstream.received(), []);
}

#[test]
fn trailers_pass_both_ways() {
    let upstream = Upstream::start(|peer| {
        while let Some(request) = peer.next_request_head() {
            assert_eq!(request.header("te"), Some("trailers"));
            let (body, trailers) = peer.try_read_chunked().expect("a body");
            assert_eq!(
                (body.as_slice(), trailers),
                (&b"ping"[..], vec!["x-up: 1".to_owned()])
            );
            peer.send("HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\nTrailer: grpc-status\r\n\r\n4\r\npong\r\n0\r\ngrpc-status: 0\r\n\r\n");
        }
    });
    let witgate = Witgate::start(&relay(upstream.address(), BOTH));
    let mut client = Client::open(witgate.address("main"));
    let request = Request::post("http://a.example/service/method")
        .header("te", "trailers")
        .header("trailer", "x-up")
        .body(())
        .expect("a request");
    let (response, mut body) = client.begin(request, false).expect("it takes requests");
    body.send_data(Bytes::from_static(b"ping"), false)
        .expect("the stream is open");
    let mut trailers = HeaderMap::new();
    trailers.insert("x-up", HeaderValue::from_static("1"));
    body.send_trailers(trailers).expect("the stream is open");

    let answer = client.answer(response).expect("an answer");

    assert_eq!(
        (answer.status, answer.text().as_str()),
        (StatusCode::OK, "pong")
    );
    let trailers = answer.trailers.expect("there are some");
    assert_eq!(trailers["grpc-status"], "0");
}

#[test]
fn a_message_goes_each_way_before_either_side_has_ended() {
    let upstream = Upstream::start(|peer| {
        peer.next_request_head();
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while let Ok(Some(chunk)) = peer.try_read_chunk() {
            peer.send([format!("{:x}\r\n", chunk.len()).as_bytes(), &chunk, b"\r\n"].concat());
        }
        peer.send("0\r\n\r\n");
    });
    let witgate = Witgate::start(&relay(upstream.address(), BOTH));
    let mut client = Client::open(witgate.address("main"));
    let request = Request::post("http://a.example/")
        .body(())
        .expect("a request");
    let (response, mut body) = client.begin(request, false).expect("it takes requests");
    let mut echo = client.wait(response).expect("a head").into_body();
    for message in ["one", "two", "three"] {
        body.send_data(Bytes::from(message), false)
            .expect("the stream is open");
        let came = client.wait(echo.data()).expect("more").expect("data");
        assert_eq!(came, message);
    }
    body.send_data(Bytes::new(), true)
        .expect("the stream is open");
    while let Some(data) = client.wait(echo.data()) {
        assert_eq!(data.expect("data"), "", "nothing but the end");
    }
}

#[test]
fn hooks_are_called_and_a_connection_that_one_ends_takes_no_further_request() {
    let upstream = hello();
    let plugins = "\n[plugin.close]\ncomponent = \"builtin:connection-close\"\n[plugin.mark]\ncomponent = \"builtin:headers\"\nconfig.response.set = { x-mark = \"seen\" }\n";
    let config =
        relay(upstream.address(), BOTH).replace("plugins = []", "plugins = [\"close\", \"mark\"]");
    let witgate = Witgate::start(&format!("{config}{plugins}"));
    let mut client = Client::open(witgate.address("main"));

    let answer = client
        .exchange(get("http://a.example/"))
        .expect("an answer");

    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["x-mark"], "seen");
    for gone in ["connection", "keep-alive", "transfer-encoding", "x-hop"] {
        assert!(!answer.headers.contains_key(gone), "{gone}");
    }
    client.expect_close();
}

#[test]
fn a_body_that_is_too_large_is_refused_and_its_neighbours_go_on() {
    let upstream = hello();
    let witgate = Witgate::start(&relay(
        upstream.address(),
        "protocols = [\"h2\"]\nlimits.body-size = \"1KiB\"",
    ));
    let mut client = Client::open(witgate.address("main"));
    let announced = Request::post("http://a.example/")
        .header("content-length", "2048")
        .body(())
        .expect("a request");
    let (refused, _body) = client.begin(announced, false).expect("it takes requests");
    assert_eq!(
        client.answer(refused).expect("an answer").status,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    let answer = client
        .exchange(get("http://a.example/"))
        .expect("an answer");
    assert_eq!(answer.status, StatusCode::OK);
}

#[test]
fn a_stop_says_goodbye_and_lets_streams_end() {
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let upstream = Upstream::start(move |peer| {
        peer.next_request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst");
        let may_go_on = may_go_on.lock().expect("nobody panics holding it");
        may_go_on
            .recv_timeout(PATIENCE)
            .expect("the test lets it go on");
        peer.send("last");
    });
    let mut witgate = Witgate::start(&relay(upstream.address(), BOTH));
    let mut raw = http2::begin(witgate.address("main"));
    raw.send(frame(
        kind::HEADERS,
        END_STREAM | END_HEADERS,
        1,
        &http2::get_block(),
    ));
    let first = http2::read_to(&mut raw, kind::DATA);
    assert_eq!(first.payload, b"first");

    witgate.process().signal(rustix::process::Signal::TERM);
    let goodbye = http2::read_to(&mut raw, kind::GOAWAY);
    assert_eq!(goodbye.payload[4..8], [0; 4], "NO_ERROR");
    go_on.send(()).expect("the script waits");
    // The PING by which it learns that the goodbye has come is answered.
    let mut last = Vec::new();
    while let Ok(frame) = http2::try_read(&mut raw) {
        match frame.kind {
            kind::PING => raw.send(http2::frame(kind::PING, ACK, 0, &frame.payload)),
            kind::DATA => last.extend(frame.payload),
            _ => {}
        }
    }
    assert_eq!(last, b"last");
    let ended = witgate.stop();
    assert!(ended.status.success(), "{}", ended.status);
}

#[test]
fn an_idle_connection_is_told_so_and_closed() {
    let upstream = hello();
    let keys = format!("{BOTH}\nlimits = {{ idle-timeout = \"50ms\" }}");
    let witgate = Witgate::start(&relay(upstream.address(), &keys));
    let mut client = http2::begin(witgate.address("main"));
    let goodbye = http2::read_to(&mut client, kind::GOAWAY);
    assert_eq!(goodbye.payload[4..8], [0; 4], "NO_ERROR");
    let question = http2::read_to(&mut client, kind::PING);
    client.send(frame(kind::PING, ACK, 0, &question.payload));
    while http2::try_read(&mut client).is_ok() {}
    client.expect_close();
}

#[test]
fn a_client_that_says_nothing_more_is_cut_off() {
    let upstream = hello();
    let limits = "limits = { idle-timeout = \"50ms\", header-timeout = \"200ms\" }";
    let keys = format!("{BOTH}\n{limits}");
    let witgate = Witgate::start(&relay(upstream.address(), &keys));
    let preface = &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..];
    let settings = frame(kind::SETTINGS, 0, 0, &[]);
    let half_a_head = frame(kind::HEADERS, END_STREAM, 1, &http2::get_block());
    for sent in [
        b"PRI * HTTP".to_vec(),
        preface.to_vec(),
        // It does not answer the goodbye.
        [preface, &settings].concat(),
        [preface, &settings, &half_a_head].concat(),
        [preface, &settings, &half_a_head[..12]].concat(),
    ] {
        let mut client = witgate.connect("main");
        // On a machine that is slow enough the time is over before that.
        client.try_send(&sent).ok();
        while http2::try_read(&mut client).is_ok() {}
    }
}

/// Sends the same until the connection has ended. Whether that came before `most` times.
fn is_cut_off(
    address: SocketAddr,
    most: usize,
    mut send: impl FnMut(&mut Connection, u32) -> std::io::Result<()>,
) -> bool {
    let mut client = http2::begin(address);
    // What comes back is read beside it, so that nobody waits for the other.
    let reading = client.stream().try_clone().expect("a second handle");
    let reader = std::thread::spawn(move || {
        let mut reading = Connection::new(reading);
        while reading.try_read_exact(1).is_ok() {}
    });
    let ended =
        (0..most).any(|n| send(&mut client, u32::try_from(2 * n + 1).expect("few")).is_err());
    client.finish_sending();
    reader.join().expect("it does not panic");
    ended
}

/// What is sent next, on a stream of this number.
type Flood = fn(u32) -> Vec<u8>;

#[test]
fn floods_are_cut_off() {
    let upstream = hello();
    let witgate = Witgate::start(&relay(upstream.address(), BOTH));
    let address = witgate.address("main");
    let floods: [(&str, Flood); 5] = [
        ("PING", |_| frame(kind::PING, 0, 0, &[0; 8])),
        ("SETTINGS", |_| {
            frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])
        }),
        ("PRIORITY", |_| frame(2, 0, 1, &[0, 0, 0, 0, 1])),
        ("rapid reset", |stream| {
            let mut both = frame(
                kind::HEADERS,
                END_STREAM | END_HEADERS,
                stream,
                &http2::get_block(),
            );
            both.extend(frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8]));
            both
        }),
        ("CONTINUATION", |stream| {
            let kind = if stream == 1 {
                kind::HEADERS
            } else {
                kind::CONTINUATION
            };
            frame(kind, 0, 1, &[])
        }),
    ];
    for (name, flood) in floods {
        // A thousand at once, so that the time for which more are allowed stays short.
        let mut number = 0;
        let cut = is_cut_off(address, 3000, |client, _| {
            let many: Vec<u8> = (0..1000)
                .flat_map(|_| {
                    number += 1;
                    flood(2 * number - 1)
                })
                .collect();
            client.try_send(many)
        });
        assert!(cut, "{name}");
    }
    // Nobody else has noticed.
    assert_eq!(
        Client::open(address)
            .exchange(get("http://a/"))
            .expect("an answer")
            .status,
        StatusCode::OK
    );
}

#[test]
fn a_client_has_so_many_streams_at_once() {
    let upstream = hello();
    let witgate = Witgate::start(&relay(
        upstream.address(),
        &format!("{BOTH}\nlimits.streams = 7"),
    ));
    let mut raw = http2::begin(witgate.address("main"));
    let settings = http2::read_to(&mut raw, kind::SETTINGS);
    let streams = settings.payload.chunks(6).find(|one| one[..2] == [0, 3]);
    assert_eq!(streams, Some(&[0, 3, 0, 0, 0, 7][..]));
}

#[test]
fn a_stream_that_the_client_resets_ends_its_exchange_upstream() {
    let (ended, has_ended) = mpsc::channel();
    let upstream = Upstream::start(move |peer| {
        peer.next_request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst");
        peer.expect_close();
        ended.send(()).expect("the test waits");
    });
    let witgate = Witgate::start(&relay(upstream.address(), BOTH));
    let mut client = Client::open(witgate.address("main"));
    let (response, mut request) = client
        .begin(get("http://a.example/"), true)
        .expect("it takes requests");
    let mut body = client.wait(response).expect("a head").into_body();
    let first = client.wait(body.data()).expect("data").expect("sound");
    assert_eq!(first, "first");
    request.send_reset(Reason::CANCEL);
    drop(body);
    client.wait(async {
        while has_ended.try_recv().is_err() {
            tokio::task::yield_now().await
        }
    });
    let line = witgate.log_line("the exchange", |line| line.message() == "exchange");
    assert_eq!(line.text("outcome"), Some("aborted"));
}

#[test]
fn a_client_that_makes_no_room_for_a_response_loses_its_stream_and_not_its_connection() {
    let pause = format!("{BOTH}\nlimits.body-timeout = \"300ms\"");
    loses_its_stream(|upstream| relay(upstream, &pause));
}

#[test]
fn a_route_has_its_total_time_also_while_a_client_makes_no_room() {
    let route = "upstream = \"origin\"\n";
    let total = format!(
        "{route}timeouts.total = \"3s\"\n[[route]]\nname = \"sound\"\npath = \"/sound\"\n{route}"
    );
    loses_its_stream(|upstream| relay(upstream, BOTH).replace(route, &total));
}

/// Of a response of which there is always more to come.
fn loses_its_stream(config: impl Fn(SocketAddr) -> String) {
    let (ended, has_ended) = mpsc::channel();
    let upstream = Upstream::start(move |peer| {
        let Some(request) = peer.next_request() else {
            return;
        };
        if request.head.start_line.contains("/sound") {
            peer.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
            return;
        }
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst");
        peer.expect_close();
        ended.send(()).expect("the test waits");
    });
    let witgate = Witgate::start(&config(upstream.address()));
    let mut no_room = h2::client::Builder::new();
    no_room.initial_window_size(0);
    let mut client = Client::open_with(witgate.address("main"), &no_room);
    let (response, _) = client
        .begin(get("http://a.example/"), true)
        .expect("it takes requests");
    let mut body = client.wait(response).expect("a head").into_body();
    let reset = client.wait(body.data()).expect("more than the head");
    assert!(reset.expect_err("there was no room").is_reset());
    client.wait(async {
        while has_ended.try_recv().is_err() {
            tokio::task::yield_now().await
        }
    });
    let sound = client.exchange(get("http://a.example/sound"));
    assert_eq!(sound.expect("it goes on").status, StatusCode::NO_CONTENT);
}

#[test]
fn via_names_the_version_that_the_client_speaks() {
    let upstream = hello();
    let config =
        relay(upstream.address(), BOTH).replace("workers = 1", "workers = 1\nvia = \"edge\"");
    let witgate = Witgate::start(&config);
    let mut client = Client::open(witgate.address("main"));
    let answer = client.exchange(get("http://a.example/"));
    assert_eq!(answer.expect("a response").status, StatusCode::OK);
    assert_eq!(witgate.get("main", "/").status(), 200);
    let received = upstream.received();
    let hops: Vec<_> = received
        .iter()
        .map(|one| one.request.header("via"))
        .collect();
    assert_eq!(hops, [Some("2.0 edge"), Some("1.1 edge")]);
}

#[test]
fn h2load_gets_an_answer_to_each_request() {
    let upstream = hello();
    let witgate = Witgate::start(&relay(upstream.address(), BOTH));
    let mut command = Command::new("h2load");
    command.args([
        "--requests",
        "500",
        "--clients",
        "4",
        "--max-concurrent-streams",
        "20",
    ]);
    command.arg(format!("http://{}/", witgate.address("main")));
    let ended = Process::start("h2load", command).wait(PATIENCE);
    assert!(ended.status.success(), "{}", ended.output());
    assert!(
        ended.stdout.contains("500 succeeded, 0 failed, 0 errored"),
        "{}",
        ended.output()
    );
    assert!(ended.stdout.contains("500 2xx"), "{}", ended.output());
}

#[test]
fn an_ordinary_connect_is_refused() {
    let upstream = hello();
    let witgate = Witgate::start(&relay(upstream.address(), BOTH));
    let mut client = Client::open(witgate.address("main"));
    let mut request = get("a.example:443");
    *request.method_mut() = Method::CONNECT;
    let answer = client.exchange(request).expect("an answer");
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
}

/// What HTTP/1.1 would read as another request, were the body framed otherwise than the client's frames were.
const SMUGGLED: &[u8] = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_body_is_as_long_as_its_head_says_and_nothing_behind_it_is_a_request() {
    let upstream = Upstream::start(|peer| {
        while let Some(request) = peer.next_request_head() {
            // What breaks off has no answer.
            if peer.try_read_body(&request.head, false).is_err() {
                return;
            }
            peer.send(response("200 OK", &[], "hello"));
        }
    });
    let witgate = Witgate::start(&relay(upstream.address(), BOTH));
    let post = |field: &[(&str, &str)]| {
        let pseudo = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/"),
        ];
        frame(
            kind::HEADERS,
            END_HEADERS,
            1,
            &block(&[&pseudo, field].concat()),
        )
    };
    let data = |flags| frame(kind::DATA, flags, 1, SMUGGLED);
    let trailers = |flags, field| frame(kind::HEADERS, flags, 1, &block(&[field]));
    let ends = END_STREAM | END_HEADERS;
    let length = SMUGGLED.len().to_string();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "RFC 9113 §8.1.1: longer than its length",
            [post(&[("content-length", "5")]), data(END_STREAM)].concat(),
        ),
        (
            "RFC 9113 §8.1.1: shorter",
            [post(&[("content-length", "5000")]), data(END_STREAM)].concat(),
        ),
        ("RFC 9113 §8.1.1: nothing of it", {
            let mut head = post(&[("content-length", "5")]);
            head[4] |= END_STREAM;
            head
        }),
        (
            "RFC 9110 §8.6: a sign",
            [post(&[("content-length", "+48")]), data(END_STREAM)].concat(),
        ),
        (
            "RFC 9110 §8.6: a list",
            [post(&[("content-length", "48, 48")]), data(END_STREAM)].concat(),
        ),
        (
            "RFC 9110 §8.6: twice",
            [
                post(&[("content-length", &length), ("content-length", &length)]),
                data(END_STREAM),
            ]
            .concat(),
        ),
        (
            "RFC 9113 §8.2.2: a coding",
            [post(&[("transfer-encoding", "chunked")]), data(END_STREAM)].concat(),
        ),
        (
            "RFC 9113 §8.2.2: a coding beside a length",
            [
                post(&[
                    ("transfer-encoding", "chunked"),
                    ("content-length", &length),
                ]),
                data(END_STREAM),
            ]
            .concat(),
        ),
        (
            "RFC 9113 §8.1: trailers that end nothing",
            [post(&[]), data(0), trailers(END_HEADERS, ("x", "y"))].concat(),
        ),
        (
            "RFC 9113 §8.1: a pseudo-header field behind the body",
            [post(&[]), data(0), trailers(ends, (":path", "/smuggled"))].concat(),
        ),
        (
            "RFC 9113 §8.2.2: a coding behind the body",
            [
                post(&[]),
                data(0),
                trailers(ends, ("transfer-encoding", "chunked")),
            ]
            .concat(),
        ),
        (
            "RFC 9110 §6.5.1: a length behind the body",
            [post(&[]), data(0), trailers(ends, ("content-length", "5"))].concat(),
        ),
        (
            "RFC 9113 §5.1: more behind the end",
            [post(&[]), data(END_STREAM), data(END_STREAM)].concat(),
        ),
        (
            "RFC 9113 §6.1: more padding than there is",
            [
                post(&[]),
                frame(kind::DATA, END_STREAM | 8, 1, &[200, 1, 2]),
            ]
            .concat(),
        ),
    ];
    for (what, sent) in cases {
        let mut client = http2::begin(witgate.address("main"));
        client.send(&sent);
        // An answer, the end of the stream or that of the connection.
        while let Ok(frame) = http2::try_read(&mut client) {
            if matches!(frame.kind, kind::HEADERS | kind::RST_STREAM | kind::GOAWAY) {
                break;
            }
        }
        assert_eq!(witgate.get("main", "/next").text(), "hello", "{what}");
    }
    for received in upstream.received() {
        let line = &received.request.head.start_line;
        assert!(
            ["POST / HTTP/1.1", "GET /next HTTP/1.1"].contains(&&**line),
            "{line}"
        );
    }
}
