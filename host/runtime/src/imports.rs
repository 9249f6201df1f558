//! What a guest may ask and say of the exchange that is current, but for its heads.

use std::fmt::Write as _;

use http::HeaderMap;
use tracing::Level as TracingLevel;
use wasmtime::{Result, bail};

use crate::bindings::{exchange, log, types};
use crate::exchange::{AttributeError, Attributes, Exchange, Facts, HeadLimits, ResponseHead};
use crate::instance::{Phase, State};

/// Longest log message of a guest, in bytes.
const MAX_MESSAGE: usize = 4096;

impl State {
    pub(crate) fn exchange(&self) -> Result<&Exchange> {
        match &self.phase {
            Phase::Request(exchange)
            | Phase::Response(exchange)
            | Phase::Upgrade(exchange)
            | Phase::Completion(exchange) => Ok(exchange),
            Phase::Other(call) => bail!("there is no current exchange in {call}"),
        }
    }

    /// Of the exchange, or of the one whose body or message is passing.
    pub(crate) fn facts(&self) -> Result<&Facts> {
        match &self.passing {
            Some(passing) => Ok(&passing.facts),
            None => Ok(&self.exchange()?.facts),
        }
    }

    fn attributes(&self) -> Result<&Attributes> {
        match &self.passing {
            Some(passing) => Ok(&passing.attributes),
            None => Ok(&self.exchange()?.attributes),
        }
    }

    pub(crate) fn request_mut(&mut self) -> Result<&mut Exchange> {
        match &mut self.phase {
            Phase::Request(exchange) => Ok(exchange),
            Phase::Response(_) | Phase::Completion(_) => {
                bail!("the request has been sent and cannot be changed any more")
            }
            Phase::Upgrade(_) => {
                bail!("the request has been sent and cannot be changed in on-upgrade")
            }
            Phase::Other(call) => bail!("there is no current exchange in {call}"),
        }
    }

    pub(crate) fn response(&self) -> Result<&ResponseHead> {
        match self.exchange()?.response.as_ref() {
            Some(response) => Ok(response),
            None => bail!("there is no response in {}", self.phase.call()),
        }
    }

    pub(crate) fn response_mut(&mut self) -> Result<(&mut ResponseHead, HeadLimits)> {
        self.response()?;
        if let Phase::Upgrade(_) = &self.phase {
            bail!("the response cannot be changed in on-upgrade, only in on-response");
        }
        let (Phase::Request(exchange) | Phase::Response(exchange)) = &mut self.phase else {
            bail!("the response has been sent and cannot be changed in on-complete");
        };
        let limits = exchange.limits;
        Ok((
            exchange.response.as_mut().expect("`response` found it"),
            limits,
        ))
    }
}

impl types::Host for State {}

impl exchange::Host for State {
    fn id(&mut self) -> Result<String> {
        Ok(self.facts()?.id.to_string())
    }

    fn listener(&mut self) -> Result<String> {
        Ok(self.facts()?.listener.to_string())
    }

    fn route(&mut self) -> Result<String> {
        Ok(self.facts()?.route.to_string())
    }

    fn peer_address(&mut self) -> Result<String> {
        Ok(self.facts()?.peer.to_string())
    }

    fn client_address(&mut self) -> Result<String> {
        Ok(self.facts()?.client.to_string())
    }

    fn client_scheme(&mut self) -> Result<String> {
        Ok(self.facts()?.client_scheme.as_str().to_owned())
    }

    fn client_authority(&mut self) -> Result<String> {
        Ok(self.facts()?.client_authority.to_string())
    }

    fn client_path_with_query(&mut self) -> Result<String> {
        Ok(self.facts()?.client_path_with_query.to_string())
    }

    fn attribute(&mut self, name: String) -> Result<Option<String>> {
        let (plugin, note) = name.split_once('.').unwrap_or((&self.plugin, &name));
        Ok(self.attributes()?.get(plugin, note))
    }

    fn set_attribute(
        &mut self,
        name: String,
        value: String,
    ) -> Result<Result<(), exchange::AttributeError>> {
        let set = self.attributes()?.set(&self.plugin, &name, &value);
        Ok(set.map_err(|error| match error {
            AttributeError::InvalidName => exchange::AttributeError::InvalidName,
            AttributeError::TooLarge => exchange::AttributeError::TooLarge,
        }))
    }
}

impl log::Host for State {
    fn log(&mut self, level: log::Level, message: String) -> Result<()> {
        if !enabled(level) {
            return Ok(());
        }
        let plugin = self.plugin.clone();
        if !self.log.allows(&plugin) {
            return Ok(());
        }
        let facts = self.facts().ok();
        let (route, request_id) = facts.map_or(("", ""), |facts| (&*facts.route, &*facts.id));
        let message = printable(&message);
        macro_rules! event {
            ($level:ident) => {
                tracing::event!(target: "plugin", TracingLevel::$level, %plugin, route, request_id, "{message}")
            };
        }
        match level {
            log::Level::Error => event!(ERROR),
            log::Level::Warn => event!(WARN),
            log::Level::Info => event!(INFO),
            log::Level::Debug => event!(DEBUG),
            log::Level::Trace => event!(TRACE),
        }
        Ok(())
    }

    fn enabled(&mut self, level: log::Level) -> Result<bool> {
        Ok(enabled(level))
    }
}

fn enabled(level: log::Level) -> bool {
    match level {
        log::Level::Error => tracing::enabled!(target: "plugin", TracingLevel::ERROR),
        log::Level::Warn => tracing::enabled!(target: "plugin", TracingLevel::WARN),
        log::Level::Info => tracing::enabled!(target: "plugin", TracingLevel::INFO),
        log::Level::Debug => tracing::enabled!(target: "plugin", TracingLevel::DEBUG),
        log::Level::Trace => tracing::enabled!(target: "plugin", TracingLevel::TRACE),
    }
}

/// Cut to [`MAX_MESSAGE`], with control characters escaped so that one message is one line.
fn printable(message: &str) -> String {
    let cut = message.floor_char_boundary(MAX_MESSAGE);
    let mut line = String::with_capacity(cut);
    for character in message[..cut].chars() {
        if character.is_control() {
            write!(line, "{}", character.escape_debug()).expect("a String takes everything");
        } else {
            line.push(character);
        }
    }
    if cut < message.len() {
        line.push('…');
    }
    line
}

pub(crate) fn first(headers: &HeaderMap, name: &str) -> Option<Vec<u8>> {
    headers.get(name).map(|value| value.as_bytes().to_vec())
}

pub(crate) fn all(headers: &HeaderMap, name: &str) -> Vec<Vec<u8>> {
    headers
        .get_all(name)
        .iter()
        .map(|value| value.as_bytes().to_vec())
        .collect()
}

pub(crate) fn names(headers: &HeaderMap) -> Vec<String> {
    headers
        .keys()
        .map(|name| name.as_str().to_owned())
        .collect()
}

/// `/`, then path characters and at most one `?` and query characters (RFC 3986 §3.3, §3.4), percent signs only
/// before two hex digits.
pub(crate) fn is_path_with_query(text: &str) -> bool {
    let bytes = text.as_bytes();
    let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    bytes.first() == Some(&b'/')
        && bytes.iter().enumerate().all(|(at, byte)| match byte {
            b'%' => hex(at + 1) && hex(at + 2),
            // The first one starts the query; in the query it stands for itself.
            b'?' => true,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+'
            | b',' | b';' | b'=' | b':' | b'@' | b'/' => true,
            byte => byte.is_ascii_alphanumeric(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_what_the_rfc_allows() {
        for good in [
            "/",
            "/json/version?x=1",
            "/a//b;c=d/%20?q=/?&%7e",
            "/~user/*",
        ] {
            assert!(is_path_with_query(good), "{good}");
        }
        for bad in [
            "",
            "json",
            "/a b",
            "/a#b",
            "/%2",
            "/%zz",
            "/ü",
            "/a\r\nb",
            "/{x}",
            "/a\"b",
            "http://x/",
        ] {
            assert!(!is_path_with_query(bad), "{bad:?}");
        }
    }

    #[test]
    fn one_message_is_one_line_of_bounded_length() {
        assert_eq!(printable("a\nb\u{1b}[0m"), "a\\nb\\u{1b}[0m");
        let long = "ü".repeat(MAX_MESSAGE);
        assert!(printable(&long).len() <= MAX_MESSAGE + "…".len());
    }
}
