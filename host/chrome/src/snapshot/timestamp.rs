//! Points in time as RFC 3339 writes them, in UTC and whole seconds.

use std::fmt;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// `2026-11-22T11:36:59Z`, in JSON as well. Fractions of a second are cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(DateTime<Utc>);

/// As it stands in file names, where colons do not travel well.
const COMPACT: &str = "%Y%m%dT%H%M%SZ";

impl Timestamp {
    /// Seconds since 1970, or `None` beyond what a calendar can say.
    pub fn from_unix(seconds: f64) -> Option<Self> {
        // The range was checked by the conversion's own limits: `as` saturates, and chrono refuses what is too large.
        DateTime::from_timestamp(seconds as i64, 0).map(Self)
    }

    /// How long ago this was at `now`; zero if it was not yet.
    pub fn age(self, now: SystemTime) -> Duration {
        now.duration_since(self.into()).unwrap_or_default()
    }

    pub(crate) fn compact(self) -> String {
        self.0.format(COMPACT).to_string()
    }

    pub(crate) fn from_compact(text: &str) -> Option<Self> {
        let time = NaiveDateTime::parse_from_str(text, COMPACT).ok()?;
        Some(Self(time.and_utc()))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let time = DateTime::<Utc>::from(time);
        Self(DateTime::from_timestamp(time.timestamp(), 0).unwrap_or(time))
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        time.0.into()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Secs, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        DateTime::parse_from_rfc3339(&text)
            .map(|time| Self(time.into()))
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_whole_seconds_and_read_again() {
        let time: Timestamp =
            (SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_225_600_900)).into();
        assert_eq!(time.to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(time.compact(), "20260101T000000Z");
        assert_eq!(Timestamp::from_compact("20260101T000000Z"), Some(time));
        assert_eq!(Timestamp::from_compact("20260101T000000"), None);
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time);
        assert_eq!(Timestamp::from_unix(1_767_225_600.5), Some(time));
        assert_eq!(Timestamp::from_unix(f64::INFINITY), None);
    }
}
