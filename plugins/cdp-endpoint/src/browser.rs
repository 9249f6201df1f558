//! The browser that runs now.

use std::net::IpAddr;

use serde::Deserialize;
use witgate_plugin::http_client::Request;
use witgate_plugin::is_authority;

use crate::path;

/// Where to ask for it.
pub(crate) struct Browser {
    version_url: String,
}

/// The part of `/json/version` that matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    web_socket_debugger_url: String,
}

impl Browser {
    /// The one whose DevTools are at this URL. The error says what would be right.
    pub(crate) fn at(url: &str) -> Result<Self, &'static str> {
        const EXAMPLE: &str = "must be where Chromium's DevTools are, like `http://127.0.0.1:6667`";
        let authority = url.strip_prefix("http://").ok_or(EXAMPLE)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if !is_authority(authority) {
            return Err(EXAMPLE);
        }
        let host = match authority.rsplit_once(':') {
            Some((host, _)) if !authority.ends_with(']') => host,
            _ => authority,
        };
        let address = host.trim_start_matches('[').trim_end_matches(']');
        if address.parse::<IpAddr>().is_err() && host != "localhost" {
            return Err(
                "must name Chromium by an address or as `localhost`: it answers to no other name",
            );
        }
        Ok(Self {
            version_url: format!("http://{authority}/json/version"),
        })
    }

    /// The path of its WebSocket, asked for anew each time: `/devtools/browser/ID`. The error is for the log.
    pub(crate) fn current_path(&self) -> Result<String, String> {
        let response = Request::get(self.version_url.as_str())
            .send()
            .map_err(|error| error.to_string())?;
        if response.status() != 200 {
            return Err(format!("it answers {}", response.status()));
        }
        let version: Version = serde_json::from_slice(response.body())
            .map_err(|error| format!("/json/version is not Chromium's: {error}"))?;
        match path::in_url(&version.web_socket_debugger_url) {
            Some(path) => Ok(path.to_owned()),
            None => Err("its webSocketDebuggerUrl does not name a browser".into()),
        }
    }
}
