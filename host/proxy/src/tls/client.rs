//! What a handshake told about a client.

use rustls::ProtocolVersion;
use tokio_rustls::server::TlsStream;
use witgate_runtime::Attributes;
use x509_parser::certificate::X509Certificate;
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

/// As `CN=…, O=…`.
fn subject(certificate: &[u8]) -> Option<Box<str>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut subject = certificate.subject().to_string();
    while subject.len() > LONGEST_SUBJECT {
        subject.pop();
    }
    Some(subject.into())
}
