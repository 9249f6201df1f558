//! `witgate snapshot show`: what a snapshot holds, without any value.

use std::fmt::Write as _;
use std::time::SystemTime;

use serde::Serialize;
use witgate_chrome::snapshot::{Summary, Timestamp};

use super::{json, read, roughly};
use crate::Ended;
use crate::args::{Format, Show};
use crate::output::print;

#[derive(Serialize)]
struct Shown {
    bytes: u64,
    written: Timestamp,
    age_seconds: u64,
    #[serde(flatten)]
    summary: Summary,
}

pub(crate) fn show(args: &Show) -> Result<(), Ended> {
    let failed = |error: String| Ended::because(format!("{}: {error}", args.file.display()));
    let now = SystemTime::now();
    let metadata = std::fs::metadata(&args.file).map_err(|error| failed(error.to_string()))?;
    let written = metadata
        .modified()
        .map_err(|error| failed(error.to_string()))?;
    let document = read(&args.file, &args.identity)?;
    let summary = Summary::of(&document, now)
        .map_err(|error| failed(format!("this is no storageState: {error}")))?;
    let written = Timestamp::from(written);
    let shown = Shown {
        bytes: metadata.len(),
        written,
        age_seconds: written.age(now).as_secs(),
        summary,
    };
    match args.format {
        Format::Json => print(&json(&shown)?),
        Format::Text => {
            let header = format!("{}: {}", args.file.display(), as_text(&shown, now));
            print(&header)
        }
    }
}

fn as_text(shown: &Shown, now: SystemTime) -> String {
    let Summary { cookies, origins } = &shown.summary;
    let mut text = format!(
        "{} bytes, written {}, {} ago\n\ncookies: {}, of which {} end with the session and {} have expired\n",
        shown.bytes,
        shown.written,
        roughly(shown.written.age(now)),
        cookies.total,
        cookies.session,
        cookies.expired,
    );
    let mut line = |line: String| {
        // Writing to a string cannot fail.
        writeln!(text, "{line}").is_ok()
    };
    if let Some(next) = &cookies.next_to_expire {
        let (name, domain) = (next.name.escape_debug(), next.domain.escape_debug());
        let left = SystemTime::from(next.at)
            .duration_since(now)
            .unwrap_or_default();
        line(format!(
            "the next to expire: {name} of {domain}, {}, in {}",
            next.at,
            roughly(left)
        ));
    }
    for (domain, count) in &cookies.domains {
        line(format!("{count:>8}  {}", domain.escape_debug()));
    }
    line(format!("\norigins with stored data: {}", origins.len()));
    for (origin, stored) in origins {
        line(format!(
            "{:>8}  {}: {} localStorage, {} IndexedDB records in {} stores, {} OPFS",
            stored.local_storage + stored.indexed_db_records + stored.opfs,
            origin.escape_debug(),
            stored.local_storage,
            stored.indexed_db_records,
            stored.indexed_db_stores,
            stored.opfs,
        ));
    }
    text
}
