//! TLS to upstreams: who vouches for their servers, what they are shown, and the handshake.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WantsClientCert};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{Endpoint, Protocol, UpstreamTls};
use crate::outbound::system_roots;

/// How an upstream's servers are spoken to by TLS.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    /// Offers HTTP/1.1, and nothing else.
    http1: Arc<ClientConfig>,
    /// Offers what `protocol` says.
    offering: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl Tls {
    /// # Errors
    ///
    /// When nobody would vouch for the servers, in words.
    pub(crate) fn new(tls: &UpstreamTls, protocol: Protocol) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("ring has the cipher suites of both versions");
        let builder: ConfigBuilder<ClientConfig, WantsClientCert> = match (tls.verify, &tls.ca) {
            (false, _) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))),
            (true, Some(authorities)) => {
                builder.with_root_certificates(authorities.roots().clone())
            }
            (true, None) => {
                let roots: Arc<RootCertStore> = system_roots()?;
                builder.with_root_certificates(roots)
            }
        };
        let mut config = match &tls.identity {
            Some(identity) => {
                builder.with_client_cert_resolver(Arc::new(Shown(identity.0.clone())))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut offering = config.clone();
        offering.alpn_protocols = match protocol {
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Http2 => vec![b"h2".to_vec()],
            Protocol::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        Ok(Self {
            http1: Arc::new(config),
            offering: Arc::new(offering),
            server_name: tls.server_name.clone(),
        })
    }

    /// Has the server show that it is the endpoint's. Whoever waits bounds the time.
    ///
    /// # Errors
    ///
    /// In words, for the log.
    pub(crate) async fn handshake(
        &self,
        endpoint: &Endpoint,
        http1_only: bool,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, String> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(endpoint.host())
                .map_err(|_| "no certificate can be for such a name".to_owned())?,
        };
        let config = match http1_only {
            true => &self.http1,
            false => &self.offering,
        };
        let connector = TlsConnector::from(config.clone());
        let connected = connector.connect(name, stream).await;
        connected.map_err(|error| explain(&error))
    }
}

fn explain(error: &io::Error) -> String {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(Error::InvalidCertificate(why)) => format!("its certificate is not accepted: {why}"),
        Some(Error::InvalidMessage(why)) => format!("it does not speak TLS: {why:?}"),
        Some(Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            "it speaks none of the protocols that `protocol` allows".into()
        }
        Some(Error::AlertReceived(alert)) => format!("it refuses the TLS connection: {alert:?}"),
        _ => format!("no TLS: {error}"),
    }
}

/// Shows the one certificate to every server that asks for one.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // One that cannot sign as the server wants is not shown, and the server says what it thinks of that.
        self.0.key.choose_scheme(schemes).map(|_| self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// `verify = false`: takes any certificate, as long as the server has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
