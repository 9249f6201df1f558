//! What a snapshot holds, in numbers and names.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::storage_state::InvalidState;

use super::entries::{self, Kind, list, text};
use super::timestamp::Timestamp;

/// Counts by domain and by origin. Holds no value of a cookie or of anything stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Its cookies.
    pub cookies: Cookies,
    /// What each origin has stored.
    pub origins: BTreeMap<String, Stored>,
}

/// The cookies of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Cookies {
    /// All of them.
    pub total: usize,
    /// Those that end with the session.
    pub session: usize,
    /// Those whose time has passed, which a browser drops.
    pub expired: usize,
    /// Those that expire next, if any does.
    pub next_to_expire: Option<Expiry>,
    /// How many each domain has.
    pub domains: BTreeMap<String, usize>,
}

/// When a cookie ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Expiry {
    /// When.
    pub at: Timestamp,
    /// Its domain.
    pub domain: String,
    /// Its name.
    pub name: String,
}

/// What one origin has stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Stored {
    /// Items of localStorage.
    pub local_storage: usize,
    /// Object stores in IndexedDB.
    pub indexed_db_stores: usize,
    /// Records in them.
    pub indexed_db_records: usize,
    /// Files and directories of the origin private file system.
    pub opfs: usize,
}

impl Summary {
    /// Sums a document up, as of `now`.
    ///
    /// # Errors
    /// [`InvalidState`]: it is no storage state that Playwright takes.
    pub fn of(document: &[u8], now: SystemTime) -> Result<Self, InvalidState> {
        let mut summary = Self {
            cookies: Cookies::default(),
            origins: BTreeMap::new(),
        };
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0.0, |since| Duration::as_secs_f64(&since));
        for (name, value) in entries::of(document)? {
            if name.kind == Kind::Cookie {
                let expires = value["expires"].as_f64().unwrap_or(-1.0);
                let name = text(&value, "name");
                summary
                    .cookies
                    .add(text(&value, "domain"), name, expires, now);
                continue;
            }
            let stored = summary.origins.entry(name.place).or_default();
            match name.kind {
                Kind::LocalStorage => stored.local_storage += 1,
                Kind::IndexedDb => {
                    stored.indexed_db_stores += 1;
                    stored.indexed_db_records += list(&value, "records").len();
                }
                Kind::Opfs | Kind::Cookie => stored.opfs += 1,
            }
        }
        Ok(summary)
    }
}

impl Cookies {
    fn add(&mut self, domain: &str, name: &str, expires: f64, now: f64) {
        self.total += 1;
        *self.domains.entry(domain.to_owned()).or_default() += 1;
        if expires < 0.0 {
            self.session += 1;
            return;
        }
        if expires <= now {
            self.expired += 1;
            return;
        }
        let Some(at) = Timestamp::from_unix(expires) else {
            return;
        };
        if self.next_to_expire.as_ref().is_none_or(|next| at < next.at) {
            self.next_to_expire = Some(Expiry {
                at,
                domain: domain.to_owned(),
                name: name.to_owned(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_counted_and_no_value_appears() {
        let document = br#"{
            "cookies": [
                {"name":"sid","value":"hunter2","domain":".a.example","path":"/","expires":-1},
                {"name":"late","value":"hunter2","domain":".a.example","path":"/","expires":2000000002},
                {"name":"soon","value":"hunter2","domain":"b.example","path":"/","expires":2000000001},
                {"name":"gone","value":"hunter2","domain":"b.example","path":"/","expires":1000}
            ],
            "origins": [{
                "origin": "https://a.example",
                "localStorage": [{"name":"k","value":"hunter2"},{"name":"l","value":"hunter2"}],
                "indexedDB": [{"name":"db","version":1,"stores":[{"name":"s","autoIncrement":false,"indexes":[],
                    "records":[{"key":1,"value":"hunter2"},{"key":2,"value":"hunter2"}]}]}],
                "opfs": [{"path":"f","type":"file","base64":"aHVudGVyMg=="}]
            }]
        }"#;
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
        let summary = Summary::of(document, now).unwrap();
        let cookies = &summary.cookies;
        assert_eq!((cookies.total, cookies.session, cookies.expired), (4, 1, 1));
        let next = cookies.next_to_expire.as_ref().unwrap();
        assert_eq!(
            (&*next.name, next.at.to_string()),
            ("soon", "2033-05-18T03:33:21Z".into())
        );
        assert_eq!(cookies.domains[".a.example"], 2);
        let stored = Stored {
            local_storage: 2,
            indexed_db_stores: 1,
            indexed_db_records: 2,
            opfs: 1,
        };
        assert_eq!(summary.origins["https://a.example"], stored);
        let json = serde_json::to_string(&summary).unwrap();
        assert!(
            !json.contains("hunter2") && !json.contains("aHVudGVyMg"),
            "{json}"
        );
    }
}
