//! Reads `tls.acme` of a listener.

use std::collections::HashSet;
use std::sync::Arc;

use http::Uri;

use crate::config::authorities;
use crate::config::shape::{list, path, string, word};
use crate::config::value::Value;
use crate::config::{Item, Problem, Section};
use crate::tls::Clients;
use crate::tls::acme::{Challenge, Managed, Settings};

/// Names of one certificate; Let's Encrypt takes as many.
const MOST_DOMAINS: usize = 100;

const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

pub(super) fn read(section: &mut Section<'_>, clients: &Clients) -> Option<Arc<Managed>> {
    let domains = section.required("domains", "[\"example.com\"]", domains);
    let agreed = section.required("terms-agreed", "true", agreed);
    let storage = section.required("storage", "\"acme\"", path);
    let contact = section.default("contact", Vec::new(), list(contact));
    let directory = section.default("directory", Uri::from_static(LETS_ENCRYPT), directory);
    // Read here for what is wrong with it, and by the client of the authority when it is used.
    let ca = section.optional("ca", |item| {
        authorities::read(item).and_then(|_| path(item))
    });
    let challenge = section.default("challenge", Challenge::TlsAlpn01, |item| {
        word(&[
            ("tls-alpn-01", Challenge::TlsAlpn01),
            ("http-01", Challenge::Http01),
        ])(item)
    });
    if challenge == Challenge::TlsAlpn01 && matches!(clients, Clients::Known(_)) {
        let message = "who validates by `tls-alpn-01` has no certificate that `client-ca` wants";
        let problem = Problem::error(section.location(), section.path(), message);
        let help = "set `challenge = \"http-01\"`, answered by the listeners without `tls`";
        section.reader().report(problem.with_help(help));
        return None;
    }
    agreed?;
    let settings = Settings {
        domains: domains?,
        directory,
        contact,
        storage: storage?,
        ca,
        challenge,
    };
    if section.has("ca") && settings.ca.is_none() {
        return None;
    }
    let (managed, read) = Managed::of(settings);
    if let Err(why) = read {
        let message = format!("what is stored cannot be used, and will be had anew: {why}");
        let problem = Problem::warning(section.location(), section.path(), message);
        section.reader().report(problem);
    }
    Some(managed)
}

fn domains(item: &Item<'_>) -> Option<Vec<String>> {
    let mut seen = HashSet::new();
    let mut domains = list(domain)(item)?;
    domains.retain(|domain| seen.insert(domain.clone()));
    match domains.len() {
        0 => item.reject(
            "a certificate for no name",
            "name what it is for: [\"example.com\"]",
        ),
        1..=MOST_DOMAINS => Some(domains),
        _ => item.reject(
            format!("a certificate is for at most {MOST_DOMAINS} names"),
            "use another listener for the rest, or a certificate with a wildcard from elsewhere",
        ),
    }
}

fn domain(item: &Item<'_>) -> Option<String> {
    let text = item.text("a name, such as \"example.com\"")?;
    if text.starts_with("*.") {
        return item.reject(
            "a wildcard is only given to who can change the zone (`dns-01`), which witgate cannot",
            "name each host, or have the certificate by another program and use `certificates`",
        );
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    // A last label of digits would make it an address.
    let is_name = text.contains('.')
        && text.len() <= 253
        && text.split('.').all(is_label)
        && text
            .bytes()
            .last()
            .is_some_and(|byte| byte.is_ascii_alphabetic());
    match is_name {
        true => Some(text.to_ascii_lowercase()),
        false => item.reject(
            format!(
                "{} is no name that a public certificate can be for",
                item.shown()
            ),
            "write a whole domain name, in Punycode if need be: \"www.example.com\"",
        ),
    }
}

fn agreed(item: &Item<'_>) -> Option<()> {
    match item.value() {
        Value::Boolean(true) => Some(()),
        Value::Boolean(false) => item.reject(
            "without that, no authority gives a certificate",
            "read its terms (Let's Encrypt: https://letsencrypt.org/repository/), then set `true`",
        ),
        _ => item.mismatch("`true`"),
    }
}

fn contact(item: &Item<'_>) -> Option<String> {
    let text = string(item)?;
    match text.starts_with("mailto:") && text.contains('@') {
        true => Some(text),
        false => item.reject(
            format!("{} is no contact", item.shown()),
            "write \"mailto:you@example.com\"",
        ),
    }
}

fn directory(item: &Item<'_>) -> Option<Uri> {
    let text = item.text("a URL")?;
    let uri = text.parse::<Uri>().ok();
    let uri = uri.filter(|uri| uri.scheme_str() == Some("https") && uri.host().is_some());
    uri.or_else(|| {
        item.reject(
            format!("{} is no URL of a directory", item.shown()),
            format!("write the authority's: \"{LETS_ENCRYPT}\""),
        )
    })
}
