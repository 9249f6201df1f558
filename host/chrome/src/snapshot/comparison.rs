//! What changed from one snapshot to another, by name.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::storage_state::InvalidState;

use super::entries::{self, Kind, Name};

/// One thing that is not the same in both. Holds no value of a cookie or of anything stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What happened to it.
    pub change: Change,
    /// What it is.
    #[serde(flatten)]
    pub name: Name,
    /// Which attributes of a cookie changed: `value`, `expires`, …
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<String>,
}

/// What happened to a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Only the new one has it.
    Added,
    /// Only the old one has it.
    Removed,
    /// Both have it, with different content.
    Changed,
}

/// The differences between two documents, in the order of their names. Empty: they hold the same, in whatever order.
pub fn between(old: &BTreeMap<Name, Value>, new: &BTreeMap<Name, Value>) -> Vec<Difference> {
    let removed = old
        .keys()
        .filter(|name| !new.contains_key(name))
        .map(|name| difference(Change::Removed, name, Vec::new()));
    let added_or_changed = new.iter().filter_map(|(name, value)| match old.get(name) {
        None => Some(difference(Change::Added, name, Vec::new())),
        Some(before) if before == value => None,
        Some(before) => {
            let attributes = match name.kind {
                Kind::Cookie => attributes(before, value),
                Kind::LocalStorage | Kind::IndexedDb | Kind::Opfs => Vec::new(),
            };
            Some(difference(Change::Changed, name, attributes))
        }
    });
    let mut all: Vec<_> = removed.chain(added_or_changed).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// The content of a document, to be compared.
///
/// # Errors
/// [`InvalidState`]: it is no storage state that Playwright takes.
pub fn read(document: &[u8]) -> Result<BTreeMap<Name, Value>, InvalidState> {
    entries::of(document)
}

fn difference(change: Change, name: &Name, attributes: Vec<String>) -> Difference {
    Difference {
        change,
        name: name.clone(),
        attributes,
    }
}

/// The keys whose values differ, or that only one has.
fn attributes(old: &Value, new: &Value) -> Vec<String> {
    let keys = [old, new].into_iter().filter_map(Value::as_object);
    let mut names: Vec<_> = keys.flat_map(|object| object.keys().cloned()).collect();
    names.sort();
    names.dedup();
    names.retain(|name| old.get(name) != new.get(name));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_removed_and_changed_is_named_and_no_value_appears() {
        let old = br#"{"cookies":[
            {"name":"a","value":"hunter2","domain":"x.example","path":"/","expires":1},
            {"name":"b","value":"hunter2","domain":"x.example","path":"/"}],
            "origins":[{"origin":"https://x.example","localStorage":[{"name":"k","value":"hunter2"}]}]}"#;
        let new = br#"{"cookies":[
            {"name":"c","value":"hunter2","domain":"x.example","path":"/"},
            {"name":"a","value":"hunter3","domain":"x.example","path":"/","expires":2}],
            "origins":[{"origin":"https://x.example","localStorage":[{"name":"k","value":"hunter3"}],
            "opfs":[{"path":"f","type":"directory"}]}]}"#;
        let (old, new) = (read(old).unwrap(), read(new).unwrap());
        let differences = between(&old, &new);
        let seen: Vec<_> = differences
            .iter()
            .map(|d| (d.change, d.name.kind, &*d.name.name, d.attributes.join(",")))
            .collect();
        let none = String::new;
        assert_eq!(
            seen,
            [
                (Change::Changed, Kind::Cookie, "/ a", "expires,value".into()),
                (Change::Removed, Kind::Cookie, "/ b", none()),
                (Change::Added, Kind::Cookie, "/ c", none()),
                (Change::Changed, Kind::LocalStorage, "k", none()),
                (Change::Added, Kind::Opfs, "f", none()),
            ]
        );
        let json = serde_json::to_string(&differences).unwrap();
        assert!(!json.contains("hunter"), "{json}");
        assert_eq!(between(&new, &new), []);
    }
}
