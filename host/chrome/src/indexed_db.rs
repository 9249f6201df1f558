//! Databases of IndexedDB in a storage state: their shape, and what Playwright would refuse in them.
//!
//! A record's key and value stand there in one of two forms: as themselves where JSON says all of it, or (`keyEncoded`,
//! `valueEncoded`) as a description of what JSON has no word for: dates, binary data, big integers, maps, sets, cycles.
//! Both pass through here letter for letter.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::refusal::Refusal;

/// The largest version that a database can have: 2^53 - 1.
const MAX_VERSION: u64 = (1 << 53) - 1;

/// One database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Database {
    /// Its name within the origin.
    pub name: String,
    /// From 1 to 2^53 - 1.
    pub version: u64,
    /// Its object stores.
    pub stores: Vec<Store>,
}

/// One object store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Store {
    /// Its name within the database.
    pub name: String,
    /// Whether keys are generated.
    pub auto_increment: bool,
    /// Where in each value its key is found. Neither this nor `key_path_array`: keys stand beside the values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_path: Option<String>,
    /// The same, for keys of several parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_path_array: Option<Vec<String>>,
    /// Its indexes.
    pub indexes: Vec<Index>,
    /// Its records, ordered by key.
    pub records: Vec<Record>,
}

/// One index of an object store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Its name within the store.
    pub name: String,
    /// Where in each value the indexed key is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_path: Option<String>,
    /// The same, for keys of several parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_path_array: Option<Vec<String>>,
    /// Whether the items of a list are keys of their own.
    pub multi_entry: bool,
    /// Whether no two records may have the same key.
    pub unique: bool,
}

/// One record of an object store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The key, in a store without key path.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub key: Option<Json>,
    /// The key, described.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub key_encoded: Option<Json>,
    /// The value.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub value: Option<Json>,
    /// The value, described.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub value_encoded: Option<Json>,
}

/// A JSON text that is passed on as it came: a secret more often than not, so it is not shown when debugging.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// The text.
    pub fn get(&self) -> &str {
        self.0.get()
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Json({} bytes)", self.get().len())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

/// A key that is there, even if what it holds is `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

impl Database {
    /// Whether Playwright could make this database.
    ///
    /// # Errors
    /// [`Refusal::Database`].
    pub fn check(&self) -> Result<(), Refusal> {
        let versioned = (1..=MAX_VERSION).contains(&self.version);
        if versioned && self.stores.iter().all(Store::is_possible) {
            Ok(())
        } else {
            Err(Refusal::Database)
        }
    }

    /// How many records all its stores hold.
    pub fn records(&self) -> usize {
        self.stores.iter().map(|store| store.records.len()).sum()
    }
}

impl Store {
    /// A record has a key exactly if the value does not hold it; a generated one may be left out.
    fn is_possible(&self) -> bool {
        let in_value = self.key_path.is_some() || self.key_path_array.is_some();
        let indexed = |index: &Index| index.key_path.is_some() || index.key_path_array.is_some();
        let keyed = |record: &Record| {
            let key = record.key.is_some() || record.key_encoded.is_some();
            if in_value {
                !key
            } else {
                key || self.auto_increment
            }
        };
        self.indexes.iter().all(indexed) && self.records.iter().all(keyed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(store: &str) -> Result<Database, serde_json::Error> {
        serde_json::from_str(&format!(
            r#"{{"name":"d","version":1,"stores":[{{"name":"s","indexes":[],{store}}}]}}"#
        ))
    }

    #[test]
    fn records_pass_through_letter_for_letter() {
        let records = r#"[{"key":1e400,"value":null},{"keyEncoded":{"d":"2020"},"value":{"b":"\ud800","a":0.30000000000000004}}]"#;
        let parsed = database(&format!(r#""autoIncrement":false,"records":{records}"#)).unwrap();
        assert_eq!(parsed.check(), Ok(()));
        assert_eq!(
            serde_json::to_string(&parsed.stores[0].records).unwrap(),
            records
        );
        assert_eq!(parsed.records(), 2);
    }

    #[test]
    fn a_value_is_not_shown_when_debugging() {
        let parsed = database(r#""autoIncrement":true,"records":[{"value":"hunter2"}]"#).unwrap();
        assert!(!format!("{parsed:?}").contains("hunter2"));
    }

    #[test]
    fn databases_that_cannot_be_made_are_refused() {
        for store in [
            r#""autoIncrement":false,"records":[{"value":1}]"#,
            r#""autoIncrement":false,"keyPath":"id","records":[{"key":1,"value":{"id":1}}]"#,
        ] {
            let parsed = database(store).unwrap();
            assert_eq!(parsed.check(), Err(Refusal::Database), "{store}");
        }
        let mut versionless = database(r#""autoIncrement":true,"records":[]"#).unwrap();
        assert_eq!(versionless.check(), Ok(()));
        versionless.version = 0;
        assert_eq!(versionless.check(), Err(Refusal::Database));

        let mut unindexable = database(r#""autoIncrement":true,"records":[]"#).unwrap();
        unindexable.stores[0].indexes.push(Index {
            name: "i".into(),
            key_path: None,
            key_path_array: None,
            multi_entry: false,
            unique: false,
        });
        assert_eq!(unindexable.check(), Err(Refusal::Database));
    }
}
