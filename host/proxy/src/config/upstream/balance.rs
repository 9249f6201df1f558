//! Reads `balance` of `[upstream.NAME]`.

use http::HeaderName;

use super::model::{Balance, HashKey};
use crate::config::Item;
use crate::config::shape::{table, word};

pub(super) fn read(item: &Item<'_>) -> Option<Balance> {
    if item.is_table() {
        let mut hash = table(|section| section.required("hash", "\"client-address\"", hash_key));
        return hash(item).map(Balance::Hash);
    }
    let least = word(&[("round-robin", false), ("least-request", true)])(item)?;
    Some(match least {
        false => Balance::RoundRobin,
        true => Balance::LeastRequest,
    })
}

fn hash_key(item: &Item<'_>) -> Option<HashKey> {
    let text = item.text("what to hash, such as \"cookie:session\"")?;
    let key = match text.split_once(':') {
        None if text == "client-address" => Some(HashKey::ClientAddress),
        None if text == "path" => Some(HashKey::Path),
        Some(("header", name)) => name.parse::<HeaderName>().ok().map(HashKey::Header),
        // The name of a cookie is a token, as that of a field is (RFC 6265 §4.1.1).
        Some(("cookie", name)) if name.parse::<HeaderName>().is_ok() => {
            Some(HashKey::Cookie(name.into()))
        }
        _ => None,
    };
    key.or_else(|| {
        item.reject(
            format!("{} is nothing to hash", item.shown()),
            "write \"header:NAME\", \"cookie:NAME\", \"client-address\" or \"path\"",
        )
    })
}
