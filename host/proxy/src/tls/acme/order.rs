//! One order: the names are shown to be ours, and the certificate is had.

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationHandle, AuthorizationStatus, ChallengeType, Error, Identifier,
    KeyAuthorization, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use tokio::time::timeout;

use super::{Challenge, Managed};
use crate::tls::Certificate;

/// How long an authority may take for all of it.
const WHOLE: Duration = Duration::from_secs(300);

/// How long one may take to look at the challenges, or to sign, and how often it is asked.
const POLLING: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(120));

/// How an order failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// The authority could not be asked; it has counted nothing.
    Unasked(String),
    /// It did not give the certificate. It counts such failures, and asks to wait.
    Refused(String),
}

/// Takes what validators were to be shown away, however the order ends.
struct Expecting<'a>(&'a Managed);

impl Drop for Expecting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.change();
        state.handshakes.clear();
        state.answers.clear();
    }
}

/// Has a certificate, and stores it.
pub(super) async fn order(managed: &Managed) -> Result<Certificate, Failed> {
    let late = || format!("the authority took over {WHOLE:?}");
    let account = timeout(WHOLE, account(managed)).await;
    let account = account.map_err(|_| Failed::Unasked(late()))??;
    let ordered = timeout(WHOLE, with(&account, managed)).await;
    // There may be an order by then, which is counted.
    let (key, chain) = ordered.map_err(|_| Failed::Refused(late()))??;
    let certificate = Certificate::from_pem(&chain, &key);
    let certificate = certificate.map_err(|unusable| {
        Failed::Refused(format!(
            "what the authority gave cannot be used: {unusable:?}"
        ))
    })?;
    // One that cannot be stored would be had again at each start, until the authority has enough.
    let stored = managed.storage.keep_certificate(&key, &chain);
    stored.map_err(Failed::Refused)?;
    Ok(certificate)
}

async fn account(managed: &Managed) -> Result<Account, Failed> {
    let (settings, storage) = (&managed.settings, &managed.storage);
    let builder = match &settings.ca {
        Some(ca) => Account::builder_with_root(ca),
        None => Account::builder(),
    };
    let unasked = |error| Failed::Unasked(in_words(error));
    let builder = builder.map_err(unasked)?;
    if let Some(stored) = storage.account().map_err(Failed::Unasked)? {
        return builder.from_credentials(stored).await.map_err(unasked);
    }
    let contact: Vec<_> = settings.contact.iter().map(String::as_str).collect();
    let new = NewAccount {
        contact: &contact,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let directory = settings.directory.to_string();
    let made = builder.create(&new, directory, None).await;
    let (account, credentials) = made.map_err(|error| match matches!(error, Error::Api(_)) {
        true => refused(error),
        false => unasked(error),
    })?;
    // One that cannot be stored would be made again each time, until the authority has enough.
    let stored = storage.keep_account(&credentials);
    stored.map_err(Failed::Refused)?;
    Ok(account)
}

/// The key and the chain, in PEM.
async fn with(account: &Account, managed: &Managed) -> Result<(String, String), Failed> {
    let domains = &managed.settings.domains;
    let names: Vec<_> = domains.iter().cloned().map(Identifier::Dns).collect();
    let order = account.new_order(&NewOrder::new(&names)).await;
    let mut order = order.map_err(|error| not_ordered(error, managed))?;
    let _expecting = Expecting(managed);
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let shown = show(authorization.map_err(refused)?, managed).await;
        shown.map_err(Failed::Refused)?;
    }
    let doubt = match order.poll_ready(&POLLING).await {
        Ok(OrderStatus::Ready | OrderStatus::Valid) => None,
        Ok(_) => Some("the authority was not convinced, and does not say why".into()),
        Err(error) => Some(in_words(error)),
    };
    if let Some(why) = doubt {
        let why = why_not_convinced(&mut order).await.unwrap_or(why);
        return Err(Failed::Refused(why));
    }
    let key = order.finalize().await.map_err(refused)?;
    let chain = order.poll_certificate(&POLLING).await.map_err(refused)?;
    Ok((key, chain))
}

/// Has one name's validator look.
async fn show(mut authorization: AuthorizationHandle<'_>, managed: &Managed) -> Result<(), String> {
    if authorization.status == AuthorizationStatus::Valid {
        return Ok(());
    }
    let kind = match managed.settings.challenge {
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        Challenge::Http01 => ChallengeType::Http01,
    };
    let Some(mut challenge) = authorization.challenge(kind) else {
        return Err("the authority does not offer the `challenge`".into());
    };
    let authorization = challenge.key_authorization();
    match managed.settings.challenge {
        Challenge::Http01 => {
            let (token, answer) = (challenge.token.clone(), authorization.as_str().to_owned());
            managed.change().answers.insert(token, answer);
        }
        Challenge::TlsAlpn01 => {
            let name = challenge.identifier().to_string().to_ascii_lowercase();
            let proof = proof(&name, &authorization)?;
            managed.change().handshakes.insert(name, Arc::new(proof));
        }
    }
    challenge.set_ready().await.map_err(in_words)
}

/// RFC 8737 §3: a certificate of our own with the digest in it.
fn proof(name: &str, authorization: &KeyAuthorization) -> Result<CertifiedKey, String> {
    let made = || {
        let mut params = CertificateParams::new([name.to_owned()])?;
        let digest = authorization.digest();
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok((certificate.der().clone(), key.serialize_der()))
    };
    let (certificate, key) = made().map_err(|error: rcgen::Error| error.to_string())?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key));
    // Not compared with its certificate, whose critical extension only a validator knows.
    let key = ring::default_provider().key_provider.load_private_key(key);
    let key = key.map_err(|error| error.to_string())?;
    Ok(CertifiedKey::new(vec![certificate], key))
}

/// What the authority says of the names that it was not convinced of.
async fn why_not_convinced(order: &mut Order) -> Option<String> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else {
            continue;
        };
        let name = authorization.identifier().to_string();
        let Ok(now) = authorization.refresh().await else {
            continue;
        };
        if let Some(problem) = now.challenges.iter().find_map(|one| one.error.as_ref()) {
            return Some(format!("{name}: {problem}"));
        }
    }
    None
}

fn refused(error: Error) -> Failed {
    Failed::Refused(in_words(error))
}

/// An authority that has lost the account gets a new one at the next attempt.
fn not_ordered(error: Error, managed: &Managed) -> Failed {
    let is_lost = matches!(&error, Error::Api(problem)
        if problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:accountDoesNotExist"));
    match is_lost.then(|| managed.storage.forget_account()) {
        Some(Ok(())) => Failed::Unasked(in_words(error)),
        Some(Err(why)) => Failed::Refused(why),
        None => refused(error),
    }
}

/// An error with what is behind it.
fn in_words(error: Error) -> String {
    let mut words = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        let cause_words = cause.to_string();
        if !words.contains(&cause_words) {
            words = format!("{words}: {cause_words}");
        }
        source = cause.source();
    }
    words
}
