//! Active health checks: one task for each endpoint, for all workers.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::config::{Endpoint, HealthCheck};
use crate::upstream::Shared;

/// Starts the checks of an upstream, if it has any. They end with the worker that runs them, or once no generation
/// uses the upstream any more.
pub(crate) fn watch(shared: &Arc<Shared>) {
    let Some(check) = shared.config.health.clone() else {
        return;
    };
    for at in 0..shared.config.endpoints.len() {
        tokio::task::spawn_local(watch_endpoint(Arc::downgrade(shared), at, check.clone()));
    }
}

async fn watch_endpoint(upstream: Weak<Shared>, at: usize, check: HealthCheck) {
    let mut clock = interval(check.interval);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let Some(shared) = upstream.upgrade() else {
            return;
        };
        let endpoint = &shared.config.endpoints[at];
        let found = match timeout(check.timeout, ask(&shared, endpoint, &check.path)).await {
            Ok(found) => found,
            Err(_) => Err(format!("no answer within {:?}", check.timeout)),
        };
        let was = shared.healthy[at].swap(found.is_ok(), Ordering::Relaxed);
        let (upstream, authority) = (
            &*shared.name,
            endpoint.authority.to_str().unwrap_or_default(),
        );
        match (was, found) {
            (true, Err(reason)) => tracing::warn!(
                upstream,
                endpoint = authority,
                reason,
                "endpoint is unhealthy"
            ),
            (false, Ok(())) => {
                tracing::info!(upstream, endpoint = authority, "endpoint is healthy again")
            }
            (true, Ok(())) | (false, Err(_)) => {}
        }
    }
}

/// One check on a connection of its own. The error says what is wrong.
async fn ask(upstream: &Shared, endpoint: &Endpoint, path: &str) -> Result<(), String> {
    let socket = upstream.connect(endpoint).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket))
        .await
        .map_err(|e| e.to_string())?;
    let connection = tokio::task::spawn_local(connection);
    let request = Request::get(path)
        .header(header::HOST, &endpoint.authority)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| e.to_string())?;
    let answered = sender.send_request(request).await;
    connection.abort();
    match answered.map_err(|e| e.to_string())?.status() {
        status if status.is_success() || status.is_redirection() => Ok(()),
        status if status == StatusCode::SWITCHING_PROTOCOLS => Err("it switches protocols".into()),
        status => Err(format!("status {}", status.as_u16())),
    }
}
