//! Reads `grant.secrets`.

use super::model::Secret;
use super::shape::string;
use super::{Item, Section};

/// Longest value, in bytes: a private key or a token fits, and a file that was named by mistake mostly not.
const MAX_SECRET: usize = 64 << 10;

pub(super) fn read(section: &mut Section<'_>) -> Option<Vec<(Box<str>, Secret)>> {
    let secrets = section.items().into_iter();
    Some(
        secrets
            .filter_map(|item| Some((item.name().into(), secret(&item)?)))
            .collect(),
    )
}

fn secret(item: &Item<'_>) -> Option<Secret> {
    let text = string(item)?;
    match text.len() {
        0 => item.reject(
            "a secret that is empty is none",
            "name the file that holds it: \"${file:/run/secrets/NAME}\"",
        ),
        1..=MAX_SECRET => Some(text.into()),
        _ => item.reject(
            "this is over 64 KiB",
            "name a file that holds the secret alone",
        ),
    }
}
