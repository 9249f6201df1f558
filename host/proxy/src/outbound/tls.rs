//! TLS to the origins of plugins: who vouches for a server, and the handshake.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use witgate_runtime::{Origin, SendError};

use crate::config::Authorities;

/// The authorities whose certificates count. Cheap to clone; two are equal when one was cloned from the other.
#[derive(Clone)]
pub(super) struct Trust(Arc<ClientConfig>);

impl Trust {
    /// These and no others.
    pub(super) fn only(authorities: &Authorities) -> Self {
        Self::new(authorities.roots().clone())
    }

    /// Those that the system trusts, as they were when they were first asked for.
    pub(super) fn system() -> Result<Self, String> {
        static SYSTEM: OnceLock<Trust> = OnceLock::new();
        if let Some(system) = SYSTEM.get() {
            return Ok(system.clone());
        }
        let roots = system_roots()?;
        Ok(SYSTEM.get_or_init(|| Self::new(roots)).clone())
    }

    fn new(roots: Arc<RootCertStore>) -> Self {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has the cipher suites of both versions");
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self(Arc::new(config))
    }

    /// Has the server show that it is the origin's. Whoever waits bounds the time.
    pub(super) async fn handshake(
        &self,
        origin: &Origin,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, SendError> {
        let name = ServerName::try_from(origin.host().to_owned()).map_err(|_| {
            let why = "no certificate can be for such a name";
            SendError::Certificate(format!("{origin}: {why}"))
        })?;
        let connector = TlsConnector::from(self.0.clone());
        let connected = connector.connect(name, stream).await;
        connected.map_err(|error| explain(origin, &error))
    }
}

/// The authorities that the system trusts, as they were when they were first asked for.
///
/// # Errors
///
/// When there are none, in words.
pub(crate) fn system_roots() -> Result<Arc<RootCertStore>, String> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(system) = SYSTEM.get() {
        return Ok(system.clone());
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let why = found.errors.first().map(|error| format!(" ({error})"));
        let why = why.unwrap_or_default();
        return Err(format!("the system trusts no certificate authority{why}"));
    }
    Ok(SYSTEM.get_or_init(|| Arc::new(roots)).clone())
}

fn explain(origin: &Origin, error: &io::Error) -> SendError {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(rustls::Error::InvalidCertificate(why)) => {
            SendError::Certificate(format!("{origin}: its certificate is not accepted: {why}"))
        }
        _ => SendError::Connect(format!("{origin}: no TLS: {error}")),
    }
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Trust {}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").finish_non_exhaustive()
    }
}
