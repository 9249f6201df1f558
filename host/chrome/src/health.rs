//! Whether Chromium still does what clients want of it: opens a page and runs a script in it.
//!
//! ```text
//! every interval: connect ─ create a hidden target ─ attach ─ navigate ─ evaluate ─ close    each within the timeout
//! ```
//!
//! A browser whose `/json/version` answers may be of no use all the same: while one attached client does not let new
//! targets go on (`waitForDebuggerOnStart`, in a client that is stopped or gone without a word), nobody gets a page.
//! Hence the probe goes the way of a client, navigation included: scripts run on the `about:blank` that every page
//! starts from even while no page gets any further. Its target is in no tab strip, takes no focus, and ends with the
//! connection whatever happens; no tab is attached to. It shares nothing with a harvest but the browser.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chromiumoxide::cdp::browser_protocol::page::NavigateParams;
use chromiumoxide::cdp::browser_protocol::target::{
    AttachToTargetParams, CloseTargetParams, CreateTargetParams,
};
use chromiumoxide::cdp::js_protocol::runtime::EvaluateParams;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use crate::cdp::{self, CdpError, Client};

/// A page that comes from nowhere.
const PAGE: &str = "data:text/html,";

/// How often it is looked whether this process itself keeps time while a probe is under way.
const PULSE: Duration = Duration::from_millis(200);

/// How much later than due this process may run for a failed probe to count. One that was stopped, or waits for a
/// processor this long, has learnt about itself and not about the browser.
const LATE: Duration = Duration::from_secs(1);

/// When a browser that runs is taken to be of no use any more, and started anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthConfig {
    /// The wait between two probes. Default 15 s.
    pub interval: Duration,
    /// Limit on each of a probe's six steps. Default 10 s.
    pub timeout: Duration,
    /// How many probes in a row have to fail. Default 4: with the other defaults a browser that hangs is given up 85 to
    /// 100 s after it began to, which leaves time for the proxy to cut off a client that holds it up.
    pub failures: u32,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(15),
            timeout: Duration::from_secs(10),
            failures: 4,
        }
    }
}

/// What has happened to a supervised browser, since its supervisor was made. Readable at any time, from any thread.
#[derive(Debug, Default)]
pub struct Counters {
    restarts: AtomicU64,
    probes: AtomicU64,
    probe_failures: AtomicU64,
}

impl Counters {
    /// How often the browser was started again, for whatever reason.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// How many probes ended, failed ones included.
    pub fn probes(&self) -> u64 {
        self.probes.load(Ordering::Relaxed)
    }

    /// How many probes failed.
    pub fn probe_failures(&self) -> u64 {
        self.probe_failures.load(Ordering::Relaxed)
    }

    pub(crate) fn count_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }
}

/// A page could not be opened or did not run a script.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error(transparent)]
    Cdp(#[from] CdpError),
    #[error("a page does not load: {0}")]
    NotLoaded(String),
    #[error("a page that was loaded is not the one that was asked for")]
    WrongPage,
}

/// Probes the browser whose WebSocket is at `path` until so many probes in a row have failed; gives the reason, for
/// people.
pub(crate) async fn until_unhealthy(
    config: &HealthConfig,
    address: SocketAddr,
    path: &str,
    counters: &Counters,
) -> String {
    let mut failed = 0;
    loop {
        sleep(config.interval).await;
        let (result, in_time) = keeping_time(probe(address, path, config.timeout), LATE).await;
        counters.probes.fetch_add(1, Ordering::Relaxed);
        match result {
            Ok(()) if failed > 0 => {
                info!(failed, "chromium opens pages again");
                failed = 0;
            }
            Ok(()) => {}
            Err(error) if !in_time => {
                debug!(%error, "a probe failed while this process itself was held up: it does not count");
            }
            Err(error) => {
                counters.probe_failures.fetch_add(1, Ordering::Relaxed);
                failed += 1;
                if failed >= config.failures {
                    return format!(
                        "chromium opens no pages any more: {failed} probes in a row failed, the last with: {error}"
                    );
                }
                warn!(%error, failed, of = config.failures, "chromium opens no page");
            }
        }
    }
}

/// Goes the way of a client, each step within `limit`.
async fn probe(address: SocketAddr, path: &str, limit: Duration) -> Result<(), ProbeError> {
    let mut client = Client::connect(address, path, limit, cdp::ignore).await?;
    let create = CreateTargetParams::builder()
        .url("about:blank")
        .hidden(true)
        .background(true)
        .build()
        .expect("the one required field, the url, is set");
    let target = client.call(None, create).await?.target_id;
    let attach = AttachToTargetParams::builder()
        .target_id(target.clone())
        .flatten(true)
        .build()
        .expect("the one required field, the target, is set");
    let session = client.call(None, attach).await?.session_id;
    let session = Some(&session);
    let navigated = client.call(session, NavigateParams::new(PAGE)).await?;
    if let Some(error) = navigated.error_text {
        return Err(ProbeError::NotLoaded(error));
    }
    // Right as soon as the navigation is answered, before anything of the document is read.
    let scheme = EvaluateParams::new("location.protocol");
    let scheme = client.call(session, scheme).await?.result.value;
    if scheme != Some("data:".into()) {
        return Err(ProbeError::WrongPage);
    }
    client.call(None, CloseTargetParams::new(target)).await?;
    Ok(())
}

/// Does `work`, and tells whether this process was never later than `allowance` meanwhile.
async fn keeping_time<T>(work: impl Future<Output = T>, allowance: Duration) -> (T, bool) {
    let mut in_time = true;
    let mut last = Instant::now();
    let done = {
        let pulse = async {
            loop {
                sleep(PULSE).await;
                in_time &= last.elapsed() <= PULSE + allowance;
                last = Instant::now();
            }
        };
        tokio::select! {
            done = work => done,
            () = pulse => unreachable!("the pulse never ends"),
        }
    };
    // Both may have become due at once, after a pause of the whole process.
    (done, in_time && last.elapsed() <= PULSE + allowance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_tungstenite::tokio::accept_async;
    use async_tungstenite::tungstenite::Message;
    use futures_util::StreamExt;
    use serde_json::{Value, json};
    use tokio::net::{TcpListener, TcpStream};

    /// Long enough for a machine that does nine other things.
    const LIMIT: Duration = Duration::from_secs(20);

    /// A browser that goes along up to, and not including, the method `until`.
    async fn browser(until: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, until));
            }
        });
        address
    }

    async fn answer(stream: TcpStream, until: &'static str) {
        if until == "the handshake" {
            let _open = stream;
            return std::future::pending().await;
        }
        let mut socket = accept_async(stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            let Message::Text(text) = message else {
                continue;
            };
            let command: Value = serde_json::from_str(&text).unwrap();
            let method = command["method"].as_str().unwrap();
            if method == until {
                continue;
            }
            let result = match method {
                "Target.createTarget" => json!({"targetId": "T"}),
                "Target.attachToTarget" => json!({"sessionId": "S"}),
                "Page.navigate" => json!({"frameId": "F"}),
                "Runtime.evaluate" => json!({"result": {"type": "string", "value": "data:"}}),
                "Target.closeTarget" => json!({"success": true}),
                other => panic!("{other}"),
            };
            let answer = json!({"id": command["id"], "result": result}).to_string();
            socket.send(Message::Text(answer.into())).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_browser_that_answers_every_step_is_healthy() {
        probe(browser("never").await, "/devtools/browser/G", LIMIT)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn each_step_of_a_probe_has_its_limit_and_its_name() {
        for step in [
            "the handshake",
            "Target.createTarget",
            "Target.attachToTarget",
            "Page.navigate",
            "Runtime.evaluate",
            "Target.closeTarget",
        ] {
            let hanging = browser(step).await;
            let limit = Duration::from_millis(300);
            let error = probe(hanging, "/devtools/browser/G", limit)
                .await
                .unwrap_err()
                .to_string();
            assert!(error.contains("within 300ms"), "{step}: {error}");
            // A loaded machine may hang where the fake does not; it then names another step, never none.
            assert!(error.contains("no answer to "), "{step}: {error}");
        }
    }

    #[tokio::test]
    async fn so_many_failures_in_a_row_are_told_with_the_last_reason() {
        let hanging = browser("Runtime.evaluate").await;
        let config = HealthConfig {
            interval: Duration::from_millis(1),
            timeout: Duration::from_millis(500),
            failures: 2,
        };
        let counters = Counters::default();
        let reason = until_unhealthy(&config, hanging, "/devtools/browser/G", &counters).await;
        assert!(reason.contains("2 probes in a row failed"), "{reason}");
        assert!(reason.contains("no answer to "), "{reason}");
        assert_eq!(counters.probe_failures(), 2);
    }

    #[tokio::test]
    async fn a_process_that_is_held_up_knows_it() {
        let held_up = async { std::thread::sleep(PULSE + Duration::from_millis(50)) };
        assert!(!keeping_time(held_up, Duration::ZERO).await.1);
        assert!(keeping_time(async {}, Duration::from_secs(3600)).await.1);
    }
}
