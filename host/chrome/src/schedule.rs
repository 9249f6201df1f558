//! Harvests at the times of a cron expression, while there is a browser to harvest.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Local};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use crate::harvest::{HarvestConfig, Harvested, on_blocking_thread};
use crate::snapshot::{self, Status};
use crate::supervisor::State;

/// The longest sleep in one go, so that a clock that was set, or a machine that slept, is noticed.
const CLOCK_CHECK: Duration = Duration::from_secs(30);

/// When to harvest: five fields (minute, hour, day of month, month, day of week) or `@hourly`, `@daily`, `@weekly`,
/// `@monthly`, `@yearly`; in local time.
#[derive(Debug, Clone)]
pub struct Schedule(Cron);

/// Text that is no cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{expression:?} is no cron expression: {problem}; it has five fields (minute hour day month weekday, like \
     \"0 * * * *\") or is @hourly, @daily, @weekly, @monthly or @yearly"
)]
pub struct InvalidSchedule {
    expression: String,
    problem: String,
}

impl FromStr for Schedule {
    type Err = InvalidSchedule;

    fn from_str(expression: &str) -> Result<Self, InvalidSchedule> {
        let invalid = |problem: String| InvalidSchedule {
            expression: expression.to_owned(),
            problem: problem.to_lowercase(),
        };
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let cron = parser
            .parse(expression)
            .map_err(|error| invalid(error.to_string()))?;
        // The 30th of February is well-formed and never comes.
        cron.find_next_occurrence(&Local::now(), false)
            .map_err(|_| invalid("no such time ever comes".into()))?;
        Ok(Self(cron))
    }
}

impl Schedule {
    /// The first time after `now`.
    pub fn next_after(&self, now: SystemTime) -> Option<SystemTime> {
        let now: DateTime<Local> = now.into();
        self.0
            .find_next_occurrence(&now, false)
            .ok()
            .map(SystemTime::from)
    }
}

/// What to harvest, and when.
#[derive(Debug, Clone)]
pub struct ScheduleConfig {
    /// The times.
    pub schedule: Schedule,
    /// Whether to harvest once as soon as Chromium is ready for the first time. Default true.
    pub on_start: bool,
    /// What each harvest does.
    pub harvest: HarvestConfig,
}

impl ScheduleConfig {
    /// A schedule that begins with a harvest.
    pub fn new(schedule: Schedule, harvest: HarvestConfig) -> Self {
        Self {
            schedule,
            on_start: true,
            harvest,
        }
    }
}

/// How the last harvest went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// When it ended.
    pub at: SystemTime,
    /// What it brought in, or what went wrong; then the file is an older one.
    pub result: Result<Harvested, String>,
    /// When the last one that brought something in ended, in this process or an earlier one. `None`: none ever did,
    /// or no status is kept.
    pub last_success: Option<SystemTime>,
    /// When the next one is due.
    pub next_due: Option<SystemTime>,
}

impl Outcome {
    /// What an earlier process left behind.
    fn restored(status: &Status, next_due: Option<SystemTime>) -> Option<Self> {
        let attempt = status.last_attempt.as_ref()?;
        let success = status.last_success.as_ref();
        let result = match (&attempt.error, success) {
            (Some(error), _) => Err(error.clone()),
            (None, success) => Ok(success?.harvested.clone()),
        };
        Some(Self {
            at: attempt.at.into(),
            result,
            last_success: success.map(|success| success.at.into()),
            next_due,
        })
    }
}

/// Harvests on schedule until `stop` is done or the browser's supervisor is gone; a harvest that is under way is
/// dropped then, which leaves the file as it was.
///
/// A time at which Chromium is not ready is made up for as soon as it is; several missed times count as one. Success
/// is logged at info level with counts and duration, failure at warn level. Either way `outcome` holds how it went; at
/// the start it holds what the status file tells of the last harvest, if one is kept.
pub async fn run(
    config: ScheduleConfig,
    browser: watch::Receiver<State>,
    outcome: watch::Sender<Option<Outcome>>,
    stop: impl Future<Output = ()>,
) {
    tokio::select! {
        () = stop => {}
        () = harvest_forever(&config, browser, &outcome) => {}
    }
}

async fn harvest_forever(
    config: &ScheduleConfig,
    mut browser: watch::Receiver<State>,
    outcome: &watch::Sender<Option<Outcome>>,
) {
    let mut due = config
        .on_start
        .then(SystemTime::now)
        .or_else(|| next(config));
    restore(&config.harvest, due, outcome).await;
    while let Some(time) = due {
        sleep_until(time).await;
        if browser.borrow().ready().is_none() {
            debug!("a harvest is due and waits for chromium to be ready");
        }
        if browser
            .wait_for(|state| state.ready().is_some())
            .await
            .is_err()
        {
            return;
        }
        due = harvest_once(config, outcome).await;
    }
    warn!("no further harvest: the schedule has no next time");
}

fn next(config: &ScheduleConfig) -> Option<SystemTime> {
    config.schedule.next_after(SystemTime::now())
}

/// Tells what is known from an earlier process, and the status file when the first harvest is due.
async fn restore(
    config: &HarvestConfig,
    next_due: Option<SystemTime>,
    outcome: &watch::Sender<Option<Outcome>>,
) {
    if !config.publication.status {
        return;
    }
    let file = config.file.clone();
    let read = on_blocking_thread::<_, crate::WriteError>(move || {
        Status::read(&file)
            .map_err(|error| crate::WriteError::new("read the status of", &file, error))
    });
    match read.await {
        Ok(Some(status)) => {
            outcome.send_replace(Outcome::restored(&status, next_due));
        }
        Ok(None) => {}
        Err(error) => warn!(%error, "what earlier harvests brought is not known"),
    }
    tell_next_due(config, next_due).await;
}

async fn tell_next_due(config: &HarvestConfig, next_due: Option<SystemTime>) {
    if config.publication.status {
        let next_due = next_due.map(Into::into);
        snapshot::record(config, move |status| status.next_due = next_due).await;
    }
}

/// Gives the time of the next one.
async fn harvest_once(
    config: &ScheduleConfig,
    outcome: &watch::Sender<Option<Outcome>>,
) -> Option<SystemTime> {
    let harvest = &config.harvest;
    let file = harvest.file.display();
    let result = match snapshot::take(harvest).await {
        Ok(harvested) => {
            let Harvested {
                cookies,
                origins,
                items,
                databases,
                files,
                from_disk,
                left_out,
                bytes,
                duration,
            } = harvested;
            let duration_ms = duration.as_millis() as u64;
            info!(cookies, origins, items, databases, files, from_disk, left_out, bytes, duration_ms, %file, "harvested");
            Ok(harvested)
        }
        Err(error) => {
            warn!(%error, %file, "harvest failed: the last snapshot stays");
            Err(error.to_string())
        }
    };
    let next_due = next(config);
    tell_next_due(harvest, next_due).await;
    let at = SystemTime::now();
    outcome.send_modify(|outcome| {
        let before = outcome.as_ref().and_then(|outcome| outcome.last_success);
        *outcome = Some(Outcome {
            at,
            last_success: result.is_ok().then_some(at).or(before),
            result,
            next_due,
        });
    });
    next_due
}

async fn sleep_until(time: SystemTime) {
    // An error means that the time has come.
    while let Ok(left) = time.duration_since(SystemTime::now()) {
        if left.is_zero() {
            return;
        }
        sleep(left.min(CLOCK_CHECK)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{TimeZone, Timelike};

    fn next(expression: &str) -> DateTime<Local> {
        let now = Local.with_ymd_and_hms(2026, 1, 15, 10, 20, 30).unwrap();
        expression
            .parse::<Schedule>()
            .unwrap()
            .next_after(now.into())
            .unwrap()
            .into()
    }

    #[test]
    fn times_are_local_and_after_now() {
        assert_eq!(
            next("0 * * * *"),
            Local.with_ymd_and_hms(2026, 1, 15, 11, 0, 0).unwrap()
        );
        assert_eq!(next("@hourly").hour(), 11);
        assert_eq!(next("*/15 * * * *").minute(), 30);
        assert_eq!(
            next("30 4 * * mon"),
            Local.with_ymd_and_hms(2026, 1, 19, 4, 30, 0).unwrap()
        );
        assert_eq!(
            next("@daily"),
            Local.with_ymd_and_hms(2026, 1, 16, 0, 0, 0).unwrap()
        );
    }

    #[test]
    fn what_is_no_cron_expression_is_refused_with_its_text_and_a_remedy() {
        for expression in [
            "",
            "hourly",
            "61 * * * *",
            "* * * *",
            "0 0 * * * *",
            "0 0 30 2 *",
            "@never",
        ] {
            let error = expression.parse::<Schedule>().unwrap_err().to_string();
            assert!(
                error.contains(&format!("{expression:?}")) && error.contains("@hourly"),
                "{error}"
            );
        }
    }
}
