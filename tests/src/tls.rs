//! Certificates for one test: an authority of its own, and a server that it vouches for. Made by openssl.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::Process;
use crate::wait::PATIENCE;

/// An authority's certificate, and a server's certificate and key. Gone with this.
#[derive(Debug)]
pub struct Certificates(TempDir);

const NEW_KEY: [&str; 9] = [
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
    "-days",
    "2",
];

impl Certificates {
    /// For a server of these names, each `DNS:…` or `IP:…`.
    ///
    /// # Panics
    ///
    /// When openssl is missing or fails.
    #[must_use]
    #[track_caller]
    pub fn new(names: &[&str]) -> Self {
        let this = Self(TempDir::new().expect("the temporary directory can be written"));
        this.openssl(&[
            "-subj",
            "/CN=witgate test authority",
            "-keyout",
            "ca-key.pem",
            "-out",
            "ca.pem",
        ]);
        let names = format!("subjectAltName={}", names.join(","));
        this.openssl(&[
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca-key.pem",
            "-subj",
            "/CN=witgate test",
            "-addext",
            "basicConstraints=CA:FALSE",
            "-addext",
            &names,
            "-keyout",
            "key.pem",
            "-out",
            "certificate.pem",
        ]);
        this
    }

    /// Where they are: `ca.pem`, `certificate.pem` and `key.pem`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.0.path()
    }

    /// The authority's certificate, which clients have to trust.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.directory().join("ca.pem")
    }

    #[track_caller]
    fn openssl(&self, arguments: &[&str]) {
        let mut command = Command::new("openssl");
        command.current_dir(self.directory());
        command.args(NEW_KEY).args(arguments);
        let ended = Process::start("openssl", command).wait(PATIENCE);
        assert!(ended.status.success(), "{}", ended.output());
    }
}
