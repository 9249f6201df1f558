//! Promise: under systemd, witgate takes the sockets that systemd opened and says how it is (sd_listen_fds(3), sd_notify(3)).

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use rustix::process::Signal;
use witgate_tests::curl::curl;
use witgate_tests::upstream::response;
use witgate_tests::wait::PATIENCE;
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, Witgate, config, eventually};

/// Opens `NAME=ADDRESS …` as a socket unit does, and becomes the program behind `--`.
const SOCKET_UNIT: &str = r#"
import fcntl, os, socket, sys
end = sys.argv.index("--")
names, sockets = [], []
for name, address in (it.split("=", 1) for it in sys.argv[1:end]):
    kind = socket.SOCK_DGRAM if address.startswith("udp:") else socket.SOCK_STREAM
    if address.startswith("/"):
        opened = socket.socket(socket.AF_UNIX, kind)
        opened.bind(address)
    else:
        opened = socket.socket(socket.AF_INET, kind)
        opened.bind(("127.0.0.1", int(address.rsplit(":")[-1])))
    if kind == socket.SOCK_STREAM:
        opened.listen()
    names.append(name)
    sockets.append(fcntl.fcntl(opened, fcntl.F_DUPFD, 100))
for at, opened in enumerate(sockets):
    os.dup2(opened, 3 + at)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(names)), LISTEN_FDNAMES=":".join(names))
os.execv(sys.argv[end + 1], sys.argv[end + 1:])
"#;

fn activated(command: &Command, sockets: &[&str]) -> Command {
    let mut python = Command::new("python3");
    python.args(["-c", SOCKET_UNIT]).args(sockets).arg("--");
    python.arg(command.get_program()).args(command.get_args());
    let set = command.get_envs();
    python.envs(set.filter_map(|(name, value)| Some((name, value?))));
    python.current_dir(command.get_current_dir().expect("it has one"));
    python
}

fn hello() -> Upstream {
    Upstream::answering(|_| response("200 OK", &[], "hello"))
}

/// A proxy and those that follow it, which end with the test.
struct Line(Witgate);

impl Drop for Line {
    fn drop(&mut self) {
        self.0.process().signal_group(Signal::KILL);
    }
}

#[test]
fn sockets_of_systemd_are_found_by_name_and_by_address_and_outlive_a_restart() {
    let upstream = hello();
    let setup = Setup::new();
    let [local, other] = ["local.sock", "other.sock"].map(|name| setup.path().join(name));
    let config = config::relay(upstream.address())
        .replace("workers = 1", "workers = 2")
        .replace("127.0.0.1:0", "systemd:web")
        + &format!(
            "[[listener]]\nname = \"local\"\nbind = \"systemd:local\"\n\
             [[route]]\nlistener = \"local\"\nupstream = \"origin\"\n\
             [[listener]]\nname = \"other\"\nbind = \"unix:{}\"\n\
             [[route]]\nlistener = \"other\"\nupstream = \"origin\"\n",
            other.display()
        );
    let sockets = [
        "web=127.0.0.1:0".to_owned(),
        format!("local={}", local.display()),
        format!("other={}", other.display()),
        "unused=127.0.0.1:0".to_owned(),
    ];
    let sockets = sockets.each_ref().map(String::as_str);
    let mut line = Line(setup.start_by(&config, |command| activated(&command, &sockets)));
    line.0.log_line("the unused one", |line| {
        line.text("socket") == Some("systemd:unused")
    });
    let tcp = format!("http://{}/", line.0.address("main"));
    for restarted in [false, true] {
        if restarted {
            line.0.process().signal(Signal::USR2);
            line.0
                .log_line_within(PATIENCE * 4, "the hand-over", |line| {
                    line.message().starts_with("another process serves")
                });
        }
        assert_eq!(curl(&[&tcp]).body, "hello");
        for socket in [&local, &other] {
            let socket = socket.display().to_string();
            assert_eq!(curl(&["--unix-socket", &socket, "http://a/"]).body, "hello");
        }
    }
    line.0.process().signal_group(Signal::TERM);
    eventually("the end", || (curl(&[&tcp]).code != 0).then_some(()));
    assert!(local.exists() && other.exists(), "systemd's files stay");
}

#[test]
fn a_socket_that_is_missing_or_of_another_kind_is_an_error() {
    let upstream = hello();
    let config = config::relay(upstream.address()).replace("127.0.0.1:0", "systemd:web");
    let setup = Setup::new().file("witgate.toml", &config);
    for (sockets, error) in [
        (&[][..], "this process was given no socket"),
        (
            &["www=127.0.0.1:0"],
            "no socket of this name is left, but of systemd:www",
        ),
        (
            &["web=udp:0"],
            "the socket `web` that systemd gave is neither TCP nor a Unix stream socket",
        ),
    ] {
        let command = activated(&setup.command(&["run"]), sockets);
        let ended = witgate_tests::process::Process::start("witgate", command).wait(PATIENCE * 4);
        let said = ended.output();
        assert!(!ended.status.success() && said.contains(error), "{said}");
    }
}

/// What systemd hears.
struct Systemd(UnixDatagram);

impl Systemd {
    fn at(directory: &Path) -> Self {
        let socket = UnixDatagram::bind(directory.join("notify")).expect("it is free");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Self(socket)
    }

    /// The next message with this line.
    #[track_caller]
    fn hears(&self, wanted: &str) -> String {
        let end = Instant::now() + PATIENCE * 4;
        let mut heard = Vec::new();
        while Instant::now() < end {
            let mut bytes = [0; 4096];
            let Ok(length) = self.0.recv(&mut bytes) else {
                break;
            };
            let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if message.lines().any(|line| line.starts_with(wanted)) {
                return message;
            }
            heard.push(message);
        }
        panic!("no {wanted:?} among {heard:?}");
    }
}

#[test]
fn systemd_is_told_when_it_serves_reloads_lives_and_stops() {
    let upstream = hello();
    let setup = Setup::new();
    let systemd = Systemd::at(setup.path());
    let notify = setup.path().join("notify");
    let setup = setup
        .env("NOTIFY_SOCKET", notify)
        .env("WATCHDOG_USEC", "200000");
    let mut witgate = setup.start(&config::relay(upstream.address()));
    let ready = systemd.hears("READY=1");
    assert!(
        ready.contains(&format!("MAINPID={}", witgate.process().id())),
        "{ready}"
    );
    systemd.hears("WATCHDOG=1");
    witgate.process().signal(Signal::HUP);
    let reloading = systemd.hears("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    systemd.hears("READY=1");
    let file = witgate.setup().path().join("witgate.toml");
    fs::write(file, "nothing = 1").expect("it can be written");
    witgate.process().signal(Signal::HUP);
    let failed = {
        systemd.hears("RELOADING=1");
        systemd.hears("READY=1")
    };
    assert!(failed.contains("STATUS=the last reload failed"), "{failed}");
    witgate.process().signal(Signal::TERM);
    systemd.hears("STOPPING=1");
}

#[test]
fn systemd_follows_the_process_that_takes_over() {
    let upstream = hello();
    let setup = Setup::new();
    let systemd = Systemd::at(setup.path());
    let notify = setup.path().join("notify");
    let setup = setup
        .env("NOTIFY_SOCKET", notify)
        .env("WATCHDOG_USEC", "200000");
    let mut line = Line(setup.start(&config::relay(upstream.address())));
    systemd.hears("READY=1");
    line.0.process().signal(Signal::USR2);
    let taken = line
        .0
        .log_line_within(PATIENCE * 4, "the hand-over", |line| {
            line.message().starts_with("another process serves")
        });
    let process = taken.field("process").expect("its id").to_string();
    let ready = systemd.hears("READY=1");
    assert!(ready.contains(&format!("MAINPID={process}\n")), "{ready}");
    // Both told of their lives until then; now the one that took over does.
    systemd.hears("WATCHDOG=1");
}
