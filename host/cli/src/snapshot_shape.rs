//! The shapes of `[chrome.snapshot]` that nothing else has.

use std::time::Duration;

use witgate_chrome::Recipient;
use witgate_chrome::Schedule;
use witgate_chrome::snapshot::{LossLimit, Publication};
use witgate_proxy::config::{Item, Section, shape};

/// As many as an hourly harvest makes in a day.
const HISTORY: usize = 24;

/// Reads the keys that say how snapshots are published.
pub(crate) fn publication(table: &mut Section<'_>, schedule: Option<&Schedule>) -> Publication {
    let standard = LossLimit::default();
    let history = table.default("history", HISTORY, shape::integer(0..=10_000));
    let percent = table.default("max-loss", standard.percent, percent);
    let accept_after = table.default("accept-after", standard.accept_after, shape::duration);
    let recipients = table.default("encrypt-to", Vec::new(), shape::list(recipient));
    // One harvest of the schedule may be missed.
    let scheduled = schedule.map_or(Duration::ZERO, |schedule| 2 * schedule.longest_interval());
    Publication {
        loss: Some(LossLimit {
            percent,
            accept_after,
            gap: standard.gap.max(accept_after).max(scheduled),
        }),
        history,
        recipients,
        status: true,
    }
}

/// `"never"`, or a cron expression.
pub(crate) fn schedule(item: &Item<'_>) -> Option<Option<Schedule>> {
    let text = shape::string(item)?;
    if text == "never" {
        return Some(None);
    }
    match text.parse() {
        Ok(schedule) => Some(Some(schedule)),
        Err(error) => item.reject(
            format!("{error}"),
            "a cron expression such as \"0 * * * *\" (every hour), or \"never\"",
        ),
    }
}

fn percent(item: &Item<'_>) -> Option<u8> {
    let text = shape::string(item)?;
    let number = text.strip_suffix('%').map(str::trim_end);
    let percent = number.and_then(|number| number.parse().ok());
    match percent.filter(|percent| (1..=100).contains(percent)) {
        Some(percent) => Some(percent),
        None => item.reject(
            "this is no percentage",
            "write an integer from 1 to 100 and a percent sign: \"80%\"",
        ),
    }
}

fn recipient(item: &Item<'_>) -> Option<Recipient> {
    match shape::string(item)?.parse() {
        Ok(recipient) => Some(recipient),
        Err(error) => item.reject(
            format!("{error}"),
            "write a public key that `age-keygen` made: \"age1…\"; the secret one stays where snapshots are read",
        ),
    }
}
