//! Promise: however often the configuration changes, no request fails and no memory is lost.
//!
//! `make soak-reload` sends a million requests. The tests of `reload.rs` are what always runs.

use std::env;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use witgate_tests::http::Connection;
use witgate_tests::upstream::response;
use witgate_tests::websocket::{TEXT, masked, read, switching, unmasked, upgrade};
use witgate_tests::witgate::Setup;
use witgate_tests::{Witgate, config};

const CLIENTS: u64 = 8;

/// Between two changes of the configuration.
const INTERVAL: Duration = Duration::from_secs(3);

/// What the process may hold more at the end than after its first tenth: caches of the allocator, of each worker.
const MOST_GROWN: u64 = 24 << 20;

/// Answers requests, and sends the first message of a WebSocket back. Keeps no record, as there would be much of it.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut peer = Connection::new(stream.expect("the proxy connects"));
            thread::spawn(move || {
                while let Ok(Some(head)) = peer.try_read_head() {
                    if head.header("upgrade").is_some() {
                        peer.send(switching(&[]));
                        let message = read(&mut peer);
                        peer.send(unmasked(message.first, message.payload));
                        peer.expect_close();
                        return;
                    }
                    let body = peer.try_read_body(&head, false).expect("a whole body");
                    peer.send(response("200 OK", &[], body.len().to_string()));
                }
            });
        }
    });
    address
}

/// The configuration of this round. Something differs from each to the next.
fn configuration(origin: SocketAddr, round: u64) -> String {
    let idle = 8 + round % 3;
    let body = ["small", "medium", "large"][(round % 3) as usize];
    config::through(&["mark"], origin).replace("workers = 1", "workers = 2")
        + &format!(
            "idle-connections = {idle}\n[plugin.mark]\ncomponent = \"builtin:headers\"\n\
             config.response.set = {{ x-round = \"{round}\", x-size = \"{body}\" }}\n"
        )
}

/// One request of a client's, on a connection that it has or that it opens.
fn ask(kept: &mut Option<Connection>, address: SocketAddr, number: u64) {
    let mut client = kept.take().unwrap_or_else(|| Connection::open(address));
    let (request, expected) = match number % 20 {
        0 => {
            let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            let chunk = "x".repeat(0x2000);
            (
                format!("{head}2000\r\n{chunk}\r\n2000\r\n{chunk}\r\n0\r\n\r\n"),
                "16384",
            )
        }
        7 => (
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".into(),
            "5",
        ),
        13 => (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".into(),
            "0",
        ),
        _ => ("GET / HTTP/1.1\r\nHost: a\r\n\r\n".into(), "0"),
    };
    if number % 100 == 50 {
        client.send(upgrade("/", &[]));
        assert_eq!(client.read_head().status(), 101);
        client.send(masked(TEXT, "hello"));
        assert_eq!(read(&mut client).text(), (TEXT, "hello"));
        return;
    }
    client.send(request);
    let answer = client.read_response();
    assert_eq!((answer.status(), answer.text()), (200, expected));
    if number % 20 != 13 {
        *kept = Some(client);
    }
}

/// Resident memory in bytes.
fn resident(witgate: &mut Witgate) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", witgate.process().id()));
    let status = status.expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes.expect("Linux says so") << 10
}

fn reload(witgate: &mut Witgate, config: &str, number: u64) {
    let directory = witgate.setup().path().to_owned();
    fs::write(directory.join("new"), config).expect("the test's directory can be written");
    fs::rename(directory.join("new"), directory.join("witgate.toml")).expect("it is there");
    witgate.process().signal(Signal::HUP);
    witgate.log_line(&format!("generation {number}"), |line| {
        line.message() == "reloaded"
            && line.field("generation").and_then(|n| n.as_u64()) == Some(number)
    });
}

#[test]
#[ignore = "minutes; `make soak-reload` runs it"]
fn no_request_fails_while_the_configuration_changes_every_few_seconds() {
    let wanted: u64 = env::var("WITGATE_SOAK_REQUESTS")
        .map_or(20_000, |text| text.parse().expect("a number of requests"));
    let origin = origin();
    let setup = Setup::new().env("WITGATE_LOG", "info,access=off");
    let mut witgate = setup.start(&configuration(origin, 1));
    let address = witgate.address("main");
    let served = AtomicU64::new(0);
    let (done, ended) = channel::<()>();
    let begun = Instant::now();
    let (mut round, mut early) = (1, None);
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (served, done) = (&served, done.clone());
            scope.spawn(move || {
                let _done = done;
                let mut kept = None;
                for number in client.. {
                    if served.fetch_add(1, Ordering::Relaxed) >= wanted {
                        return;
                    }
                    ask(&mut kept, address, number);
                }
            });
        }
        drop(done);
        // A client that fails panics, which ends its sending, and in the end the scope.
        while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
            round += 1;
            reload(&mut witgate, &configuration(origin, round), round);
            let (served, memory) = (served.load(Ordering::Relaxed), resident(&mut witgate));
            println!(
                "{served} requests, {round} configurations, {} MiB",
                memory >> 20
            );
            if served >= wanted / 10 && early.is_none() {
                early = Some(memory);
            }
        }
    });
    let late = resident(&mut witgate);
    let seconds = begun.elapsed().as_secs();
    println!("{wanted} requests in {seconds} s, {round} configurations, none failed");
    if let Some(early) = early {
        println!(
            "memory: {} MiB after a tenth, {} MiB at the end",
            early >> 20,
            late >> 20
        );
        assert!(late < early + MOST_GROWN, "{early} bytes became {late}");
    }
    assert!(witgate.stop().status.success());
}
