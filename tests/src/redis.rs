//! A Redis server for one test.

use std::net::TcpStream;
use std::process::Command;

use tempfile::TempDir;

use crate::port;
use crate::process::Process;
use crate::tls::Certificates;
use crate::wait::{PATIENCE, within};

/// A Redis server that keeps nothing. Dropping it stops it.
#[derive(Debug)]
pub struct Redis {
    process: Option<Process>,
    directory: TempDir,
    port: u16,
    password: Option<String>,
    certificates: Option<Certificates>,
}

impl Redis {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// When `redis-server` is missing, or it does not listen.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        Self::with(None, None)
    }

    /// Starts one that asks for a password.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    #[must_use]
    #[track_caller]
    pub fn asking_for(password: &str) -> Self {
        Self::with(Some(password.to_owned()), None)
    }

    /// Starts one that speaks TLS and nothing else.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    #[must_use]
    #[track_caller]
    pub fn by_tls(certificates: Certificates) -> Self {
        Self::with(None, Some(certificates))
    }

    #[track_caller]
    fn with(password: Option<String>, certificates: Option<Certificates>) -> Self {
        let directory = TempDir::new().expect("the temporary directory can be written");
        let mut redis = Self {
            process: None,
            directory,
            port: port::unused(),
            password,
            certificates,
        };
        redis.begin();
        redis
    }

    /// Starts it again, empty and on the same port, after [`kill`](Self::kill).
    ///
    /// # Panics
    ///
    /// When it does not listen.
    #[track_caller]
    pub fn begin(&mut self) {
        let mut command = Command::new("redis-server");
        command.current_dir(self.directory.path());
        let port = self.port.to_string();
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        match &self.certificates {
            None => command.args(["--port", &port]),
            Some(certificates) => {
                let file = |name| certificates.directory().join(name);
                command.args(["--port", "0", "--tls-port", &port]);
                command.args(["--tls-auth-clients", "no"]);
                command.arg("--tls-ca-cert-file").arg(file("ca.pem"));
                command.arg("--tls-cert-file").arg(file("certificate.pem"));
                command.arg("--tls-key-file").arg(file("key.pem"))
            }
        };
        if let Some(password) = &self.password {
            command.args(["--requirepass", password]);
        }
        let process = Process::start("redis-server", command);
        let listening = within(PATIENCE, || {
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
        assert!(
            listening.is_some(),
            "redis-server does not listen; is it installed (`scripts/setup.sh test`)?\n{process}"
        );
        self.process = Some(process);
    }

    /// Ends it without a word to anybody.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// `redis://127.0.0.1:PORT`, or `rediss://…`.
    #[must_use]
    pub fn url(&self) -> String {
        let tls = if self.certificates.is_some() { "s" } else { "" };
        format!("redis{tls}://127.0.0.1:{}", self.port)
    }
}
