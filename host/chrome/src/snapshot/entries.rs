//! The single things in a storage state, each with the name it goes by.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::storage_state::{InvalidState, StorageState};

/// Where a thing is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A cookie.
    Cookie,
    /// An item of localStorage.
    LocalStorage,
    /// An object store of an IndexedDB database.
    IndexedDb,
    /// A file or directory of the origin private file system.
    Opfs,
}

/// What a thing goes by; never what it holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Name {
    /// Where it is stored.
    pub kind: Kind,
    /// A cookie's domain with its partition (`DOMAIN in SITE`, or `DOMAIN in SITE across sites`), else an origin.
    pub place: String,
    /// A cookie's path and name, an item's name, `DATABASE/STORE`, or a path.
    pub name: String,
}

/// Everything in a document, by name.
///
/// # Errors
/// [`InvalidState`]: it is no storage state that Playwright takes.
pub(crate) fn of(document: &[u8]) -> Result<BTreeMap<Name, Value>, InvalidState> {
    // Says what is wrong and where; what it does not keep is read from the document itself.
    StorageState::parse(document)?;
    let document: Value = serde_json::from_slice(document).unwrap_or_default();
    let mut entries = BTreeMap::new();
    let mut add = |kind, place: &str, name: String, value: &Value| {
        let name = Name {
            kind,
            place: place.to_owned(),
            name,
        };
        entries.insert(name, value.clone());
    };
    for cookie in list(&document, "cookies") {
        let place = match text(cookie, "partitionKey") {
            "" => text(cookie, "domain").to_owned(),
            partition => {
                // The other half of the partition's key: the same page framed within another site has its own cookies.
                let ancestor = match cookie["_crHasCrossSiteAncestor"] == true {
                    true => " across sites",
                    false => "",
                };
                format!("{} in {partition}{ancestor}", text(cookie, "domain"))
            }
        };
        let name = format!("{} {}", text(cookie, "path"), text(cookie, "name"));
        add(Kind::Cookie, &place, name, cookie);
    }
    for origin in list(&document, "origins") {
        let place = text(origin, "origin");
        for item in list(origin, "localStorage") {
            add(
                Kind::LocalStorage,
                place,
                text(item, "name").to_owned(),
                item,
            );
        }
        for database in list(origin, "indexedDB") {
            for store in list(database, "stores") {
                let name = format!("{}/{}", text(database, "name"), text(store, "name"));
                add(Kind::IndexedDb, place, name, store);
            }
        }
        for entry in list(origin, "opfs") {
            add(Kind::Opfs, place, text(entry, "path").to_owned(), entry);
        }
    }
    Ok(entries)
}

pub(crate) fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

pub(crate) fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_that_differ_in_either_half_of_the_partition_key_are_different_ones() {
        let cookie = |more: &str| {
            format!(r#"{{"name":"a","value":"v","domain":"x.example","path":"/"{more}}}"#)
        };
        let site =
            r#","secure":true,"partitionKey":"https://top.example","_crHasCrossSiteAncestor":"#;
        let cookies = ["", &format!("{site}false"), &format!("{site}true")].map(cookie);
        let document = format!(r#"{{"cookies":[{}]}}"#, cookies.join(","));
        let entries = of(document.as_bytes()).unwrap();
        let places: Vec<_> = entries.keys().map(|name| &*name.place).collect();
        assert_eq!(
            places,
            [
                "x.example",
                "x.example in https://top.example",
                "x.example in https://top.example across sites"
            ]
        );
    }
}
