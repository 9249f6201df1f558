use std::borrow::Cow;

use crate::{Exchange, Request};

/// Text with placeholders, taken apart once and put together for each exchange.
///
/// | placeholder | stands for |
/// |---|---|
/// | `{client-address}` | address of the client, behind trusted proxies |
/// | `{client-authority}` | `Host` as the client sent it |
/// | `{client-path}` | path and query as the client sent them |
/// | `{client-scheme}` | `http` or `https`, as the client used it |
/// | `{listener}`, `{route}` | their names |
/// | `{request-id}` | the id in the access log |
/// | `{attribute:PLUGIN.NOTE}` | a note that an earlier plugin left on the exchange |
/// | `{header:NAME}` | the first value of a header of the request |
///
/// `{{` and `}}` stand for a brace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    ClientAddress,
    ClientAuthority,
    ClientPath,
    ClientScheme,
    Listener,
    RequestId,
    Route,
    /// A note on the exchange: `PLUGIN.NOTE`.
    Attribute(String),
    /// The first value of a header of the request.
    Header(String),
    /// One of the names that the plugin gave, by its place.
    Own(usize),
}

/// All placeholders without an argument, for the message.
const KNOWN: &str = "`{client-address}`, `{client-authority}`, `{client-path}`, `{client-scheme}`, `{listener}`, \
                     `{request-id}`, `{route}`, `{attribute:PLUGIN.NOTE}` and `{header:NAME}`";

impl Template {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for a [`ConfigErrors`](crate::ConfigErrors).
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_with(text, &[])
    }

    /// Reads one that may hold these placeholders as well, for which [`fill_with`](Self::fill_with) has the values.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub fn parse_with(text: &str, own: &[&str]) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..at + 1];
            let after = &rest[at + 1..];
            if let Some(unescaped) = after.strip_prefix(brace) {
                literal.push_str(brace);
                rest = unescaped;
                continue;
            }
            let (inside, behind) = after.split_once('}').filter(|_| brace == "{").ok_or_else(
                || {
                    format!(
                        "has a `{brace}` without its partner; write `{brace}{brace}` for a brace"
                    )
                },
            )?;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::parse(inside, own)?);
            rest = behind;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self(parts))
    }

    /// What stands in it whatever the exchange, to be checked once.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The text for an exchange; `None` when there are placeholders and none of them stands for anything.
    pub fn fill<'a>(&'a self, exchange: &Exchange, request: &Request) -> Option<Cow<'a, [u8]>> {
        self.fill_with(exchange, request, &[])
    }

    /// As [`fill`](Self::fill), with a value for each name that [`parse_with`](Self::parse_with) was given.
    pub fn fill_with<'a>(
        &'a self,
        exchange: &Exchange,
        request: &Request,
        own: &[&str],
    ) -> Option<Cow<'a, [u8]>> {
        match self.0.as_slice() {
            [] => return Some(Cow::Borrowed(b"")),
            [Part::Text(text)] => return Some(Cow::Borrowed(text.as_bytes())),
            _ => {}
        }
        let mut value = Vec::new();
        let mut found = false;
        for part in &self.0 {
            match part {
                Part::Text(text) => value.extend_from_slice(text.as_bytes()),
                Part::Own(at) => {
                    found = true;
                    value.extend_from_slice(own.get(*at).copied().unwrap_or_default().as_bytes());
                }
                part => {
                    let piece = part.value(exchange, request);
                    found |= !piece.is_empty();
                    value.extend_from_slice(&piece);
                }
            }
        }
        found.then_some(Cow::Owned(value))
    }
}

impl Part {
    fn parse(inside: &str, own: &[&str]) -> Result<Self, String> {
        if let Some(at) = own.iter().position(|name| *name == inside) {
            return Ok(Self::Own(at));
        }
        let unknown = || {
            let own: String = own.iter().map(|name| format!("`{{{name}}}`, ")).collect();
            format!("has an unknown placeholder `{{{inside}}}`; there is {own}{KNOWN}")
        };
        Ok(match inside.split_once(':') {
            None => match inside {
                "client-address" => Self::ClientAddress,
                "client-authority" => Self::ClientAuthority,
                "client-path" => Self::ClientPath,
                "client-scheme" => Self::ClientScheme,
                "listener" => Self::Listener,
                "request-id" => Self::RequestId,
                "route" => Self::Route,
                _ => return Err(unknown()),
            },
            Some(("attribute", note))
                if note
                    .split_once('.')
                    .is_some_and(|(p, n)| !p.is_empty() && !n.is_empty()) =>
            {
                Self::Attribute(note.to_owned())
            }
            Some(("attribute", _)) => {
                return Err(
                    "names an attribute without its plugin; write `{attribute:PLUGIN.NOTE}`".into(),
                );
            }
            Some(("header", name)) if !name.is_empty() => Self::Header(name.to_owned()),
            Some(_) => return Err(unknown()),
        })
    }

    fn value(&self, exchange: &Exchange, request: &Request) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::ClientAddress => exchange.client_address().into_bytes(),
            Self::ClientAuthority => exchange.client_authority().into_bytes(),
            Self::ClientPath => exchange.client_path_with_query().into_bytes(),
            Self::ClientScheme => exchange.client_scheme().into_bytes(),
            Self::Listener => exchange.listener().into_bytes(),
            Self::RequestId => exchange.id().into_bytes(),
            Self::Route => exchange.route().into_bytes(),
            Self::Attribute(note) => exchange.attribute(note).unwrap_or_default().into_bytes(),
            Self::Header(name) => request.header(name).unwrap_or_default(),
            Self::Own(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_taken_apart_at_its_placeholders_and_braces_are_doubled() {
        let template = Template::parse_with("a{{{id}}}b{route}", &["id"]).expect("it is one");
        assert_eq!(
            template,
            Template(vec![
                Part::Text("a{".into()),
                Part::Own(0),
                Part::Text("}b".into()),
                Part::Route
            ])
        );
        for (wrong, what) in [
            ("{id}", "unknown placeholder"),
            ("{open", "without its partner"),
            ("close}", "without its partner"),
            ("{attribute:user}", "without its plugin"),
            ("{header:}", "unknown placeholder"),
        ] {
            let mistake = Template::parse(wrong).expect_err(wrong);
            assert!(mistake.contains(what), "{mistake}");
        }
    }
}
