//! TLS with clients: which certificate, which versions, who the client has to be.

pub(crate) mod acme;
mod certificate;
mod client;
mod self_signed;

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::{Authorities, Protocols};
use crate::connection::Socket;

pub(crate) use certificate::{ByName, Certificate, Unusable};
pub(crate) use client::Secured;
pub(crate) use self_signed::self_signed;

/// `tls` of a listener, ready for handshakes.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    managed: Option<Arc<acme::Managed>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is in it includes keys.
        f.write_str("Tls(…)")
    }
}

/// What `tls` says beside the certificates.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) protocols: Protocols,
    pub(crate) oldest: Oldest,
    pub(crate) clients: Clients,
}

/// `min-version`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Oldest {
    Tls12,
    Tls13,
}

/// `client-ca` and `client-auth`
#[derive(Debug)]
pub(crate) enum Clients {
    Anybody,
    /// Those that have a certificate of these authorities.
    Known(Authorities),
    /// The same, and those that have none at all.
    KnownOrNone(Authorities),
}

impl Tls {
    /// # Errors
    ///
    /// When the authorities of clients cannot be used, or the system has no randomness.
    pub(crate) fn new(certificates: ByName, settings: &Settings) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let versions = match settings.oldest {
            Oldest::Tls12 => &[&TLS13, &TLS12][..],
            Oldest::Tls13 => &[&TLS13],
        };
        let verifier = |authorities: &Authorities| {
            let roots = authorities.roots().clone();
            WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
        };
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?;
        let builder = match &settings.clients {
            Clients::Anybody => builder.with_no_client_auth(),
            Clients::Known(authorities) => {
                let verifier = verifier(authorities).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| error.to_string())?)
            }
            Clients::KnownOrNone(authorities) => {
                let verifier = verifier(authorities).allow_unauthenticated().build();
                builder.with_client_cert_verifier(verifier.map_err(|error| error.to_string())?)
            }
        };
        let managed = certificates.managed().cloned();
        let mut config = builder.with_cert_resolver(Arc::new(certificates));
        config.alpn_protocols = alpn(settings.protocols);
        if managed.is_some() {
            config.alpn_protocols.push(acme::PROTOCOL.to_vec());
        }
        // A client that comes again, to whichever worker, saves a round trip and the asymmetric part.
        config.ticketer = ring::Ticketer::new().map_err(|error| error.to_string())?;
        Ok(Self {
            config: Arc::new(config),
            managed,
        })
    }

    /// The certificate that is had by ACME.
    pub(crate) fn managed(&self) -> Option<&Arc<acme::Managed>> {
        self.managed.as_ref()
    }

    /// Shakes hands with a client.
    ///
    /// # Errors
    ///
    /// When they have nothing in common, or the client is not whom it has to be.
    pub(crate) async fn accept(&self, socket: Socket) -> io::Result<TlsStream<Socket>> {
        TlsAcceptor::from(self.config.clone()).accept(socket).await
    }
}

/// Whether a handshake was all that the client wanted: it validates a name.
pub(crate) fn is_validation(stream: &TlsStream<Socket>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(acme::PROTOCOL)
}

/// In the order in which they are preferred.
fn alpn(protocols: Protocols) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    if protocols.http2 {
        names.push(b"h2".to_vec());
    }
    if protocols.http1 {
        names.push(b"http/1.1".to_vec());
        names.push(b"http/1.0".to_vec());
    }
    names
}
