//! Promise: on SIGUSR2 another process takes over all sockets without losing a connection, and one that does not get that
//! far changes nothing.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use witgate_tests::admin::{self, ADMIN};
use witgate_tests::upstream::response;
use witgate_tests::wait::{PATIENCE, within};
use witgate_tests::witgate::{Setup, binary};
use witgate_tests::{Upstream, Witgate, config, eventually, http};

/// A proxy and all that follow it, which end with the test.
struct Line {
    witgate: Witgate,
    /// The process that serves.
    now: Pid,
    /// Those that have taken over.
    successors: Vec<Pid>,
}

impl Drop for Line {
    fn drop(&mut self) {
        // All are of one group, and the first has ended perhaps.
        self.witgate.process().signal_group(Signal::KILL);
    }
}

impl Line {
    fn of(mut witgate: Witgate) -> Self {
        let now = pid(witgate.process().id().into());
        Self {
            witgate,
            now,
            successors: Vec::new(),
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.now, signal).expect("it runs");
    }

    fn edit(&self, change: impl FnOnce(String) -> String) {
        let path = self.witgate.setup().path().join("witgate.toml");
        let text = fs::read_to_string(&path).expect("it is there");
        fs::write(&path, change(text)).expect("it can be written");
    }

    /// Lets the next process take over. The one before it.
    fn take_over(&mut self) -> Pid {
        self.signal(Signal::USR2);
        let mut next = None;
        self.witgate
            .log_line_within(PATIENCE * 4, "the hand-over", |line| {
                let process = line.field("process").and_then(|id| id.as_i64()).map(pid);
                next = process.filter(|id| !self.successors.contains(id));
                next.is_some()
            });
        let next = next.expect("the line has it");
        self.successors.push(next);
        std::mem::replace(&mut self.now, next)
    }

    fn restart(&mut self) {
        let old = self.take_over();
        eventually("the process before to end", || has_ended(old).then_some(()));
    }

    fn refused_restart(&self, reason: &str) {
        self.signal(Signal::USR2);
        self.witgate.log_line_within(PATIENCE * 4, reason, |line| {
            line.message().starts_with("the restart failed")
                && line.text("why").is_some_and(|why| why.contains(reason))
        });
        assert!(!has_ended(self.now));
    }
}

fn pid(id: i64) -> Pid {
    let id = i32::try_from(id).expect("ids are small");
    Pid::from_raw(id).expect("it is a process's")
}

/// Ended, or a child that nobody has waited for.
fn has_ended(process: Pid) -> bool {
    let id = process.as_raw_nonzero();
    let state = fs::read_to_string(format!("/proc/{id}/stat"));
    test_kill_process(process).is_err()
        || state.is_ok_and(|state| {
            state
                .rsplit(") ")
                .next()
                .is_some_and(|it| it.starts_with('Z'))
        })
}

fn hello() -> Upstream {
    Upstream::answering(|_| response("200 OK", &[], "hello"))
}

const CLOSING: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// A whole answer on a connection of its own.
fn ask(stream: &mut (impl std::io::Read + std::io::Write)) -> std::io::Result<bool> {
    stream.write_all(CLOSING)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"))
}

/// Asks until `stop`; gives up at the first that is not answered.
fn ask_on(stop: &AtomicBool, asked: &AtomicU64, mut once: impl FnMut() -> std::io::Result<bool>) {
    while !stop.load(Ordering::Relaxed) {
        match once() {
            Ok(true) => asked.fetch_add(1, Ordering::Relaxed),
            other => panic!("not answered: {other:?}"),
        };
    }
}

/// A kept-alive connection may be closed while it is idle, as by any server; then a client asks again on a new one.
fn ask_kept(kept: &mut Option<http::Connection>, address: SocketAddr) -> std::io::Result<bool> {
    loop {
        let is_new = kept.is_none();
        let client = kept.get_or_insert_with(|| http::Connection::open(address));
        let sent = client.try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = sent.and_then(|()| client.try_read_head());
        match head {
            Ok(Some(head)) => {
                let body = client.try_read_body(&head, false)?;
                if head.has_token("connection", "close") {
                    *kept = None;
                }
                return Ok(head.status() == 200 && body == b"hello");
            }
            Ok(None) | Err(_) if !is_new => *kept = None,
            Ok(None) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

#[test]
fn no_connection_is_lost_through_three_restarts_with_more_and_fewer_workers() {
    let upstream = hello();
    let setup = Setup::new();
    let socket = setup.path().join("main.sock");
    let config = config::relay(upstream.address()).replace("workers = 1", "workers = 2")
        + ADMIN
        + &format!(
            "[[listener]]\nname = \"local\"\nbind = \"unix:{}\"\n[[route]]\nlistener = \"local\"\nupstream = \"origin\"\n",
            socket.display()
        );
    let mut line = Line::of(setup.start(&config));
    let address = line.witgate.address("main");
    let admin = admin::address(&line.witgate);
    let (stop, asked) = (
        Arc::new(AtomicBool::new(false)),
        [0; 3].map(|_| Arc::new(AtomicU64::new(0))),
    );
    let clients: Vec<_> = (0..3)
        .map(|which| {
            let (stop, asked, socket) = (stop.clone(), asked[which].clone(), socket.clone());
            thread::spawn(move || {
                let mut kept = None;
                ask_on(&stop, &asked, || match which {
                    0 => ask(&mut TcpStream::connect(address)?),
                    1 => ask(&mut UnixStream::connect(&socket)?),
                    _ => ask_kept(&mut kept, address),
                });
            })
        })
        .collect();
    for workers in [3, 1, 2] {
        // Each kind of client has been served by the process that is to go.
        let before = asked.each_ref().map(|asked| asked.load(Ordering::Relaxed));
        eventually("requests", || {
            let now = asked.each_ref().map(|asked| asked.load(Ordering::Relaxed));
            let is_over = clients.iter().any(thread::JoinHandle::is_finished);
            (is_over || now.iter().zip(before).all(|(now, before)| *now > before)).then_some(())
        });
        line.edit(|text| {
            let old = text
                .lines()
                .find(|line| line.starts_with("workers"))
                .map(str::to_owned);
            text.replace(&old.expect("it is set"), &format!("workers = {workers}"))
        });
        line.restart();
        assert_eq!(http::get(admin, "/ready").status(), 200);
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("every request was answered");
    }
    assert!(socket.exists());
    line.signal(Signal::TERM);
    eventually("the last one to end", || has_ended(line.now).then_some(()));
    assert!(!socket.exists());
}

#[test]
fn an_exchange_under_way_ends_where_it_began() {
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let upstream = Upstream::start(move |peer| {
        peer.next_request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst");
        let may_go_on = may_go_on.lock().expect("nobody panics holding it");
        may_go_on
            .recv_timeout(PATIENCE * 4)
            .expect("the test lets it go on");
        peer.send("last");
    });
    let mut line = Line::of(Witgate::start(&config::relay(upstream.address())));
    let mut client = line.witgate.connect("main");
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_head();
    assert_eq!(client.read_exact(5), b"first");
    let old = line.take_over();
    assert!(!has_ended(old));
    go_on.send(()).expect("the script waits");
    assert_eq!(client.read_exact(4), b"last");
    client.expect_close();
    eventually("the process before to end", || has_ended(old).then_some(()));
}

#[test]
fn one_that_does_not_serve_changes_nothing() {
    let upstream = hello();
    let setup = Setup::new();
    let program = setup.path().join("program");
    std::os::unix::fs::symlink(binary(), &program).expect("a link");
    let socket = setup.path().join("main.sock");
    let config = config::relay(upstream.address())
        .replace("[server]\nworkers = 1\n", "")
        .replace(
            "bind = \"127.0.0.1:0\"",
            &format!("bind = \"unix:{}\"", socket.display()),
        )
        + ADMIN;
    let line = Line::of(setup.start_by(&config, |command| {
        let mut replaced = Command::new(&program);
        replaced.args(command.get_args());
        replaced.current_dir(command.get_current_dir().expect("it has one"));
        let set = command.get_envs();
        replaced.envs(set.filter_map(|(name, value)| Some((name, value?))));
        replaced
    }));
    let admin = admin::address(&line.witgate);
    let serves = || {
        let mut client = UnixStream::connect(&socket).expect("it listens");
        assert!(ask(&mut client).expect("an answer"));
        assert_eq!(http::get(admin, "/ready").status(), 200);
    };
    script(&program, "exit 7");
    line.refused_restart("it ended before it served: exit status: 7");
    serves();
    fs::remove_file(&program).expect("it is there");
    line.refused_restart("cannot be started");
    serves();
    std::os::unix::fs::symlink(binary(), &program).expect("a link");
    line.edit(|text| text.replace("upstream = \"origin\"", "upstream = \"orign\""));
    line.refused_restart("orign");
    serves();
    // This one has taken the sockets over when it fails.
    let taken = upstream.address();
    let listener = format!(
        "[[listener]]\nname = \"taken\"\nbind = \"{taken}\"\n[[route]]\nlistener = \"taken\"\nupstream = \"origin\"\n"
    );
    line.edit(|text| text.replace("orign", "origin") + &listener);
    line.refused_restart("`taken` cannot be bound");
    serves();
    line.edit(|text| text.replace(&listener, "") + "[server]\nrestart-timeout = \"300ms\"\n");
    line.signal(Signal::HUP);
    line.witgate
        .log_line("the reload", |line| line.message() == "reloaded");
    script(&program, "exec sleep 60");
    line.refused_restart("it does not serve after 300ms");
    serves();
}

#[test]
fn who_comes_when_a_restart_fails_in_the_last_moment_is_served() {
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let upstream = Upstream::start(move |peer| {
        peer.next_request();
        let may_go_on = may_go_on.lock().expect("nobody panics holding it");
        may_go_on
            .recv_timeout(PATIENCE * 4)
            .expect("the test lets it go on");
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    });
    let limit = Duration::from_secs(2);
    let config = config::relay(upstream.address())
        .replace("workers = 1", "workers = 1\nrestart-timeout = \"2s\"");
    let line = Line::of(Witgate::start(&config));
    let logged = |start: &str| {
        let log = line.witgate.log();
        log.iter()
            .filter(|line| line.message().starts_with(start))
            .count()
    };
    // A busy machine may take longer than that for one that has only just begun.
    let begun = within(PATIENCE * 4, || {
        let (listening, failed) = (logged("listening"), logged("the restart failed"));
        let begun = Instant::now();
        line.signal(Signal::USR2);
        eventually("a process to take over, or not", || {
            (logged("listening") > listening || logged("the restart failed") > failed).then_some(())
        });
        line.signal(Signal::STOP);
        let is_open = logged("the restart failed") == failed;
        if !is_open {
            line.signal(Signal::CONT);
        }
        is_open.then_some((begun, failed))
    });
    let (begun, failed) = begun.expect("one that can serve");
    let mut client = line.witgate.connect("main");
    client.send(CLOSING);
    eventually("the time to be over", || {
        (begun.elapsed() > limit).then_some(())
    });
    line.signal(Signal::CONT);
    // Whichever of the two it finds first, its time or that the other can serve.
    eventually("the end of the restart", || {
        let ended = logged("the restart failed") > failed || logged("another process serves") > 0;
        ended.then_some(())
    });
    go_on.send(()).expect("the script waits");
    assert_eq!(client.read_response().status(), 200);
}

#[test]
fn a_unix_socket_that_the_next_process_does_without_leaves_no_file() {
    let upstream = hello();
    let setup = Setup::new();
    let [file, of_another] = ["file.sock", "another.sock"].map(|name| setup.path().join(name));
    let listener = |name: &str, path: &Path| {
        format!(
            "[[listener]]\nname = \"{name}\"\nbind = \"unix:{}\"\n[[route]]\nlistener = \"{name}\"\nupstream = \"origin\"\n",
            path.display()
        )
    };
    let listeners = listener("file", &file) + &listener("another", &of_another);
    let config = config::relay(upstream.address()) + &listeners;
    let mut line = Line::of(setup.start(&config));
    fs::remove_file(&of_another).expect("it is there");
    let _anothers = UnixListener::bind(&of_another).expect("it is free");
    line.edit(|text| text.replace(&listeners, ""));
    line.restart();
    eventually("the file to be gone", || (!file.exists()).then_some(()));
    assert!(of_another.exists());
    let mut client = TcpStream::connect(line.witgate.address("main")).expect("it listens");
    assert!(ask(&mut client).expect("an answer"));
}

fn script(path: &Path, text: &str) {
    let next = path.with_extension("next");
    fs::write(&next, format!("#!/bin/sh\n{text}\n")).expect("it can be written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(&next, mode).expect("it is ours");
    fs::rename(&next, path).expect("it can be replaced");
}
