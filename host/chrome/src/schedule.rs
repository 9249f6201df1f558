//! Harvests at the times of a cron expression, while there is a browser to harvest.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Local};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use crate::harvest::{HarvestConfig, Harvested};
use crate::snapshot;
use crate::supervisor::State;

/// The longest sleep in one go, so that a clock that was set, or a machine that slept, is noticed.
const CLOCK_CHECK: Duration = Duration::from_secs(30);

/// The longest wait after a harvest that failed; a schedule of days is helped by hourly attempts, too.
const LONGEST_RETRY: Duration = Duration::from_secs(60 * 60);

/// Far more than from a second to [`LONGEST_RETRY`], far less than overflows.
const MAX_DOUBLINGS: u32 = 20;

/// As many times as tell the longest interval of the usual schedules: a week of days, and a weekend after it.
const INTERVALS: usize = 10;

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

    /// The longest time between two of the next ten times.
    pub fn longest_interval(&self) -> Duration {
        let times: Vec<_> = self.0.iter_after(Local::now()).take(INTERVALS).collect();
        let intervals = times
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).to_std().unwrap_or_default());
        intervals.max().unwrap_or_default()
    }
}

/// What to harvest, and when.
#[derive(Debug, Clone)]
pub struct ScheduleConfig {
    /// The times.
    pub schedule: Schedule,
    /// Whether to harvest once as soon as Chromium is ready for the first time. Default true.
    pub on_start: bool,
    /// How long after a harvest that failed the next is tried; it doubles with each further failure. Default 15 s: a
    /// browser that was restarted is ready by then.
    pub retry: Duration,
    /// What each harvest does.
    pub harvest: HarvestConfig,
}

impl ScheduleConfig {
    /// A schedule that begins with a harvest.
    pub fn new(schedule: Schedule, harvest: HarvestConfig) -> Self {
        Self {
            schedule,
            on_start: true,
            retry: Duration::from_secs(15),
            harvest,
        }
    }
}

impl ScheduleConfig {
    /// When the next one is due after one that ended at `now`, the last of `failures` in a row that may be tried again.
    fn next_due(&self, now: SystemTime, failures: u32) -> Option<SystemTime> {
        let retry = failures.checked_sub(1).map(|earlier| {
            let delay = self.retry.saturating_mul(1 << earlier.min(MAX_DOUBLINGS));
            now + delay.min(LONGEST_RETRY)
        });
        let scheduled = self.schedule.next_after(now);
        [retry, scheduled].into_iter().flatten().min()
    }
}

/// Harvests on schedule until `stop` is done or the browser's supervisor is gone; a harvest that is under way is
/// dropped then, which leaves the file as it was.
///
/// A time at which Chromium is not ready is made up for as soon as it is; several missed times count as one. Success
/// is logged at info level with counts and duration, failure at warn level. One that failed is tried again after
/// [`ScheduleConfig::retry`], twice that and so on, up to an hour, unless the schedule comes first; one that brought in
/// suspiciously little waits for the schedule, since at once it would bring in the same. How it went is in the status
/// file, if one is kept.
pub async fn run(
    config: ScheduleConfig,
    browser: watch::Receiver<State>,
    stop: impl Future<Output = ()>,
) {
    tokio::select! {
        () = stop => {}
        () = harvest_forever(&config, browser) => {}
    }
}

async fn harvest_forever(config: &ScheduleConfig, mut browser: watch::Receiver<State>) {
    let mut due = config
        .on_start
        .then(SystemTime::now)
        .or_else(|| config.next_due(SystemTime::now(), 0));
    let mut failures: u32 = 0;
    tell_next_due(&config.harvest, due).await;
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
        failures = match harvest_once(&config.harvest).await {
            Ended::Done => 0,
            Ended::Failed => failures.saturating_add(1),
        };
        due = config.next_due(SystemTime::now(), failures);
        tell_next_due(&config.harvest, due).await;
    }
    warn!("no further harvest: the schedule has no next time");
}

async fn tell_next_due(config: &HarvestConfig, next_due: Option<SystemTime>) {
    if config.publication.status {
        let next_due = next_due.map(Into::into);
        snapshot::record(config, move |status| status.next_due = next_due).await;
    }
}

/// What follows from how a harvest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The schedule says when the next one is due: this one succeeded, or the next would end alike.
    Done,
    /// It is worth trying soon.
    Failed,
}

async fn harvest_once(config: &HarvestConfig) -> Ended {
    let file = config.file.display();
    match snapshot::take(config).await {
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
            Ended::Done
        }
        Err(error) => {
            warn!(%error, %file, "harvest failed: the last snapshot stays");
            match error.is_suspicious() {
                true => Ended::Done,
                false => Ended::Failed,
            }
        }
    }
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
    use crate::snapshot::Status;
    use crate::supervisor::Ready;
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
    fn a_failed_harvest_is_due_again_after_a_wait_that_doubles_and_never_later_than_scheduled() {
        let harvest = HarvestConfig::new(([127, 0, 0, 1], 1).into(), None, "state.json".into());
        let hourly = ScheduleConfig::new("0 * * * *".parse().unwrap(), harvest.clone());
        let yearly = ScheduleConfig::new("0 0 1 1 *".parse().unwrap(), harvest);
        let now: SystemTime = Local
            .with_ymd_and_hms(2026, 1, 15, 10, 0, 0)
            .unwrap()
            .into();
        let wait = |config: &ScheduleConfig, failures| {
            let due = config.next_due(now, failures).unwrap();
            due.duration_since(now).unwrap().as_secs()
        };
        let waits: Vec<_> = (0..6).map(|failures| wait(&hourly, failures)).collect();
        assert_eq!(waits, [3600, 15, 30, 60, 120, 240]);
        assert_eq!(wait(&yearly, 8), 15 << 7);
        assert_eq!((wait(&yearly, 12), wait(&yearly, u32::MAX)), (3600, 3600));
        assert_eq!(wait(&hourly, u32::MAX), 3600);
        let near = now + Duration::from_secs(3599);
        assert_eq!(hourly.next_due(near, 5), hourly.next_due(near, 0));
    }

    #[test]
    fn the_longest_interval_of_working_days_is_the_weekend() {
        let interval = |expression: &str| {
            let schedule: Schedule = expression.parse().unwrap();
            schedule.longest_interval().as_secs() / 3600
        };
        assert_eq!(interval("0 * * * *"), 1);
        // An hour more or less where the clocks are changed that weekend.
        assert!((71..=73).contains(&interval("0 9 * * mon-fri")));
    }

    #[tokio::test]
    async fn a_failed_harvest_is_tried_again_before_the_next_scheduled_time() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("state.json");
        // Nobody listens where a listener was just now; should somebody, it is no browser.
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut harvest = HarvestConfig::new(closed.local_addr().unwrap(), None, file.clone());
        drop(closed);
        harvest.publication.status = true;
        let mut config = ScheduleConfig::new("0 0 1 1 *".parse().unwrap(), harvest);
        config.retry = Duration::from_millis(1);
        let (_state, browser) = watch::channel(State::Ready(Ready {
            pid: 1,
            browser: "Chrome/1".into(),
            websocket_path: "/devtools/browser/1".into(),
            since: SystemTime::now(),
        }));
        let enough = async {
            let failures = || {
                let status = Status::read(&file).unwrap();
                status.map_or(0, |status| status.failures_in_a_row)
            };
            while failures() < 3 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), run(config, browser, enough))
            .await
            .expect("a second and a third attempt");
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
