//! A Redis server for one test.

use std::net::TcpStream;
use std::process::Command;

use tempfile::TempDir;

use crate::port;
use crate::process::Process;
use crate::wait::{PATIENCE, within};

/// A Redis server that keeps nothing. Dropping it stops it.
#[derive(Debug)]
pub struct Redis {
    process: Option<Process>,
    directory: TempDir,
    port: u16,
    password: Option<String>,
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
        Self::with(None)
    }

    /// Starts one that asks for a password.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    #[must_use]
    #[track_caller]
    pub fn asking_for(password: &str) -> Self {
        Self::with(Some(password.to_owned()))
    }

    #[track_caller]
    fn with(password: Option<String>) -> Self {
        let directory = TempDir::new().expect("the temporary directory can be written");
        let mut redis = Self {
            process: None,
            directory,
            port: port::unused(),
            password,
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
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no"]);
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

    /// `redis://127.0.0.1:PORT`
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}
