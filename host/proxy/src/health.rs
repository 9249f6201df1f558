//! Active health checks: one task for each target, for all workers.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use http::{Request, StatusCode, Version, header};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::config::HealthCheck;
use crate::upstream::{OnWorker, Shared, Socket, Target, watch_names};

/// Watches what an upstream's names stand for, and starts its checks if it has any. All ends with the worker that runs
/// it, or once no generation uses the upstream any more.
pub(crate) fn watch(shared: &Arc<Shared>) {
    watch_names(shared);
    if let Some(check) = shared.config.health.clone() {
        tokio::task::spawn_local(watch_targets(Arc::downgrade(shared), check));
    }
}

/// Watches each target from when it comes up to when it goes.
async fn watch_targets(upstream: Weak<Shared>, check: HealthCheck) {
    let Some(mut targets) = upstream.upgrade().map(|shared| shared.watch_targets()) else {
        return;
    };
    let mut watched: Vec<Weak<Target>> = Vec::new();
    loop {
        watched.retain(|target| target.strong_count() > 0);
        for target in &targets.borrow_and_update().list {
            let known = Arc::downgrade(target);
            if !watched.iter().any(|other| other.ptr_eq(&known)) {
                watched.push(known.clone());
                tokio::task::spawn_local(watch_target(upstream.clone(), known, check.clone()));
            }
        }
        if targets.changed().await.is_err() {
            return;
        }
    }
}

async fn watch_target(upstream: Weak<Shared>, target: Weak<Target>, check: HealthCheck) {
    let mut clock = interval(check.interval);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let (Some(shared), Some(target)) = (upstream.upgrade(), target.upgrade()) else {
            return;
        };
        let found = match timeout(check.timeout, ask(&shared, &target, &check)).await {
            Ok(found) => found,
            Err(_) => Err(format!("no answer within {:?}", check.timeout)),
        };
        target.checked(found, &check);
    }
}

/// One check on a connection of its own. The error says what is wrong.
async fn ask(upstream: &Shared, target: &Target, check: &HealthCheck) -> Result<(), String> {
    let (socket, version) = upstream.connect(target, false).await?;
    let answered = match version {
        Version::HTTP_2 => ask_http2(upstream, target, check, socket).await,
        _ => ask_http1(target, check, socket).await,
    };
    let status = answered.map_err(|error| error.to_string())?.as_u16();
    match check
        .expect
        .iter()
        .any(|expected| expected.contains(&status))
    {
        true => Ok(()),
        false => Err(format!("status {status}")),
    }
}

type Asked = Result<StatusCode, Box<dyn std::error::Error>>;

async fn ask_http1(target: &Target, check: &HealthCheck, socket: Socket) -> Asked {
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let connection = tokio::task::spawn_local(connection);
    let request = Request::get(&*check.path)
        .header(header::HOST, &target.endpoint.authority)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let answered = sender.send_request(request).await;
    connection.abort();
    Ok(answered?.status())
}

async fn ask_http2(
    upstream: &Shared,
    target: &Target,
    check: &HealthCheck,
    socket: Socket,
) -> Asked {
    let (mut sender, connection) = http2::handshake(OnWorker, TokioIo::new(socket)).await?;
    let connection = tokio::task::spawn_local(connection);
    let scheme = match upstream.config.tls {
        Some(_) => "https",
        None => "http",
    };
    let authority = target.endpoint.authority.to_str()?;
    let request = Request::get(format!("{scheme}://{authority}{}", check.path))
        .version(Version::HTTP_2)
        .body(Empty::<Bytes>::new())?;
    let answered = sender.send_request(request).await;
    // Without it the connection ends by itself.
    drop(sender);
    connection.abort();
    Ok(answered?.status())
}
