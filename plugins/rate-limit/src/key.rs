//! What a client is told by.

use std::net::IpAddr;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use witgate_plugin::{ConfigErrors, ConfigSchema, Exchange, Request, check_header_name};

/// What counts as one client.
#[derive(Deserialize, ConfigSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Key {
    /// The client's address; of IPv6 its /64 network.
    #[default]
    ClientAddress,
    /// Everybody together.
    All,
    /// The value of a request header, and the client's address where there is none.
    Header(String),
    /// An attribute, `PLUGIN.NOTE`, and the client's address where there is none.
    Attribute(String),
}

impl Key {
    pub(crate) fn check(&self, errors: &mut ConfigErrors) {
        match self {
            Self::Header(name) => {
                // `Host` can be read, if not written.
                if let (Err(mistake), false) =
                    (check_header_name(name), name.eq_ignore_ascii_case("host"))
                {
                    errors.push("key.header", mistake);
                }
            }
            Self::Attribute(note) => {
                let is_note = note
                    .split_once('.')
                    .is_some_and(|(plugin, note)| !plugin.is_empty() && !note.is_empty());
                if !is_note {
                    errors.push(
                        "key.attribute",
                        "must name the plugin as well: `PLUGIN.NOTE`",
                    );
                }
            }
            Self::ClientAddress | Self::All => {}
        }
    }

    /// The key in the store: what a client sent may be a secret, or long, and is not in it.
    pub(crate) fn of(&self, exchange: &Exchange, request: &Request) -> String {
        let value = match self {
            Self::All => return "all".to_owned(),
            Self::ClientAddress => None,
            Self::Header(name) => request.header(name),
            Self::Attribute(note) => exchange.attribute(note).map(String::into_bytes),
        };
        match value.filter(|value| !value.is_empty()) {
            Some(value) => {
                let digest = Sha256::digest(&value);
                let hex = digest.iter().take(16).map(|byte| format!("{byte:02x}"));
                format!("v:{}", hex.collect::<String>())
            }
            None => format!("a:{}", network(&exchange.client_address())),
        }
    }
}

/// Who has an IPv6 address has 2^64 of them.
fn network(address: &str) -> String {
    match address
        .parse::<IpAddr>()
        .map(|address| address.to_canonical())
    {
        Ok(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        Ok(address) => address.to_string(),
        Err(_) => address.to_owned(),
    }
}
