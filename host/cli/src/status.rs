//! What the process shows of Chromium and its harvests: reasons not to be ready, and metrics.

use std::fmt;
use std::time::{Instant, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use tokio::sync::watch;
use witgate_chrome::{Outcome, State};
use witgate_proxy::Check;

/// Chromium and the last harvest, seen from outside.
#[derive(Debug, Clone)]
pub(crate) struct ChromeStatus {
    pub(crate) state: watch::Receiver<State>,
    pub(crate) outcome: watch::Receiver<Option<Outcome>>,
}

impl ChromeStatus {
    /// Ready means that Chromium is.
    pub(crate) fn check(&self) -> Check {
        let state = self.state.clone();
        Box::new(move || match &*state.borrow() {
            State::Ready(_) => Ok(()),
            State::Starting => Err("it is being started".into()),
            State::BackingOff { until, reason } => {
                let left = until.saturating_duration_since(Instant::now());
                Err(format!("{reason}; started again in {} s", left.as_secs()))
            }
            State::Stopped => Err("it was stopped".into()),
        })
    }
}

impl Collector for ChromeStatus {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let since = self.state.borrow().ready().map(|ready| ready.since);
        let help = "1 while Chromium is ready";
        encoder
            .encode_descriptor("witgate_chrome_up", help, None, MetricType::Gauge)?
            .encode_gauge(&u64::from(since.is_some()))?;
        if let Some(since) = since {
            let help = "Since when Chromium is ready, in seconds since 1970";
            seconds(&mut encoder, "witgate_chrome_ready_since", help, since)?;
        }
        match &*self.outcome.borrow() {
            Some(outcome) => harvested(&mut encoder, outcome),
            None => Ok(()),
        }
    }
}

fn harvested(encoder: &mut DescriptorEncoder<'_>, outcome: &Outcome) -> Result<(), fmt::Error> {
    let help = "When the last harvest ended, in seconds since 1970";
    seconds(encoder, "witgate_snapshot_last_attempt", help, outcome.at)?;
    let help = "1 when the last harvest brought in a snapshot, 0 when it failed";
    gauge(
        encoder,
        "witgate_snapshot_last_attempt_succeeded",
        help,
        u64::from(outcome.result.is_ok()),
    )?;
    let Ok(harvested) = &outcome.result else {
        return Ok(());
    };
    let sizes = [
        (
            "witgate_snapshot_cookies",
            "Cookies in the snapshot",
            harvested.cookies,
        ),
        (
            "witgate_snapshot_origins",
            "Origins with local storage in the snapshot",
            harvested.origins,
        ),
        (
            "witgate_snapshot_left_out",
            "Cookies and origins that the last harvest left out",
            harvested.left_out,
        ),
    ];
    for (name, help, value) in sizes {
        gauge(encoder, name, help, value as u64)?;
    }
    let help = "Size of the snapshot";
    encoder
        .encode_descriptor(
            "witgate_snapshot_size",
            help,
            Some(&Unit::Bytes),
            MetricType::Gauge,
        )?
        .encode_gauge(&(harvested.bytes as u64))?;
    let help = "How long the last harvest took";
    encoder
        .encode_descriptor(
            "witgate_snapshot_harvest_duration",
            help,
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?
        .encode_gauge(&harvested.duration.as_secs_f64())
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), fmt::Error> {
    encoder
        .encode_descriptor(name, help, None, MetricType::Gauge)?
        .encode_gauge(&value)
}

/// A time, as a gauge whose unit its name says: `NAME_timestamp_seconds`.
fn seconds(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    time: SystemTime,
) -> Result<(), fmt::Error> {
    let name = format!("{name}_timestamp");
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    encoder
        .encode_descriptor(&name, help, Some(&Unit::Seconds), MetricType::Gauge)?
        .encode_gauge(&since.as_secs_f64())
}
