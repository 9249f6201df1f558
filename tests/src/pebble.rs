//! Pebble, an authority that speaks ACME and validates what it signs, for names that lead to this machine.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::dns::{Answer, NameServer};
use crate::port;
use crate::process::Process;
use crate::tls::Certificates;
use crate::wait::{PATIENCE, within};

/// An authority that can be started, ended and started again at the same place. It forgets everything in between.
#[derive(Debug)]
pub struct Pebble {
    names: NameServer,
    certificates: Certificates,
    directory: TempDir,
    port: u16,
}

impl Pebble {
    /// One that does not run yet.
    ///
    /// # Panics
    ///
    /// When openssl is missing.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        Self {
            names: NameServer::start(),
            certificates: Certificates::new(&["IP:127.0.0.1"]),
            directory: TempDir::new().expect("the temporary directory can be written"),
            port: port::unused(),
        }
    }

    /// The URL of its directory.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }

    /// Who vouches for that.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.certificates.ca()
    }

    /// Has this name lead to this machine.
    pub fn set_name(&self, name: &str) {
        let here = Answer::Addresses(vec![Ipv4Addr::LOCALHOST], 60);
        self.names.set(name, here);
    }

    /// Starts it; it validates at these ports, with nobody's word taken for it.
    ///
    /// # Panics
    ///
    /// When pebble is missing, or does not listen.
    #[must_use]
    #[track_caller]
    pub fn run(&self, tls: SocketAddr, http: SocketAddr) -> Process {
        let certificates = self.certificates.directory().display();
        let config = format!(
            r#"{{"pebble": {{
                "listenAddress": "127.0.0.1:{}",
                "managementListenAddress": "",
                "certificate": "{certificates}/certificate.pem",
                "privateKey": "{certificates}/key.pem",
                "httpPort": {},
                "tlsPort": {},
                "ocspResponderURL": "",
                "externalAccountBindingRequired": false
            }}}}"#,
            self.port,
            http.port(),
            tls.port()
        );
        let file = self.directory.path().join("pebble.json");
        fs::write(&file, config).expect("the directory is ours");
        let mut command = Command::new("pebble");
        command.arg("-config").arg(&file);
        command.args(["-strict=false", "-dnsserver"]);
        command.arg(self.names.address().to_string());
        // No sleep for the sake of it, no nonce refused for the sake of it, and each name validated each time.
        command.env("PEBBLE_VA_NOSLEEP", "1");
        command.env("PEBBLE_WFE_NONCEREJECT", "0");
        command.env("PEBBLE_AUTHZREUSE", "0");
        command.env_remove("PEBBLE_VA_ALWAYS_VALID");
        let process = Process::start("pebble", command);
        let listening = within(PATIENCE, || {
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
        assert!(listening.is_some(), "pebble does not listen:\n{process}");
        process
    }
}

impl Default for Pebble {
    fn default() -> Self {
        Self::new()
    }
}
