//! Promise: lines of the access log go where and as the configuration says; a place that fails costs lines and nothing
//! else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;
use witgate_tests::admin::{self, ADMIN, metric};
use witgate_tests::upstream::response;
use witgate_tests::wait::eventually;
use witgate_tests::witgate::{LogLine, Setup};
use witgate_tests::{Upstream, Witgate, config};

fn origin() -> Upstream {
    Upstream::answering(|_| response("200 OK", &[], "hello"))
}

/// A relay whose access log goes there.
fn start(setup: Setup, origin: &Upstream, access: &str) -> Witgate {
    let relay = config::relay(origin.address());
    setup.start(&format!("{relay}{ADMIN}\n[log.access]\n{access}\n"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The first line of a file that says this.
fn line(path: &Path, part: &str) -> String {
    eventually(&format!("a line with {part}"), || {
        let text = read(path);
        // One that is not whole has no end yet.
        let mut whole = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        whole.find(|line| line.contains(part)).map(str::to_owned)
    })
}

#[test]
fn a_file_has_a_line_of_each_exchange_is_private_and_is_followed_when_it_is_moved_away() {
    let origin = origin();
    let mut witgate = start(Setup::new(), &origin, "to = { file = \"access.log\" }");
    let log = witgate.setup().path().join("access.log");

    let mut client = witgate.connect("main");
    client.send(
        "GET /first?token=secret HTTP/1.1\r\nHost: a\r\nUser-Agent: me \"1\"\r\nReferer: http://b/c?d=secret\r\n\
         Authorization: Bearer secret\r\nCookie: a=secret\r\n\r\n",
    );
    client.read_response();
    drop(client);

    let first = line(&log, "/first");
    let entry: Value = serde_json::from_str(&first).expect("a line is JSON");
    for (name, expected) in [
        ("message", Value::from("exchange")),
        ("method", "GET".into()),
        ("path", "/first".into()),
        ("protocol", "HTTP/1.1".into()),
        ("route", "all".into()),
        ("user_agent", "me \"1\"".into()),
        ("referer", "http://b/c".into()),
        ("status", 200.into()),
        ("bytes_sent", 5.into()),
        ("outcome", "complete".into()),
    ] {
        assert_eq!(entry[name], expected, "{name} in {first}");
    }
    assert!(entry["duration_ms"].is_number(), "{first}");
    assert!(!first.contains("secret"), "{first}");
    let mode = fs::metadata(&log)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o137, 0, "at most 0640: {mode:o}");
    let in_the_process_log = witgate
        .log()
        .iter()
        .any(|line| line.message() == "exchange");
    assert!(!in_the_process_log, "a line goes to one place");

    let moved = log.with_extension("1");
    fs::rename(&log, &moved).expect("it can be moved");
    witgate.process().signal(Signal::USR1);
    eventually("the file is opened again", || log.exists().then_some(()));
    assert_eq!(witgate.get("main", "/second").status(), 200);
    line(&log, "/second");
    assert!(!read(&moved).contains("/second"));
}

#[test]
fn a_full_disk_costs_lines_and_is_told_once() {
    let origin = origin();
    let witgate = start(Setup::new(), &origin, "to = { file = \"/dev/full\" }");

    for _ in 0..20 {
        assert_eq!(witgate.get("main", "/").status(), 200);
    }

    let admin = admin::address(&witgate);
    let dropped = "witgate_access_log_dropped_total{reason=\"write\"}";
    eventually("all lines are counted as lost", || {
        (metric(admin, dropped) == 20.0).then_some(())
    });
    let tells = |line: &LogLine| line.message().contains("cannot be written");
    witgate.log_line("the access log", tells);
    let told = witgate.log().iter().filter(|line| tells(line)).count();
    assert_eq!(told, 1);
}

#[test]
fn a_pipe_that_nobody_reads_holds_up_nobody() {
    let origin = origin();
    let setup = Setup::new();
    let pipe = setup.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).expect("a pipe can be made");
    // It has a reader, who reads nothing.
    let reader = rustix::fs::open(
        &pipe,
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK,
        0.into(),
    );
    let _reader = reader.expect("a pipe can be opened");
    let access = "to = { file = \"pipe\" }\nbuffer = \"64KiB\"\nformat = \"{user_agent} {status}\"";
    let witgate = start(setup, &origin, access);

    let mut client = witgate.connect("main");
    let agent = "x".repeat(500);
    // More than a pipe holds (64 KiB).
    for _ in 0..200 {
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: {agent}\r\n\r\n"
        ));
        assert_eq!(client.read_response().status(), 200);
    }

    let admin = admin::address(&witgate);
    eventually("lines are counted as lost", || {
        let lost = |reason| {
            metric(
                admin,
                &format!("witgate_access_log_dropped_total{{reason=\"{reason}\"}}"),
            )
        };
        (lost("write") + lost("queue") > 0.0).then_some(())
    });
    let ended = witgate.stop();
    assert!(ended.status.success(), "{}", ended.output());
}

#[test]
fn a_syslog_daemon_gets_one_message_for_each_exchange() {
    let origin = origin();
    let setup = Setup::new();
    let daemon = UnixDatagram::bind(setup.path().join("log")).expect("a socket can be made");
    daemon
        .set_read_timeout(Some(witgate_tests::wait::PATIENCE))
        .expect("a socket takes a timeout");
    let socket = setup.path().join("log");
    let access = format!("to = {{ syslog = {socket:?} }}\nformat = \"common\"");
    let witgate = start(setup, &origin, &access);

    assert_eq!(witgate.get("main", "/a").status(), 200);

    let mut buffer = [0; 4096];
    let read = daemon.recv(&mut buffer).expect("a message comes");
    let message = String::from_utf8_lossy(&buffer[..read]).into_owned();
    assert!(message.starts_with("<30>1 20"), "{message}");
    assert!(message.contains(" witgate "), "{message}");
    assert!(message.contains(" access - 127.0.0.1 - - ["), "{message}");
    assert!(
        message.ends_with("] \"GET /a HTTP/1.1\" 200 5"),
        "{message}"
    );
}

#[test]
fn a_route_may_leave_no_lines_and_a_line_ends_only_where_it_ends() {
    let origin = origin();
    let relay = config::relay(origin.address());
    let quiet = "\n[[route]]\npath = \"/quiet\"\naccess-log = false\nreply = { status = 204 }\n";
    let log = "\n[log.access]\nto = { file = \"log\" }\nformat = \"{method} {path} \\\"{user_agent}\\\" {status} {attribute:a.b}\"\n";
    let witgate = Setup::new().start(&format!("{relay}{quiet}{log}"));

    assert_eq!(witgate.get("main", "/quiet").status(), 204);
    let mut client = witgate.connect("main");
    client.send("GET /loud HTTP/1.1\r\nHost: a\r\nUser-Agent: a\"b\tc\r\n\r\n");
    client.read_response();

    let path = witgate.setup().path().join("log");
    assert_eq!(line(&path, "/loud"), "GET /loud \"a\\x22b\\x09c\" 200 -\n");
    drop(client);
    // What ended before it would stand before it.
    assert_eq!(read(&path).lines().count(), 1);
}

#[test]
fn a_file_that_cannot_be_opened_is_told_before_anything_is_served() {
    let origin = origin();
    let relay = config::relay(origin.address());
    let setup = Setup::new();
    let _nobody_reads =
        rustix::fs::mkfifoat(rustix::fs::CWD, setup.path().join("pipe"), 0o600.into());
    let ended = setup.run_and_fail(&format!(
        "{relay}\n[log.access]\nto = {{ file = \"pipe\" }}\n"
    ));
    let output = ended.output();
    assert!(
        output.contains("the access log cannot be opened"),
        "{output}"
    );
    assert!(output.contains("witgate.toml:"), "{output}");
}
