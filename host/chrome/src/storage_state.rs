//! Playwright's `storageState` file: its shape, read strictly and written stably.

use serde::{Deserialize, Serialize, Serializer};

pub use crate::indexed_db::{Database, Index, Json, Record, Store};
pub use crate::opfs::{OpfsEntry, OpfsKind};
pub use crate::refusal::Refusal;

/// The last second of the year 9999: the latest `expires` that Playwright accepts.
pub const LATEST_EXPIRY: f64 = 253_402_300_799.0;

/// `expires` of a cookie that ends with the session.
pub const SESSION: f64 = -1.0;

/// A whole `storageState` document. Keys that are not listed (`credentials`, …) are accepted when reading and are not
/// kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StorageState {
    /// All cookies. Required here, although Playwright does without: a document that lacks it is no snapshot.
    pub cookies: Vec<Cookie>,
    /// What each origin stores. Default: none.
    #[serde(default)]
    pub origins: Vec<OriginStorage>,
}

/// One cookie, with Playwright's names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cookie {
    /// Name; may be empty if the value is not.
    pub name: String,
    /// Value: a secret more often than not, so it never appears in a message.
    pub value: String,
    /// `example.com` for that host alone, `.example.com` for its subdomains too.
    #[serde(default)]
    pub domain: String,
    /// Starts with `/`.
    #[serde(default)]
    pub path: String,
    /// Seconds since 1970, or [`SESSION`]. Default: [`SESSION`].
    #[serde(default = "session", serialize_with = "whole_seconds_as_integer")]
    pub expires: f64,
    /// Hidden from scripts. Default: false.
    #[serde(default)]
    pub http_only: bool,
    /// Sent over TLS alone. Default: false.
    #[serde(default)]
    pub secure: bool,
    /// Default: [`SameSite::Lax`], as in browsers.
    #[serde(default)]
    pub same_site: SameSite,
    /// The top-level site of a partitioned (CHIPS) cookie: `https://example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_key: Option<String>,
    /// The other half of the partition key in Chromium.
    #[serde(
        rename = "_crHasCrossSiteAncestor",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub has_cross_site_ancestor: Option<bool>,
    /// What hand-written files may give instead of domain and path. A harvest never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// The `SameSite` attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SameSite {
    /// Sent on requests that come from the same site.
    Strict,
    /// Sent on those and on top-level navigations.
    #[default]
    Lax,
    /// Sent always; Chromium drops such a cookie silently unless it is `secure`.
    None,
}

/// What one origin stores.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OriginStorage {
    /// `http://host[:port]` or `https://host[:port]`.
    pub origin: String,
    /// Its items of local storage.
    #[serde(default)]
    pub local_storage: Vec<Item>,
    /// Its databases.
    #[serde(rename = "indexedDB", default, skip_serializing_if = "Vec::is_empty")]
    pub indexed_db: Vec<Database>,
    /// Its private file system.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opfs: Vec<OpfsEntry>,
}

impl OriginStorage {
    /// How many files its private file system has, directories not counted.
    pub fn files(&self) -> usize {
        let files = self.opfs.iter();
        files.filter(|entry| entry.kind == OpfsKind::File).count()
    }
}

/// One item of local storage.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Item {
    /// Its key.
    pub name: String,
    /// Its value: a secret more often than not.
    pub value: String,
}

/// A document is no storage state that Playwright would load. Never quotes a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidState {
    /// Not JSON at all, or cut short.
    #[error("not JSON: {problem} at line {line} column {column}")]
    Json {
        /// `a syntax error` or `it ends too early`.
        problem: &'static str,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// JSON of another shape, such as an error document or an array.
    #[error(
        "not a storage state: a key of the wrong type, or `cookies` is missing, at line {line} column {column}"
    )]
    Shape {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// An item that would make Playwright refuse the file.
    #[error("{at}: {refusal}")]
    Item {
        /// Where: `cookies[3]`, `origins[0]`.
        at: String,
        /// Why.
        refusal: Refusal,
    },
}

impl StorageState {
    /// Reads a document and checks every item.
    ///
    /// # Errors
    /// [`InvalidState`], at the first thing that Playwright would refuse.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidState> {
        // serde's own message may quote the offending value, which may be a secret: only its place is passed on.
        let state: Self = serde_json::from_slice(bytes).map_err(|error| {
            use serde_json::error::Category;
            let (line, column) = (error.line(), error.column());
            match error.classify() {
                Category::Data => InvalidState::Shape { line, column },
                Category::Eof => InvalidState::Json {
                    problem: "it ends too early",
                    line,
                    column,
                },
                Category::Syntax | Category::Io => InvalidState::Json {
                    problem: "a syntax error",
                    line,
                    column,
                },
            }
        })?;
        let refused = |list, index, refusal| InvalidState::Item {
            at: format!("{list}[{index}]"),
            refusal,
        };
        for (index, cookie) in state.cookies.iter().enumerate() {
            cookie
                .check()
                .map_err(|refusal| refused("cookies", index, refusal))?;
        }
        for (index, storage) in state.origins.iter().enumerate() {
            storage
                .check()
                .map_err(|refusal| refused("origins", index, refusal))?;
        }
        Ok(state)
    }

    /// The document as JSON, indented by two blanks and ended by a newline. Equal states give equal bytes.
    pub fn to_json(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .expect("strings, numbers and lists always have a JSON form");
        bytes.push(b'\n');
        bytes
    }

    /// Sorts everything, so that the order in which Chromium happened to answer does not show.
    pub fn sort(&mut self) {
        self.cookies.sort_by(|a, b| {
            let key = |c: &Cookie| {
                (
                    c.domain.clone(),
                    c.path.clone(),
                    c.name.clone(),
                    c.partition_key.clone(),
                )
            };
            key(a)
                .cmp(&key(b))
                .then_with(|| a.has_cross_site_ancestor.cmp(&b.has_cross_site_ancestor))
        });
        self.origins.sort_by(|a, b| a.origin.cmp(&b.origin));
        for storage in &mut self.origins {
            storage.local_storage.sort();
            storage.indexed_db.sort_by(|a, b| a.name.cmp(&b.name));
            storage.opfs.sort_by(|a, b| a.path.cmp(&b.path));
        }
    }
}

fn session() -> f64 {
    SESSION
}

/// `-1` and `1767225600` rather than `-1.0` and `1767225600.0`, as JavaScript writes them.
fn whole_seconds_as_integer<S: Serializer>(
    seconds: &f64,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    // Everything up to the year 9999 is far below 2^53, so the conversion is exact.
    if seconds.fract() == 0.0 && seconds.abs() <= LATEST_EXPIRY {
        serializer.serialize_i64(*seconds as i64)
    } else {
        serializer.serialize_f64(*seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie(name: &str) -> Cookie {
        Cookie {
            name: name.into(),
            value: "v".into(),
            domain: "example.com".into(),
            path: "/".into(),
            expires: SESSION,
            http_only: true,
            secure: true,
            same_site: SameSite::Lax,
            partition_key: None,
            has_cross_site_ancestor: None,
            url: None,
        }
    }

    #[test]
    fn what_playwright_writes_is_read_and_written_again() {
        let text = br#"{
  "cookies": [
    {
      "name": "id",
      "value": "1",
      "domain": ".example.com",
      "path": "/",
      "expires": 1767225600.5,
      "httpOnly": true,
      "secure": true,
      "sameSite": "None",
      "partitionKey": "https://top.example",
      "_crHasCrossSiteAncestor": true
    }
  ],
  "origins": [
    {
      "origin": "https://example.com",
      "localStorage": [
        {
          "name": "k",
          "value": "v"
        }
      ]
    }
  ]
}
"#;
        let state = StorageState::parse(text).unwrap();
        assert_eq!(
            String::from_utf8(state.to_json()).unwrap(),
            String::from_utf8(text.to_vec()).unwrap()
        );
    }

    #[test]
    fn unknown_keys_and_missing_optional_ones_are_accepted() {
        let text = br#"{"cookies":[{"name":"a","value":"b","domain":"x","path":"/","sourcePort":1}],"credentials":[]}"#;
        let state = StorageState::parse(text).unwrap();
        assert_eq!(state.cookies[0].expires, SESSION);
        assert_eq!(state.cookies[0].same_site, SameSite::Lax);
        assert!(state.origins.is_empty());
    }

    #[test]
    fn whole_seconds_are_written_without_a_fraction() {
        let json = String::from_utf8(
            StorageState {
                cookies: vec![cookie("a")],
                origins: vec![],
            }
            .to_json(),
        )
        .unwrap();
        assert!(json.contains("\"expires\": -1,"), "{json}");
    }

    #[test]
    fn other_documents_are_turned_down_without_quoting_them() {
        let shape = |text: &str| {
            matches!(
                StorageState::parse(text.as_bytes()),
                Err(InvalidState::Shape { .. })
            )
        };
        assert!(shape(r#"{"error":"invalid bearer"}"#));
        assert!(shape("[]") || StorageState::parse(b"[]").is_err());
        assert!(shape("null"));
        assert!(shape(r#"{"cookies":[{"name":"a"}]}"#));
        assert!(shape(
            r#"{"cookies":[{"name":"a","value":"b","domain":"x","path":"/","sameSite":"lax"}]}"#
        ));
        assert!(matches!(
            StorageState::parse(b"<html>"),
            Err(InvalidState::Json { .. })
        ));
        assert!(matches!(
            StorageState::parse(br#"{"cookies":["#),
            Err(InvalidState::Json { .. })
        ));
        assert!(matches!(
            StorageState::parse(b""),
            Err(InvalidState::Json { .. })
        ));
        let error = StorageState::parse(br#"{"cookies":"hunter2"}"#).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn the_place_of_a_refused_item_is_named() {
        let text = br#"{"cookies":[],"origins":[{"origin":"http://a"},{"origin":"chrome-extension://abc"}]}"#;
        let error = StorageState::parse(text).unwrap_err();
        assert!(error.to_string().starts_with("origins[1]: "), "{error}");
    }

    #[test]
    fn sorting_makes_the_bytes_independent_of_the_order_of_arrival() {
        let origin = |origin: &str| OriginStorage {
            origin: origin.into(),
            ..OriginStorage::default()
        };
        let mut one = StorageState {
            cookies: vec![cookie("b"), cookie("a")],
            origins: vec![origin("b"), origin("a")],
        };
        let mut two = StorageState {
            cookies: vec![cookie("a"), cookie("b")],
            origins: vec![origin("a"), origin("b")],
        };
        one.sort();
        two.sort();
        assert_eq!(one.to_json(), two.to_json());
    }
}
