//! What answers the requests of a plugin in place of a network.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use witgate_runtime::{HttpClient, HttpGrant, Origin, Scheme, SendError, Sending};

/// Longer than any test waits, so that none fails because a machine is busy.
const PATIENT: Duration = Duration::from_secs(60);

struct Script<F>(F);

pub(crate) fn grant(
    origins: &[&str],
    answer: impl Fn(&Request<Bytes>) -> Result<Response<Bytes>, SendError> + Send + Sync + 'static,
) -> HttpGrant {
    let origin = |text: &&str| {
        let (scheme, authority) = text.split_once("://").unwrap_or(("", text));
        let origin = Scheme::parse(scheme).and_then(|scheme| Origin::parse(scheme, authority));
        origin.unwrap_or_else(|| panic!("{text:?} is no origin; write `http://host:port`"))
    };
    HttpGrant {
        client: Arc::new(Script(answer)),
        origins: origins.iter().map(origin).collect(),
        timeout: PATIENT,
        body_size: 1 << 20,
        concurrency: 16,
    }
}

impl<F> HttpClient for Script<F>
where
    F: Fn(&Request<Bytes>) -> Result<Response<Bytes>, SendError> + Send + Sync,
{
    fn send(&self, origin: Origin, mut request: Request<Bytes>, body_size: usize) -> Sending {
        request.extensions_mut().insert(origin.scheme());
        let answer =
            (self.0)(&request).and_then(|response| match response.body().len() <= body_size {
                true => Ok(response),
                false => Err(SendError::TooLarge),
            });
        Box::pin(std::future::ready(answer))
    }
}

impl<F> fmt::Debug for Script<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}
