//! Values with placeholders: `{client-address}`, `{attribute:PLUGIN.NOTE}`, `{header:NAME}`; `{{` and `}}` for braces.

use std::borrow::Cow;

use witgate_plugin::{Exchange, Request};

/// A header's value, taken apart once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Template {
    /// The same for every exchange.
    Fixed(Vec<u8>),
    /// Put together anew each time.
    Parts(Vec<Part>),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
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
}

/// All placeholders without an argument, for the message.
const KNOWN: &str = "`{client-address}`, `{client-authority}`, `{client-path}`, `{client-scheme}`, `{listener}`, \
                     `{request-id}`, `{route}`, `{attribute:PLUGIN.NOTE}` and `{header:NAME}`";

impl Template {
    /// Reads one, or says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
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
            let inside = after
                .split_once('}')
                .filter(|_| brace == "{")
                .ok_or_else(|| {
                    format!(
                        "has a `{brace}` without its partner; write `{brace}{brace}` for a brace"
                    )
                })?;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::parse(inside.0)?);
            rest = inside.1;
        }
        literal.push_str(rest);
        if parts.is_empty() {
            return Ok(Self::Fixed(literal.into_bytes()));
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self::Parts(parts))
    }

    /// Every octet that is in the text whatever the exchange, to be checked once.
    pub(crate) fn literals(&self) -> impl Iterator<Item = &[u8]> {
        let (fixed, parts): (&[u8], &[Part]) = match self {
            Self::Fixed(value) => (value, &[]),
            Self::Parts(parts) => (&[], parts),
        };
        let texts = parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_bytes()),
            _ => None,
        });
        std::iter::once(fixed).chain(texts)
    }

    /// The value for an exchange; `None` when there are placeholders and none of them stands for anything.
    pub(crate) fn fill<'a>(
        &'a self,
        exchange: &Exchange,
        request: &Request,
    ) -> Option<Cow<'a, [u8]>> {
        let parts = match self {
            Self::Fixed(value) => return Some(Cow::Borrowed(value)),
            Self::Parts(parts) => parts,
        };
        let mut value = Vec::new();
        let mut found = false;
        for part in parts {
            match part {
                Part::Text(text) => value.extend_from_slice(text.as_bytes()),
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
    fn parse(inside: &str) -> Result<Self, String> {
        Ok(match inside.split_once(':') {
            None => match inside {
                "client-address" => Self::ClientAddress,
                "client-authority" => Self::ClientAuthority,
                "client-path" => Self::ClientPath,
                "client-scheme" => Self::ClientScheme,
                "listener" => Self::Listener,
                "request-id" => Self::RequestId,
                "route" => Self::Route,
                other => {
                    return Err(format!(
                        "has an unknown placeholder `{{{other}}}`; there is {KNOWN}"
                    ));
                }
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
            Some(_) => {
                return Err(format!(
                    "has an unknown placeholder `{{{inside}}}`; there is {KNOWN}"
                ));
            }
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
        }
    }
}
