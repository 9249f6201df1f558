//! The shared Chromium as `examples/chrome-service/container/witgate.toml` sets it up, on ports and in a directory of
//! the test's. It can be stopped and started again, as it would be on a machine that stays.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

use crate::http::{Connection, Message};
use crate::process::{Ended, Process};
use crate::wait::within;
use crate::witgate::Setup;
use crate::{clients, deployment, port};

/// The token for port 9222.
pub const TOKEN: &str = "5d0f8c41b7e2a936";

/// A start, on a busy machine with a cold cache, until Chromium answers through the proxy.
const START: Duration = Duration::from_secs(120);

/// A stop, with Chromium closed in order.
const STOP: Duration = Duration::from_secs(120);

/// The service and what it keeps between two runs.
#[derive(Debug)]
pub struct ChromeService {
    // Ended before the directory goes.
    process: Option<Process>,
    setup: Setup,
    ports: Ports,
}

/// Where it listens, on the loopback and on every other address.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// The DevTools protocol, behind [`TOKEN`].
    pub cdp: u16,
    /// Health.
    pub admin: u16,
    /// Chromium itself.
    pub chromium: u16,
}

impl ChromeService {
    /// Starts it with its configuration changed by `change`, and waits until it is ready.
    ///
    /// # Panics
    ///
    /// When it is not ready within two minutes.
    #[must_use]
    #[track_caller]
    pub fn start(change: impl FnOnce(String) -> String) -> Self {
        let ports = Ports {
            cdp: port::unused(),
            admin: port::unused(),
            chromium: port::unused(),
        };
        let setup = Setup::new().file("state/snapshots/keep", "");
        let setup = ["cdp-token", "snapshot-token", "metrics-token"]
            .iter()
            .fold(setup, |setup, name| {
                setup.file(&format!("secrets/{name}"), TOKEN)
            });
        let config = change(configuration(ports, &setup));
        let mut service = Self {
            process: None,
            setup: setup.file("witgate.toml", config),
            ports,
        };
        service.start_again();
        service
    }

    /// Starts it after it was stopped or killed, and waits until it is ready.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "it runs");
        let arguments = ["run", "--config", "witgate.toml", "--log-format", "json"];
        let process = Process::start("witgate", self.setup.command(&arguments));
        let admin = format!(":{}", self.ports.admin);
        let listening = process.find_line(START, |line| line.contains(&admin).then_some(()));
        self.process = Some(process);
        assert!(listening.is_some(), "it does not listen");
        self.wait_until_ready();
    }

    /// Waits until Chromium answers through it.
    #[track_caller]
    pub fn wait_until_ready(&self) {
        let ready = within(START, || {
            (self.version().ok()?.status() == 200).then_some(())
        });
        assert!(ready.is_some(), "Chromium does not answer through it");
    }

    fn version(&self) -> std::io::Result<Message> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.cdp));
        let mut connection = Connection::new(std::net::TcpStream::connect(address)?);
        connection.try_send(format!(
            "GET /json/version HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
        ))?;
        let head = connection.try_read_head()?;
        let head = head.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let body = connection.try_read_body(&head, true)?;
        Ok(Message { head, body })
    }

    /// `http://HOST:PORT`, as a client on another machine writes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}:{}", clients::host_name(), self.ports.cdp)
    }

    /// Where it listens.
    #[must_use]
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// The directory that its profile is in.
    #[must_use]
    pub fn profile(&self) -> PathBuf {
        self.setup.path().join("state/profile")
    }

    /// The running process.
    ///
    /// # Panics
    ///
    /// When it was stopped.
    #[must_use]
    #[track_caller]
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }

    /// Asks it to stop, and waits for its end.
    #[track_caller]
    pub fn stop(&mut self) -> Ended {
        self.end(Signal::TERM)
    }

    /// Kills it, but not the browser that it started.
    #[track_caller]
    pub fn kill(&mut self) -> Ended {
        self.end(Signal::KILL)
    }

    #[track_caller]
    fn end(&mut self, signal: Signal) -> Ended {
        let process = self.process.take().expect("it runs");
        process.signal(signal);
        process.wait(STOP)
    }

    /// How many established connections lead to Chromium's own port.
    ///
    /// # Panics
    ///
    /// When the system does not tell.
    #[must_use]
    pub fn connections_to_chromium(&self) -> usize {
        const ESTABLISHED: &str = "01";
        let table = fs::read_to_string("/proc/net/tcp").expect("Linux tells its connections");
        let port = format!(":{:04X}", self.ports.chromium);
        let to_chromium = table.lines().skip(1).filter(|line| {
            let mut fields = line.split_whitespace().skip(2);
            fields.next().is_some_and(|remote| remote.ends_with(&port))
                && fields.next() == Some(ESTABLISHED)
        });
        to_chromium.count()
    }

    /// How many files and sockets the process has open.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[must_use]
    #[track_caller]
    pub fn open_files(&self) -> usize {
        let directory = format!("/proc/{}/fd", self.process().id());
        fs::read_dir(directory).expect("it runs").count()
    }
}

/// Replaces a part that has to be there.
///
/// # Panics
///
/// When it is not.
#[must_use]
#[track_caller]
pub fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(
        text.contains(from),
        "the configuration no longer says {from:?}"
    );
    text.replace(from, to)
}

fn configuration(ports: Ports, setup: &Setup) -> String {
    let cache = format!("--disk-cache-dir={}/cache/", setup.path().display());
    let moved = [
        ("0.0.0.0:9222", format!("0.0.0.0:{}", ports.cdp)),
        ("0.0.0.0:8088", "127.0.0.1:0".to_owned()),
        ("0.0.0.0:9901", format!("127.0.0.1:{}", ports.admin)),
        ("127.0.0.1:6667", format!("127.0.0.1:{}", ports.chromium)),
        ("port = 6667", format!("port = {}", ports.chromium)),
        // A busy machine's browser takes its time to say where it is.
        (
            "grant.http-client = {",
            "grant.http-client = { timeout = \"20s\",".to_owned(),
        ),
        ("/run/secrets/witgate/", "secrets/".to_owned()),
        ("--disk-cache-dir=/var/cache/witgate/", cache),
        ("/var/cache/witgate/", "cache/".to_owned()),
        ("/var/lib/witgate/", "state/".to_owned()),
    ];
    moved.iter().fold(
        deployment::file("container/witgate.toml"),
        |text, (from, to)| replaced(&text, from, to),
    )
}
