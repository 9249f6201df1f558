//! Promise: plugins see the messages of a WebSocket whole, in their order, and may change, drop, answer or end them;
//! whatever is sent, both ends get legal frames or a Close that says why not.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::{env, io};

use witgate_build::Build;
use witgate_tests::http::Connection;
use witgate_tests::upstream::Peer;
use witgate_tests::websocket::{
    BINARY, CLOSE, Frame, MASK, PING, PONG, TEXT, closing, masked, read, switching, try_read,
    unmasked, upgrade,
};
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, Witgate, config, eventually};

const GUEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/message-guest");

/// The component, built once for all tests.
fn component() -> &'static [u8] {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    COMPONENT.get_or_init(|| {
        let test = env::current_exe().expect("a test knows its own file");
        let target: PathBuf = test.ancestors().nth(3).expect("target/PROFILE/deps").into();
        let built = Build::new(GUEST, target.join("plugins")).package("message-guest");
        let mut components = built.run().unwrap_or_else(|error| panic!("{error}"));
        components.remove(0).bytes
    })
}

/// A proxy with these plugins, each a name and the keys of its table.
fn start(upstream: &Upstream, plugins: &[(&str, &str)]) -> Witgate {
    start_with(upstream, plugins, "")
}

fn start_with(upstream: &Upstream, plugins: &[(&str, &str)], route: &str) -> Witgate {
    let names: Vec<&str> = plugins.iter().map(|(name, _)| *name).collect();
    let destination = "upstream = \"origin\"\n";
    let mut text = config::through(&names, upstream.address())
        .replace(destination, &format!("{destination}{route}\n"));
    for (name, keys) in plugins {
        text += &format!(
            "\n[plugin.{name}]\ncomponent = \"guest.wasm\"\nconfig.name = {name:?}\n{keys}\n"
        );
    }
    Setup::new().file("guest.wasm", component()).start(&text)
}

fn upgraded(witgate: &Witgate) -> Connection {
    let mut client = witgate.connect("main");
    client.send(upgrade("/", &[]));
    assert_eq!(client.read_head().status(), 101);
    client
}

/// Grants WebSocket and then does what `script` says.
fn upstream(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Upstream {
    Upstream::start(move |peer| {
        if peer.next_request().is_some() {
            peer.send(switching(&[]));
            script(peer);
        }
    })
}

/// Tells the test every frame that comes, until the proxy closes.
fn recording() -> (Upstream, Receiver<Frame>) {
    let (frames, received) = channel();
    let frames: Mutex<Sender<Frame>> = Mutex::new(frames);
    let upstream = upstream(move |peer| {
        while let Ok(frame) = try_read(peer) {
            let frames = frames.lock().expect("no script panics");
            if frames.send(frame).is_err() {
                return;
            }
        }
    });
    (upstream, received)
}

/// Sends every message back, its payload as it came.
fn echo() -> Upstream {
    upstream(|peer| {
        while let Ok(frame) = try_read(peer) {
            if peer.try_send(unmasked(frame.first, frame.payload)).is_err() {
                return;
            }
        }
    })
}

#[track_caller]
fn next(received: &Receiver<Frame>) -> Frame {
    received
        .recv_timeout(witgate_tests::wait::PATIENCE)
        .expect("the upstream gets a frame")
}

/// The upstream's connection ends without another frame.
#[track_caller]
fn assert_no_more(upstream: &Upstream, received: &Receiver<Frame>) {
    eventually("the upstream's connection to be closed", || {
        (upstream.open() == 0).then_some(())
    });
    assert_eq!(received.try_recv().ok(), None);
}

/// Reads to the end, which has to come.
#[track_caller]
fn assert_ends(client: &mut Connection) {
    match try_read(client) {
        Ok(frame) => panic!("not the end: {frame:?}"),
        Err(error) => assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
    }
}

#[track_caller]
fn assert_logged(witgate: &Witgate, fault: &str, reason: &str) {
    witgate.log_line(&format!("{reason:?}, the fault of the {fault}"), |line| {
        let says = |said: &str| said.contains(reason);
        line.message() == "exchange"
            && line.text("fault") == Some(fault)
            && line.text("reason").is_some_and(says)
    });
}

#[test]
fn fragments_reach_the_upstream_as_one_masked_frame_and_control_frames_pass_between() {
    let (upstream, received) = recording();
    let witgate = start(&upstream, &[("a", "")]);
    let mut client = upgraded(&witgate);

    client.send(masked(0x01, "si"));
    client.send(masked(PING, "between"));
    client.send(
        [
            masked(0x00, ""),
            masked(0x80, "gn"),
            masked(BINARY, b"\xff"),
        ]
        .concat(),
    );

    assert_eq!(next(&received).text(), (PING, "between"));
    let joined = next(&received);
    assert_eq!(joined.text(), (TEXT, "sign a"));
    let binary = next(&received);
    assert_eq!((binary.first, &*binary.payload), (BINARY, &b"\xff"[..]));
    for frame in [joined, binary] {
        let mask = frame.mask.expect("a client's frames are masked");
        assert_ne!(mask, MASK, "the proxy has a key of its own");
    }
}

#[test]
fn messages_pass_the_plugins_in_order_and_back_in_reverse() {
    let upstream = echo();
    let both = "config.wants = \"both-ways\"";
    let witgate = start(&upstream, &[("a", both), ("b", both), ("c", "")]);
    let mut client = upgraded(&witgate);

    client.send(masked(TEXT, "sign"));

    assert_eq!(read(&mut client).text(), (TEXT, "sign a b c b a"));
    let head = upstream.only_request().head;
    assert_eq!(
        head.header("sec-websocket-key"),
        Some("AAAAAAAAAAAAAAAAAAAAAA==")
    );
}

#[test]
fn a_reply_goes_back_by_the_plugins_that_the_message_has_passed() {
    let (upstream, received) = recording();
    let both = "config.wants = \"both-ways\"";
    let plugins = [
        ("a", both),
        ("b", "config.wants = \"to-client\""),
        ("c", both),
        ("d", both),
    ];
    let witgate = start(&upstream, &plugins);
    let mut client = upgraded(&witgate);

    client.send(masked(TEXT, "ask c"));
    client.send(masked(TEXT, "drop this"));
    client.send(masked(TEXT, "other"));

    assert_eq!(read(&mut client).text(), (TEXT, "sign b a"));
    assert_eq!(next(&received).text(), (TEXT, "other"));
}

#[test]
fn a_plugin_can_end_a_websocket_for_both() {
    let (upstream, received) = recording();
    let witgate = start(&upstream, &[("a", "")]);
    let mut client = upgraded(&witgate);

    client.send(
        [
            masked(TEXT, "before"),
            masked(TEXT, "close enough"),
            masked(TEXT, "after"),
        ]
        .concat(),
    );

    let close = read(&mut client);
    assert_eq!(close.payload, closing(4321, "enough"));
    assert_ends(&mut client);
    assert_eq!(next(&received).text(), (TEXT, "before"));
    assert_eq!(next(&received).payload, closing(4321, "enough"));
    assert_no_more(&upstream, &received);
    let line = witgate.log_line("the end", |line| line.message() == "exchange");
    assert_eq!(line.text("outcome"), Some("complete"), "{line:?}");
    assert_eq!(line.text("attributes"), Some("a.upgraded=101"));
}

#[test]
fn what_a_client_may_not_send_closes_both_ends_with_its_code() {
    let long = "a".repeat(1_025);
    let cases: [(&str, Vec<u8>, u16, &str); 10] = [
        (
            "a long message",
            masked(TEXT, &long),
            1009,
            "over 1024 bytes",
        ),
        (
            "a message long in pieces",
            [masked(0x02, &long[..600]), masked(0x80, &long[..600])].concat(),
            1009,
            "over 1024 bytes",
        ),
        ("no UTF-8", masked(TEXT, b"\xc0\xaf"), 1007, "not UTF-8"),
        ("no mask", unmasked(TEXT, "a"), 1002, "not masked"),
        ("a reserved bit", masked(0xc1, "a"), 1002, "reserved bit"),
        (
            "a reserved opcode",
            masked(0x83, "a"),
            1002,
            "reserved opcode",
        ),
        (
            "nothing to continue",
            masked(0x80, "a"),
            1002,
            "did not begin",
        ),
        ("a fragmented ping", masked(0x09, "a"), 1002, "fragmented"),
        ("half a code", masked(CLOSE, "a"), 1002, "Close frame"),
        (
            "an illegal code",
            masked(CLOSE, closing(1005, "")),
            1002,
            "Close frame",
        ),
    ];
    let (upstream, received) = recording();
    let keys = "config.control = true\nlimits.message = \"1KiB\"";
    let witgate = start(&upstream, &[("a", keys)]);
    for (what, bytes, code, reason) in cases {
        let mut client = upgraded(&witgate);
        client.send([masked(TEXT, "before"), bytes].concat());

        assert_eq!(read(&mut client).close_code(), code, "{what}");
        assert_ends(&mut client);
        assert_eq!(next(&received).text(), (TEXT, "before"), "{what}");
        let close = next(&received);
        assert!(close.mask.is_some());
        assert_eq!(close.close_code(), code, "{what}");
        assert_logged(&witgate, "client", reason);
    }
}

#[test]
fn what_an_upstream_may_not_send_closes_both_ends_whether_a_plugin_looks_or_not() {
    let cases = [masked(TEXT, "a"), unmasked(0xc1, "a"), unmasked(0x80, "a")];
    let (closed, was_closed) = channel();
    let closed = Mutex::new(closed);
    let bad = cases.clone();
    let upstream = Upstream::start(move |peer| {
        let Some(request) = peer.next_request() else {
            return;
        };
        let path = request.head.start_line.split(' ').nth(1);
        let case = path.and_then(|path| path[1..].parse::<usize>().ok());
        let bytes = &bad[case.expect("the path is a number")];
        // Its header in two pieces: the client may not get the first.
        peer.send(
            [
                switching(&[]).into_bytes(),
                unmasked(TEXT, "before"),
                bytes[..1].to_vec(),
            ]
            .concat(),
        );
        assert_eq!(read(peer).text(), (TEXT, "go on"));
        peer.send(&bytes[1..]);
        let code = read(peer).close_code();
        let closed = closed.lock().expect("no script panics");
        closed.send(code).expect("the test waits for it");
    });
    for wants in ["to-client", "to-upstream"] {
        let witgate = start(&upstream, &[("a", &format!("config.wants = {wants:?}"))]);
        for case in 0..cases.len() {
            let mut client = witgate.connect("main");
            client.send(upgrade(&format!("/{case}"), &[]));
            assert_eq!(client.read_head().status(), 101);
            assert_eq!(read(&mut client).text(), (TEXT, "before"));
            client.send(masked(TEXT, "go on"));

            assert_eq!(read(&mut client).close_code(), 1002, "{case}, {wants}");
            assert_ends(&mut client);
            let told = was_closed.recv_timeout(witgate_tests::wait::PATIENCE);
            assert_eq!(told, Ok(1002), "{case}, {wants}");
        }
        for reason in ["is masked", "reserved bit", "did not begin"] {
            assert_logged(&witgate, "upstream", reason);
        }
    }
}

#[test]
fn an_upstream_is_offered_no_extension_and_one_that_it_grants_is_a_502() {
    let grants = |peer: &mut Peer| {
        if peer.next_request().is_some() {
            peer.send(switching(&["Sec-WebSocket-Extensions: permessage-deflate"]));
            peer.read_to_end().ok();
        }
    };
    let upstream = Upstream::start(grants);
    let offer = ["Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"];
    let witgate = start(&upstream, &[("a", "")]);
    let mut client = witgate.connect("main");
    client.send(upgrade("/", &offer));
    assert_eq!(client.read_response().status(), 502);
    assert_eq!(
        upstream.only_request().header("sec-websocket-extensions"),
        None
    );
    eventually("the upstream's connection to be closed", || {
        (upstream.open() == 0).then_some(())
    });

    // Where nobody looks, the two ends may agree on what they like.
    let upstream = Upstream::start(grants);
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");
    client.send(upgrade("/", &offer));
    let head = client.read_head();
    assert_eq!(head.status(), 101);
    assert_eq!(
        head.header("sec-websocket-extensions"),
        Some("permessage-deflate")
    );
}

#[test]
fn a_direction_that_nobody_wants_is_not_joined_or_limited() {
    let long = "é".repeat(100_000);
    let frames = [
        unmasked(0x01, &long),
        unmasked(PING, "between"),
        unmasked(0x80, b"\xff"),
    ];
    let sent = frames.concat();
    let upstream = upstream(move |peer| {
        peer.send(&sent);
        peer.read_to_end().ok();
    });
    let witgate = start(&upstream, &[("a", "limits.message = \"1KiB\"")]);
    let mut client = upgraded(&witgate);

    let expected = frames.concat();
    assert!(client.read_exact(expected.len()) == expected);
}

#[test]
fn a_reply_waits_for_the_end_of_a_fragmented_message_of_the_upstream() {
    for wants in ["to-upstream", "both-ways"] {
        let upstream = upstream(|peer| {
            peer.send(unmasked(0x01, "first "));
            assert_eq!(read(peer).text(), (TEXT, "go on"));
            peer.send(unmasked(0x80, "last"));
            peer.read_to_end().ok();
        });
        let witgate = start(&upstream, &[("a", &format!("config.wants = {wants:?}"))]);
        let mut client = upgraded(&witgate);
        let frames = |client: &mut Connection, count| -> Vec<(u8, String)> {
            (0..count)
                .map(|_| read(client))
                .map(|frame| (frame.first, frame.text().1.to_owned()))
                .collect()
        };
        let requests = [masked(TEXT, "reply now"), masked(TEXT, "go on")].concat();
        let expected = |frames: &[(u8, &str)]| -> Vec<(u8, String)> {
            let owned = |&(first, text): &(u8, &str)| (first, text.to_owned());
            frames.iter().map(owned).collect()
        };
        if wants == "to-upstream" {
            // As they came, with the reply behind them. The first is here before anything is asked, so that the reply
            // falls between the two.
            assert_eq!(frames(&mut client, 1), expected(&[(0x01, "first ")]));
            client.send(requests);
            let rest = [(0x80, "last"), (TEXT, "sign now")];
            assert_eq!(frames(&mut client, 2), expected(&rest));
        } else {
            // The message is one frame by now, before or behind the reply.
            client.send(requests);
            let mut both = frames(&mut client, 2);
            both.sort();
            let either = [(TEXT, "first last"), (TEXT, "sign now")];
            assert_eq!(both, expected(&either));
        }
    }
}

#[test]
fn many_replies_to_a_client_that_reads_late_all_arrive() {
    let (upstream, received) = recording();
    let witgate = start(&upstream, &[("a", "limits.deadline = \"5s\"")]);
    let mut client = upgraded(&witgate);
    let text = format!("reply {}", "x".repeat(100_000));
    let frame = masked(TEXT, &text);

    let mut writer = Connection::new(client.stream().try_clone().expect("a second handle"));
    let sending = std::thread::spawn(move || {
        for _ in 0..100 {
            writer.send(&frame);
        }
        writer.send(masked(TEXT, "done"));
        writer
    });

    assert_eq!(read(&mut client).payload.len(), text.len() - 1);
    for _ in 1..100 {
        assert_eq!(read(&mut client).payload.len(), text.len() - 1);
    }
    assert_eq!(next(&received).text(), (TEXT, "done"));
    drop(sending.join().expect("everything was taken"));
}

#[test]
fn control_messages_are_shown_to_who_wants_them() {
    let (upstream, received) = recording();
    let witgate = start(&upstream, &[("a", "config.control = true")]);
    let mut client = upgraded(&witgate);

    client.send(
        [
            masked(PING, "answer"),
            masked(PING, "pass"),
            masked(PONG, "pass"),
        ]
        .concat(),
    );
    client.send(
        [
            masked(CLOSE, closing(4000, "bye")),
            masked(TEXT, "too late"),
        ]
        .concat(),
    );

    assert_eq!(read(&mut client).text(), (PONG, "a"));
    assert_eq!(next(&received).text(), (PING, "pass"));
    assert_eq!(next(&received).text(), (PONG, "pass"));
    assert_eq!(next(&received).payload, closing(4001, "bye, a"));
    client.finish_sending();
    assert_no_more(&upstream, &received);
}

#[test]
fn a_closing_handshake_is_the_two_ends_own() {
    let upstream = echo();
    for wants in ["to-upstream", "both-ways"] {
        let witgate = start(&upstream, &[("a", &format!("config.wants = {wants:?}"))]);
        let mut client = upgraded(&witgate);
        client.send(masked(CLOSE, closing(3333, "enough")));
        assert_eq!(read(&mut client).payload, closing(3333, "enough"));
        drop(client);
        let line = witgate.log_line("the end", |line| line.message() == "exchange");
        assert_eq!(line.text("outcome"), Some("complete"), "{line:?}");
    }
}

#[test]
fn pings_of_the_proxy_and_messages_go_together() {
    for wants in ["to-upstream", "both-ways"] {
        let (upstream, received) = recording();
        let keys = format!("config.wants = {wants:?}\nconfig.control = true");
        let liveness = "websocket = { ping-interval = \"100ms\", ping-timeout = \"60s\" }";
        let witgate = start_with(&upstream, &[("a", &keys)], liveness);
        let mut client = upgraded(&witgate);

        for round in 0..3 {
            let ping = read(&mut client);
            assert_eq!(ping.first, PING);
            assert!(ping.payload.starts_with(b"witgate/"), "{ping:?}");
            client.send([masked(PONG, ping.payload), masked(TEXT, format!("{round}"))].concat());
            assert_eq!(next(&received).text(), (TEXT, &*format!("{round}")));
        }
    }
}

#[test]
fn a_client_that_answers_no_ping_is_found_dead() {
    let upstream = upstream(|peer| {
        peer.read_to_end().ok();
    });
    let liveness = "websocket = { ping-interval = \"100ms\", ping-timeout = \"2s\" }";
    let witgate = start_with(&upstream, &[("a", "")], liveness);
    let mut client = upgraded(&witgate);
    assert_eq!(read(&mut client).first, PING);

    assert_logged(&witgate, "client", "did not answer a ping");
    eventually("the upstream's connection to be closed", || {
        (upstream.open() == 0).then_some(())
    });
}

#[test]
fn a_websocket_that_no_plugin_wants_to_see_stays_bytes() {
    let upstream = upstream(|peer| {
        while let Ok(byte) = peer.try_read_exact(1) {
            if peer.try_send(byte.to_ascii_uppercase()).is_err() {
                return;
            }
        }
    });
    let witgate = start(&upstream, &[("a", "config.wants = \"nothing\"")]);
    let mut client = upgraded(&witgate);
    client.send("no frames at all");
    assert_eq!(client.read_exact(16), b"NO FRAMES AT ALL");
}

#[test]
fn either_end_that_goes_away_ends_the_other() {
    for wants in ["to-upstream", "both-ways"] {
        let keys = format!("config.wants = {wants:?}");
        let leaving = upstream(|peer| peer.send(unmasked(TEXT, "bye")));
        let witgate = start(&leaving, &[("a", &keys)]);
        let mut client = upgraded(&witgate);
        assert_eq!(read(&mut client).text(), (TEXT, "bye"));
        client.expect_close();

        let (staying, _received) = recording();
        let witgate = start(&staying, &[("a", &keys)]);
        drop(upgraded(&witgate));
        eventually("the upstream's connection to be closed", || {
            (staying.accepted() == 1 && staying.open() == 0).then_some(())
        });
    }
}
