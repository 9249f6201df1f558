//! Reads `tls` of `[upstream.NAME]`.

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;

use super::model::{Identity, UpstreamTls};
use crate::config::interpolate::{looked_at, read_text};
use crate::config::shape::{boolean, path, table};
use crate::config::{Item, Problem, Section, authorities};

/// A chain of certificates, or a key, is a few kilobytes.
const LARGEST_FILE: u64 = 256 << 10;

/// `encrypted`: whether the endpoints are `https`. Without the table the defaults hold for them.
pub(super) fn read(section: &mut Section<'_>, encrypted: bool) -> Option<UpstreamTls> {
    let Some(item) = section.item("tls") else {
        return encrypted.then(|| UpstreamTls {
            verify: true,
            ..UpstreamTls::default()
        });
    };
    if !encrypted {
        return item.reject(
            "`tls` is of no use to endpoints that are not https",
            "write the endpoints as \"https://host:port\", or remove `tls`",
        );
    }
    table(read_table)(&item)
}

fn read_table(section: &mut Section<'_>) -> Option<UpstreamTls> {
    let ca = section.optional("ca", authorities::read);
    let identity = read_identity(section);
    let server_name = section.optional("server-name", server_name);
    let verify = section.optional("verify", |item| Some((boolean(item)?, item.location())));
    if let Some((false, location)) = &verify {
        let message =
            "whoever stands between witgate and this upstream can read and change everything";
        let problem = Problem::warning(
            location.clone(),
            format!("{}.verify", section.path()),
            message,
        );
        section
            .reader()
            .report(problem.with_help("name the file of its authority instead: ca = \"ca.pem\""));
    }
    Some(UpstreamTls {
        ca,
        identity,
        server_name,
        verify: verify.is_none_or(|(verify, _)| verify),
    })
}

fn server_name(item: &Item<'_>) -> Option<ServerName<'static>> {
    let text = item.text("the name of a server, such as \"origin.example.com\"")?;
    match ServerName::try_from(text.to_owned()) {
        Ok(name) => Some(name),
        Err(_) => item.reject(
            format!("{} is no name of a server", item.shown()),
            "write a host name or an address, without scheme and port",
        ),
    }
}

fn read_identity(section: &mut Section<'_>) -> Option<Identity> {
    let (chain, key) = match (section.item("certificate"), section.item("key")) {
        (None, None) => return None,
        (Some(chain), Some(key)) => (chain, key),
        (Some(alone), None) => {
            return alone.reject(
                "a certificate without its key",
                "add `key = \"client.key\"`",
            );
        }
        (None, Some(alone)) => {
            return alone.reject(
                "a key without its certificate",
                "add `certificate = \"client.pem\"`",
            );
        }
    };
    // Both are read, so that what is wrong with either is said.
    let (certificates, private) = (certificates(&chain), private_key(&key));
    match CertifiedKey::from_der(certificates?, private?, &ring::default_provider()) {
        Ok(pair) => Some(Identity(pair.into())),
        Err(error) => {
            let message = format!("the key does not go with the certificate: {error}");
            let problem = key.problem(message);
            key.reader().report(
                problem
                    .with_help("name the key that the certificate was made for")
                    .with_related(chain.location(), "the certificate"),
            );
            None
        }
    }
}

fn certificates(item: &Item<'_>) -> Option<Vec<CertificateDer<'static>>> {
    read_pem(item, "certificates", |pem| {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        match all {
            Ok(none) if none.is_empty() => Err("there is no certificate in it".into()),
            all => all.map_err(|error| error.to_string()),
        }
    })
}

fn private_key(item: &Item<'_>) -> Option<PrivateKeyDer<'static>> {
    // The words of rustls show nothing of what the file holds.
    read_pem(item, "a private key", |pem| {
        PrivateKeyDer::from_pem_slice(pem).map_err(|error| error.to_string())
    })
}

/// What a file in PEM holds. It is watched, as one that holds a secret is.
fn read_pem<T>(
    item: &Item<'_>,
    what: &str,
    parse: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Option<T> {
    let path = path(item)?;
    item.reader().watch(path.clone());
    let text = read_text(&path, LARGEST_FILE).map_err(|error| error.to_string());
    match text.and_then(|text| parse(text.as_bytes())) {
        Ok(parsed) => Some(parsed),
        Err(why) => {
            let problem = item.problem(format!("cannot use {}: {why}", item.shown()));
            item.reader().report(match item.is_interpolated() {
                true => problem.with_help("correct what the reference stands for"),
                false => problem.with_help(format!(
                    "name a file with {what} in PEM; {}",
                    looked_at(&path)
                )),
            });
            None
        }
    }
}
