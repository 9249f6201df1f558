//! Certificates for one test: an authority of its own, and a server that it vouches for. Made by openssl.

use std::fs;
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

/// A key, and a certificate for this name that expires in the second in which it is made, of `witgate expired`.
///
/// # Panics
///
/// When openssl is missing or fails.
#[must_use]
#[track_caller]
pub fn expired(name: &str) -> (String, String) {
    let directory = TempDir::new().expect("the temporary directory can be written");
    let openssl = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        command.current_dir(directory.path()).args(arguments);
        let ended = Process::start("openssl", command).wait(PATIENCE);
        assert!(ended.status.success(), "{}", ended.output());
    };
    let name = format!("subjectAltName=DNS:{name}");
    let subject = ["-subj", "/CN=witgate expired", "-addext", &name];
    let files = ["-nodes", "-keyout", "key.pem", "-out", "request.pem"];
    let new = [
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
    ];
    openssl(&[&new[..], &subject, &files].concat());
    let sign = ["x509", "-req", "-in", "request.pem", "-signkey", "key.pem"];
    let how = ["-days", "0", "-copy_extensions", "copyall"];
    openssl(&[&sign[..], &how, &["-out", "certificate.pem"]].concat());
    let read = |file: &str| fs::read_to_string(directory.path().join(file));
    let (key, certificate) = (read("key.pem"), read("certificate.pem"));
    (
        key.expect("openssl made it"),
        certificate.expect("openssl made it"),
    )
}
