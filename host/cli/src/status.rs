//! What the process shows of Chromium and its harvests: reasons not to be ready, and metrics.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use serde_json::{Value, json};
use tokio::sync::watch;
use witgate_chrome::snapshot::Status;
use witgate_chrome::{Counters, Harvested, State};
use witgate_proxy::Check;

type Encoded = Result<(), fmt::Error>;

/// Chromium and its harvests, seen from outside.
#[derive(Debug, Clone)]
pub(crate) struct ChromeStatus {
    pub(crate) state: watch::Receiver<State>,
    pub(crate) counters: Arc<Counters>,
    /// `[chrome.snapshot] file`. What its status says is shown whoever harvests, this process or another.
    pub(crate) snapshot: Option<PathBuf>,
}

impl ChromeStatus {
    /// Ready means that Chromium is.
    pub(crate) fn check(&self) -> Check {
        let state = self.state.clone();
        Box::new(move || match &*state.borrow() {
            State::Ready(_) => Ok(()),
            State::Starting => Err("it is being started".into()),
            State::Unhealthy { reason, .. } => Err(format!("{reason}; it is being restarted")),
            State::BackingOff { until, reason } => {
                let left = until.saturating_duration_since(Instant::now());
                Err(format!("{reason}; started again in {} s", left.as_secs()))
            }
            State::Stopped => Err("it was stopped".into()),
        })
    }
}

impl ChromeStatus {
    /// What the admin listener and the dashboard say of it.
    pub(crate) fn document(&self) -> Value {
        let state = self.state.borrow().clone();
        let (name, reason) = match &state {
            State::Ready(_) => ("ready", None),
            State::Starting => ("starting", None),
            State::Unhealthy { reason, .. } => ("unhealthy", Some(reason.to_string())),
            State::BackingOff { reason, .. } => ("backing-off", Some(reason.to_string())),
            State::Stopped => ("stopped", None),
        };
        let ready = state.ready();
        json!({
            "state": name,
            "reason": reason,
            "browser": ready.map(|ready| ready.browser.clone()),
            "up_since": ready.map(|ready| seconds(ready.since)),
            "restarts": self.counters.restarts(),
            "probes": self.counters.probes(),
            "probe_failures": self.counters.probe_failures(),
            "snapshot": self.snapshot.as_deref().map(snapshot_document),
        })
    }
}

fn snapshot_document(file: &Path) -> Value {
    let status = match Status::read(file) {
        Ok(status) => status.unwrap_or_default(),
        Err(error) => return json!({"error": format!("its status cannot be read: {error}")}),
    };
    let attempt = status.last_attempt.as_ref();
    let success = status.last_success.as_ref();
    json!({
        "failures_in_a_row": status.failures_in_a_row,
        "last_attempt": attempt.map(|attempt| seconds(attempt.at.into())),
        "error": attempt.and_then(|attempt| attempt.error.clone()),
        "last_success": success.map(|success| seconds(success.at.into())),
        "cookies": success.map(|success| success.harvested.cookies),
        "origins": success.map(|success| success.harvested.origins),
        "next_due": status.next_due.map(|due| seconds(due.into())),
    })
}

fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

impl Collector for ChromeStatus {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Encoded {
        let since = self.state.borrow().ready().map(|ready| ready.since);
        let help = "1 while Chromium is ready";
        gauge(
            &mut encoder,
            "witgate_chrome_up",
            help,
            since.is_some().into(),
        )?;
        if let Some(since) = since {
            let help = "Since when Chromium is ready, in seconds since 1970";
            timestamp(&mut encoder, "witgate_chrome_ready_since", help, since)?;
        }
        let counts = [
            (
                "witgate_chrome_restarts",
                "Starts of Chromium after the first, for whatever reason",
                self.counters.restarts(),
            ),
            (
                "witgate_chrome_probes",
                "Probes of whether Chromium opens pages",
                self.counters.probes(),
            ),
            (
                "witgate_chrome_probe_failures",
                "Of these the ones that failed",
                self.counters.probe_failures(),
            ),
        ];
        for (name, help, count) in counts {
            encoder
                .encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let Some(file) = &self.snapshot else {
            return Ok(());
        };
        match Status::read(file) {
            Ok(status) => snapshot(&mut encoder, &status.unwrap_or_default()),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "the status of the snapshot cannot be read");
                Ok(())
            }
        }
    }
}

fn snapshot(encoder: &mut DescriptorEncoder<'_>, status: &Status) -> Encoded {
    let help = "Harvests that failed since the last one that brought in a snapshot";
    let failures = status.failures_in_a_row.into();
    gauge(
        encoder,
        "witgate_snapshot_failures_in_a_row",
        help,
        failures,
    )?;
    if let Some(attempt) = &status.last_attempt {
        let help = "When the last harvest ended, in seconds since 1970";
        let at = attempt.at.into();
        timestamp(encoder, "witgate_snapshot_last_attempt", help, at)?;
    }
    let Some(success) = &status.last_success else {
        return Ok(());
    };
    let help = "When the last harvest that brought in a snapshot ended, in seconds since 1970";
    let at = success.at.into();
    timestamp(encoder, "witgate_snapshot_last_success", help, at)?;
    harvested(encoder, &success.harvested)
}

fn harvested(encoder: &mut DescriptorEncoder<'_>, harvested: &Harvested) -> Encoded {
    let sizes = [
        (
            "witgate_snapshot_cookies",
            "Cookies in the snapshot",
            harvested.cookies,
        ),
        (
            "witgate_snapshot_origins",
            "Origins with stored data in the snapshot",
            harvested.origins,
        ),
        (
            "witgate_snapshot_left_out",
            "Items that the snapshot leaves out",
            harvested.left_out,
        ),
    ];
    for (name, help, value) in sizes {
        gauge(encoder, name, help, value as u64)?;
    }
    let size = (harvested.bytes as f64, Unit::Bytes, "Size of the snapshot");
    let took = harvested.duration.as_secs_f64();
    let took = (took, Unit::Seconds, "How long the harvest of it took");
    for (name, (value, unit, help)) in [
        ("witgate_snapshot_size", size),
        ("witgate_snapshot_harvest_duration", took),
    ] {
        encoder
            .encode_descriptor(name, help, Some(&unit), MetricType::Gauge)?
            .encode_gauge(&value)?;
    }
    Ok(())
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Encoded {
    encoder
        .encode_descriptor(name, help, None, MetricType::Gauge)?
        .encode_gauge(&value)
}

/// A time, as a gauge whose unit its name says: `NAME_timestamp_seconds`.
fn timestamp(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    time: SystemTime,
) -> Encoded {
    let name = format!("{name}_timestamp");
    encoder
        .encode_descriptor(&name, help, Some(&Unit::Seconds), MetricType::Gauge)?
        .encode_gauge(&seconds(time))
}
