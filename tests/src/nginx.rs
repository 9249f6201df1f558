//! nginx, ending TLS, with certificates of the test's own making.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::port;
use crate::process::Process;
use crate::tls::Certificates;
use crate::wait::{PATIENCE, within};

/// A running nginx. Dropping it stops it.
#[derive(Debug)]
pub struct Nginx {
    // Ended before the directory goes.
    _process: Process,
    _directory: TempDir,
    certificates: Certificates,
    port: u16,
}

impl Nginx {
    /// Starts nginx with TLS for these host names, on every address. `location` is what its server does, and may use
    /// `$connection_upgrade`, the value of `Connection` that passes an upgrade on, and `CERTIFICATES`, the directory of
    /// [`certificates`](Self::certificates).
    ///
    /// # Panics
    ///
    /// When nginx or openssl is missing, or it does not listen.
    #[must_use]
    #[track_caller]
    pub fn start(host_names: &[&str], location: &str) -> Self {
        let directory = TempDir::new().expect("the temporary directory can be written");
        let names: Vec<_> = host_names
            .iter()
            .map(|name| format!("DNS:{name}"))
            .collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let certificates = Certificates::new(&names);
        let port = port::unused();
        let config = configuration(directory.path(), certificates.directory(), port, location);
        let file = directory.path().join("nginx.conf");
        fs::write(&file, config).expect("the directory is ours");
        let mut command = Command::new(binary());
        command.arg("-c").arg(&file).arg("-p").arg(directory.path());
        command.args(["-e", "stderr"]);
        let process = Process::start("nginx", command);
        let listening = within(PATIENCE, || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        assert!(listening.is_some(), "nginx does not listen:\n{process}");
        Self {
            _process: process,
            _directory: directory,
            certificates,
            port,
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory with `ca.pem`, and with `certificate.pem` and `key.pem`, by which the authority vouches for whoever
    /// has them.
    #[must_use]
    pub fn certificates(&self) -> &Path {
        self.certificates.directory()
    }

    /// The certificate of the authority, which clients have to trust.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.certificates.ca()
    }
}

/// Debian has it where users other than root do not look.
fn binary() -> &'static str {
    let found = ["/usr/sbin/nginx", "/usr/bin/nginx"];
    let found = found.iter().find(|path| Path::new(path).is_file());
    found.expect("nginx is not installed: run `scripts/setup.sh test` first")
}

fn configuration(directory: &Path, certificates: &Path, port: u16, location: &str) -> String {
    let (directory, certificates) = (directory.display(), certificates.display());
    let location = location.replace("CERTIFICATES", &certificates.to_string());
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("    {kind}_temp_path {directory}/{kind};\n"))
        .collect();
    format!(
        "daemon off;\nmaster_process off;\npid {directory}/nginx.pid;\nerror_log stderr;\n\
         events {{}}\n\
         http {{\n\
         {temporary}    access_log off;\n\
             map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}\n\
             server {{\n\
                 listen {port} ssl;\n\
                 ssl_certificate {certificates}/certificate.pem;\n\
                 ssl_certificate_key {certificates}/key.pem;\n\
         {location}\n\
             }}\n\
         }}\n"
    )
}
