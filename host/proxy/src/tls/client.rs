//! What a handshake told about a client.

use rustls::ProtocolVersion;
use tokio_rustls::server::TlsStream;
use witgate_runtime::Attributes;
use x509_parser::certificate::X509Certificate;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::FromDer;

use crate::connection::Socket;

/// Bytes of a subject that are told; RFC 5280 lets each of its parts have 64 characters and more.
const LONGEST_SUBJECT: usize = 512;

/// What a handshake told about a client, for the log and for plugins.
#[derive(Debug, Clone)]
pub(crate) struct Secured {
    version: &'static str,
    server_name: Option<Box<str>>,
    /// Of the client's certificate, which was checked.
    client_subject: Option<Box<str>>,
}

impl Secured {
    pub(crate) fn of(stream: &TlsStream<Socket>) -> Self {
        let (_, session) = stream.get_ref();
        let certificates = session.peer_certificates().unwrap_or_default();
        Self {
            version: match session.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "1.3",
                _ => "1.2",
            },
            server_name: session.server_name().map(Into::into),
            client_subject: certificates.first().and_then(|first| subject(first)),
        }
    }

    /// Notes it as if a plugin called `tls` had.
    pub(crate) fn note(&self, attributes: &Attributes) {
        let notes = [
            ("version", Some(self.version)),
            ("server-name", self.server_name.as_deref()),
            ("client-subject", self.client_subject.as_deref()),
        ];
        for (note, value) in notes {
            if let Some(value) = value
                && let Err(error) = attributes.leave("tls", note, value)
            {
                tracing::debug!(note, error, "a note about TLS is not taken");
            }
        }
    }
}

/// As `CN=…, O=…`, with what divides it escaped as in RFC 4514 §2.4, so that no name can look like two. `None` when it is
/// too long or no text: half of it could be that of somebody else.
fn subject(certificate: &[u8]) -> Option<Box<str>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut subject = String::new();
    for set in certificate.subject().iter_rdn() {
        for (nth, attribute) in set.iter().enumerate() {
            if !subject.is_empty() {
                subject.push_str(if nth == 0 { ", " } else { " + " });
            }
            match oid2abbrev(attribute.attr_type(), oid_registry()) {
                Ok(name) => subject.push_str(name),
                Err(_) => subject.push_str(&attribute.attr_type().to_id_string()),
            }
            subject.push('=');
            push_escaped(&mut subject, attribute.as_str().ok()?);
        }
    }
    (subject.len() <= LONGEST_SUBJECT).then(|| subject.into())
}

fn push_escaped(subject: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (at, character) in value.chars().enumerate() {
        match character {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' => subject.extend(['\\', character]),
            ' ' if at == 0 || at == last => subject.push_str("\\ "),
            '#' if at == 0 => subject.push_str("\\#"),
            '\0'..='\x1f' | '\x7f' => subject.push_str(&format!("\\{:02X}", character as u32)),
            other => subject.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn subject_of(names: &[(DnType, &str)]) -> Option<Box<str>> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, name) in names {
            params.distinguished_name.push(kind.clone(), *name);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        subject(certificate.der())
    }

    #[test]
    fn no_name_looks_like_two() {
        let two = [
            (DnType::CommonName, "a"),
            (DnType::OrganizationName, "Admins"),
        ];
        assert_eq!(subject_of(&two).as_deref(), Some("CN=a, O=Admins"));
        let one = [(DnType::CommonName, "a, O=Admins")];
        assert_eq!(subject_of(&one).as_deref(), Some("CN=a\\, O\\=Admins"));
        let odd = [(DnType::CommonName, " #a\n+ ")];
        assert_eq!(subject_of(&odd).as_deref(), Some("CN=\\ #a\\0A\\+\\ "));
        let long = "a".repeat(LONGEST_SUBJECT);
        assert_eq!(subject_of(&[(DnType::CommonName, &long)]), None);
    }
}
