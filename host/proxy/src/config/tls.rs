//! Reads `tls` of a listener: certificates are read and checked here, so that a pair that cannot be used is a mistake on
//! its line, at the start as at every reload.

mod acme;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::interpolate::{looked_at, read_text};
use super::model::Protocols;
use super::shape::{Located, list, located, path, string, table, word};
use super::value::Value;
use super::{Item, Problem, Section, authorities};
use crate::tls::{ByName, Certificate, Clients, Oldest, Settings, Tls, Unusable, self_signed};

/// A chain of certificates takes some thousand bytes.
const LARGEST_FILE: u64 = 1 << 20;

/// What a development certificate is for, unless names are given.
const HERE: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

pub(super) fn read(section: &mut Section<'_>, protocols: Protocols) -> Option<Tls> {
    let certificates = section.optional("certificates", located(list(table(pair))));
    let self_made = section.optional("self-signed", located(self_made));
    let oldest = section.default(
        "min-version",
        Oldest::Tls12,
        word(&[("1.2", Oldest::Tls12), ("1.3", Oldest::Tls13)]),
    );
    let authorities = section.optional("client-ca", authorities::read);
    let required = word(&[("require", true), ("request", false)]);
    let required = section.optional("client-auth", located(required));
    let clients = match (authorities, required) {
        (None, None) => Clients::Anybody,
        (None, Some(required)) if !section.has("client-ca") => {
            let message = "there is nobody to vouch for clients";
            let problem = Problem::error(required.location, &required.path, message);
            let help = "add `client-ca = \"ca.pem\"`, the certificates of those who do";
            section.reader().report(problem.with_help(help));
            return None;
        }
        (None, Some(_)) => return None,
        (Some(ca), Some(Located { value: false, .. })) => Clients::KnownOrNone(ca),
        (Some(ca), _) => Clients::Known(ca),
    };
    let managed = section.optional("acme", table(|section| acme::read(section, &clients)));
    let certificates = match managed {
        None if section.has("acme") => return None,
        Some(_) if certificates.is_none() && self_made.is_none() => Vec::new(),
        _ => choose(section, certificates, self_made)?,
    };
    let settings = Settings {
        protocols,
        oldest,
        clients,
    };
    let by_name = ByName::new(&certificates, managed)?;
    match Tls::new(by_name, &settings) {
        Ok(tls) => Some(tls),
        Err(why) => {
            let message = format!("TLS cannot be set up: {why}");
            let problem = Problem::error(section.location(), section.path(), message);
            section.reader().report(problem);
            None
        }
    }
}

type Given<T> = Option<Located<T>>;

/// One of both, which is not empty.
fn choose(
    section: &Section<'_>,
    certificates: Given<Vec<Certificate>>,
    self_made: Given<Option<Certificate>>,
) -> Option<Vec<Certificate>> {
    let report = |location, path: &str, message: &str, help: &str| {
        let problem = Problem::error(location, path, message);
        section.reader().report(problem.with_help(help));
        None
    };
    match (certificates, self_made) {
        (
            Some(_),
            Some(Located {
                value: Some(_),
                location,
                path,
            }),
        ) => report(
            location,
            &path,
            "there are certificates, so none has to be made",
            "remove `self-signed`, which is for development, or `certificates`",
        ),
        (
            _,
            Some(Located {
                value: Some(certificate),
                ..
            }),
        ) => Some(vec![certificate]),
        (Some(certificates), _) if certificates.value.is_empty() => {
            match section.reader().has_errors() {
                // Perhaps of each certificate.
                true => None,
                false => report(
                    certificates.location,
                    &certificates.path,
                    "there is no certificate to show to clients",
                    "add one: [{ cert = \"certificate.pem\", key = \"key.pem\" }]",
                ),
            }
        }
        (Some(certificates), _) => Some(certificates.value),
        (None, _)
            if section.has("certificates")
                || section.has("self-signed") && section.reader().has_errors() =>
        {
            None
        }
        (None, _) => report(
            section.location(),
            section.path(),
            "there is no certificate to show to clients",
            "add `certificates = [{ cert = \"certificate.pem\", key = \"key.pem\" }]`, `acme = { domains = [\"example.com\"], … }`, or `self-signed = true` for development",
        ),
    }
}

/// One of `certificates`.
fn pair(section: &mut Section<'_>) -> Option<Certificate> {
    let certificate = section.required("cert", "\"certificate.pem\"", File::read);
    let key = section.required("key", "\"key.pem\"", File::read);
    let (certificate, key) = (certificate?, key?);
    key.warn_if_readable_by_all(section);
    let pair = match Certificate::from_pem(&certificate.text, &key.text) {
        Ok(pair) => pair,
        Err(unusable) => {
            let (file, why) = match unusable {
                Unusable::Certificate(why) => (&certificate, why),
                Unusable::Key(why) => (&key, why),
            };
            section.reader().report(file.problem(&why));
            return None;
        }
    };
    if let Some(doubt) = pair.doubt() {
        let Located { location, path, .. } = &certificate.shown;
        let problem = Problem::warning(location.clone(), path, doubt);
        section.reader().report(problem);
    }
    Some(pair)
}

/// A file in PEM, watched as those are that hold secrets.
struct File {
    text: String,
    path: std::path::PathBuf,
    /// As it stands in the configuration.
    shown: Located<String>,
}

impl File {
    fn read(item: &Item<'_>) -> Option<Self> {
        let path = path(item)?;
        item.reader().watch(path.clone());
        match read_text(&path, LARGEST_FILE) {
            Ok(text) => Some(Self {
                text,
                path,
                shown: Located {
                    value: item.shown(),
                    location: item.location(),
                    path: item.path().to_owned(),
                },
            }),
            Err(error) => item.reject(
                format!("cannot read {}: {error}", item.shown()),
                format!("name a file in PEM; {}", looked_at(&path)),
            ),
        }
    }

    fn problem(&self, why: &str) -> Problem {
        let Located {
            value,
            location,
            path,
        } = &self.shown;
        let message = format!("cannot use {value}: {why}");
        Problem::error(location.clone(), path, message).with_help(looked_at(&self.path))
    }

    fn warn_if_readable_by_all(&self, section: &Section<'_>) {
        if is_readable_by_all(&self.path) {
            let Located {
                value,
                location,
                path,
            } = &self.shown;
            let message = format!("everybody on this machine can read the key {value}");
            let problem = Problem::warning(location.clone(), path, message);
            section
                .reader()
                .report(problem.with_help("chmod 600, and think of a new key"));
        }
    }
}

fn is_readable_by_all(path: &Path) -> bool {
    const READ_BY_OTHERS: u32 = 0o004;
    let metadata = std::fs::metadata(path);
    metadata.is_ok_and(|metadata| metadata.permissions().mode() & READ_BY_OTHERS != 0)
}

/// `true`, `false` or a list of names.
fn self_made(item: &Item<'_>) -> Option<Option<Certificate>> {
    let names = match item.value() {
        Value::Boolean(false) => return Some(None),
        Value::Boolean(true) => HERE.map(String::from).to_vec(),
        _ if item.is_list() => list(string)(item)?,
        _ => return item.mismatch("`true` or a list of names"),
    };
    if names.is_empty() {
        return item.reject(
            "a certificate for no name",
            "write `true`, or the names that it is for",
        );
    }
    match self_signed(&names) {
        Ok(certificate) => Some(Some(certificate)),
        Err(why) => item.reject(
            format!("no certificate can be made: {why}"),
            "write names and addresses: [\"dev.example\", \"127.0.0.1\"]",
        ),
    }
}
