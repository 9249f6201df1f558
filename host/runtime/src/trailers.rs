//! Trailer fields: which there may be, and what a guest does with those of the body that has ended.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use wasmtime::{Result, bail};

use crate::bindings::trailers::{self, TrailerError};
use crate::bindings::types::{self, HeadError};
use crate::exchange::HeadLimits;
use crate::head::{self, Edit};
use crate::imports::{all, first, names};
use crate::instance::{Phase, State};

/// Fields that no trailer may be, beside the families in [`may_trail`] (RFC 9110 §6.5.1): a receiver has acted on the
/// head by the time they come, or would have to act on them in two ways.
const NEVER: [&str; 38] = [
    // Framing and the connection.
    "connection",
    "content-length",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    // Routing, and who asked.
    "forwarded",
    "host",
    "max-forwards",
    "via",
    "x-real-ip",
    "x-request-id",
    // Authentication and state.
    "authentication-info",
    "authorization",
    "cookie",
    "set-cookie",
    "www-authenticate",
    // What modifies a request.
    "cache-control",
    "expect",
    "origin",
    "pragma",
    "range",
    "referer",
    // What controls a response.
    "accept-ranges",
    "age",
    "allow",
    "clear-site-data",
    "date",
    "expires",
    "location",
    "retry-after",
    "strict-transport-security",
    "vary",
    "warning",
    // How to read the content.
    "content-encoding",
    "content-range",
    "content-type",
];

/// Beginnings of names of which the same holds: conditions, proxies, what browsers are told to enforce.
const NEVER_BEGINNING: [&str; 6] = [
    "access-control-",
    "content-security-policy",
    "if-",
    "proxy-",
    "sec-",
    "x-forwarded-",
];

/// Whether a field of this name may follow a body.
pub(crate) fn may_trail(name: &HeaderName) -> bool {
    let name = name.as_str();
    !NEVER.contains(&name) && !NEVER_BEGINNING.iter().any(|start| name.starts_with(start))
}

/// The names in `Trailer` that may be ones. Allocates nothing when there is no such field.
pub fn announced(headers: &HeaderMap) -> Vec<HeaderName> {
    let lists = headers.get_all(header::TRAILER);
    let texts = lists.iter().filter_map(|list| list.to_str().ok());
    let names = texts.flat_map(|list| list.split(','));
    let names = names.filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok());
    names.filter(may_trail).collect()
}

/// Has `Trailer` announce these, and no others.
pub fn announce<'a>(headers: &mut HeaderMap, names: impl IntoIterator<Item = &'a HeaderName>) {
    let names: Vec<&str> = names.into_iter().map(HeaderName::as_str).collect();
    if names.is_empty() {
        headers.remove(header::TRAILER);
        return;
    }
    let list = HeaderValue::from_str(&names.join(", ")).expect("names are visible ASCII");
    headers.insert(header::TRAILER, list);
}

/// The trailers of these that may be ones.
pub fn admitted(mut fields: HeaderMap) -> HeaderMap {
    if fields.keys().all(may_trail) {
        return fields;
    }
    let refused = fields.keys().filter(|name| !may_trail(name)).cloned();
    for name in refused.collect::<Vec<_>>() {
        fields.remove(name);
    }
    fields
}

/// A body that has ended, as long as a guest is in `transform.finish` for it.
pub(crate) struct Ending {
    pub(crate) trailers: HeaderMap,
    pub(crate) limits: HeadLimits,
    pub(crate) head: HeadState,
    /// What the guest wants sent in place of the message (`held.answer`).
    pub(crate) answer: Option<types::Reply>,
}

/// What has become of the head of a body that has ended.
pub(crate) enum HeadState {
    /// It is held back: whatever trails can still be announced.
    Held,
    /// It has been sent, and announced these.
    Sent(Vec<HeaderName>),
}

impl Ending {
    fn write(&mut self, edit: Edit, name: &str, value: &[u8]) -> Result<(), TrailerError> {
        let known = writable(name)?;
        if let HeadState::Sent(announced) = &self.head
            && !announced.contains(&known)
        {
            return Err(TrailerError::NotAnnounced);
        }
        Ok(head::write(
            &mut self.trailers,
            self.limits,
            edit,
            name,
            value,
        )?)
    }
}

fn writable(name: &str) -> Result<HeaderName, TrailerError> {
    let name = head::writable_name(name)?;
    match may_trail(&name) {
        true => Ok(name),
        false => Err(TrailerError::Forbidden),
    }
}

impl From<HeadError> for TrailerError {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::InvalidName => Self::InvalidName,
            HeadError::InvalidValue => Self::InvalidValue,
            HeadError::Forbidden => Self::Forbidden,
            HeadError::TooLarge => Self::TooLarge,
        }
    }
}

impl State {
    fn ending(&mut self) -> Result<&mut Ending> {
        let call = self.phase.call();
        match &mut self.ending {
            Some(ending) => Ok(ending),
            None => bail!(
                "there are no trailers in {call}; they come at a body's end, in transform.finish"
            ),
        }
    }

    /// The head that the current hook looks at.
    fn open_head(&mut self) -> Result<(&mut HeaderMap, HeadLimits)> {
        let call = self.phase.call();
        let (Phase::Request(exchange) | Phase::Response(exchange)) = &mut self.phase else {
            bail!("there is no head that could announce trailers in {call}");
        };
        let limits = exchange.limits;
        match &mut exchange.response {
            Some(response) => Ok((&mut response.headers, limits)),
            None => Ok((&mut exchange.request.headers, limits)),
        }
    }
}

impl trailers::Host for State {
    fn announce(&mut self, name: String) -> Result<Result<(), TrailerError>> {
        let (headers, limits) = self.open_head()?;
        let name = match writable(&name) {
            Ok(name) => name,
            Err(error) => return Ok(Err(error)),
        };
        let mut names = announced(headers);
        if names.contains(&name) {
            return Ok(Ok(()));
        }
        names.push(name);
        if names.len() > limits.count
            || head::size(headers) + names.iter().map(|n| n.as_str().len() + 2).sum::<usize>()
                > limits.size
        {
            return Ok(Err(TrailerError::TooLarge));
        }
        announce(headers, &names);
        Ok(Ok(()))
    }

    fn get(&mut self, name: String) -> Result<Option<Vec<u8>>> {
        Ok(first(&self.ending()?.trailers, &name))
    }

    fn values(&mut self, name: String) -> Result<Vec<Vec<u8>>> {
        Ok(all(&self.ending()?.trailers, &name))
    }

    fn names(&mut self) -> Result<Vec<String>> {
        Ok(names(&self.ending()?.trailers))
    }

    fn set(&mut self, name: String, value: Vec<u8>) -> Result<Result<(), TrailerError>> {
        Ok(self.ending()?.write(Edit::Set, &name, &value))
    }

    fn append(&mut self, name: String, value: Vec<u8>) -> Result<Result<(), TrailerError>> {
        Ok(self.ending()?.write(Edit::Append, &name, &value))
    }

    fn remove(&mut self, name: String) -> Result<Result<(), TrailerError>> {
        let ending = self.ending()?;
        Ok(writable(&name).map(|name| drop(ending.trailers.remove(name))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &'static str, value: &'static str) -> HeaderMap {
        let pair = (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
        HeaderMap::from_iter([pair])
    }

    #[test]
    fn what_frames_routes_or_authenticates_a_message_is_no_trailer() {
        for name in [
            "content-length",
            "transfer-encoding",
            "host",
            "authorization",
            "if-match",
            "proxy-authorization",
            "x-forwarded-for",
            "content-type",
            "set-cookie",
            "trailer",
        ] {
            assert!(!may_trail(&HeaderName::from_static(name)), "{name}");
            assert!(admitted(field(name, "1")).is_empty(), "{name}");
        }
        for name in [
            "digest",
            "etag",
            "grpc-status",
            "server-timing",
            "x-checksum",
        ] {
            assert!(may_trail(&HeaderName::from_static(name)), "{name}");
            assert_eq!(admitted(field(name, "1")).len(), 1, "{name}");
        }
    }

    #[test]
    fn an_announcement_names_legal_trailers_only() {
        let headers = field("trailer", "X-Sum, content-length,, a b ,etag");
        assert_eq!(announced(&headers), ["x-sum", "etag"]);
        assert_eq!(announced(&HeaderMap::new()).capacity(), 0);
        let mut headers = headers;
        announce(&mut headers, &[]);
        assert!(headers.is_empty());
    }

    #[test]
    fn a_trailer_is_announced_before_the_head_is_sent_or_not_written() {
        let mut ending = Ending {
            trailers: HeaderMap::new(),
            limits: HeadLimits { count: 2, size: 40 },
            head: HeadState::Sent(vec![HeaderName::from_static("x-sum")]),
            answer: None,
        };
        let mut set = |name: &str, value: &[u8]| ending.write(Edit::Set, name, value);
        assert!(set("x-sum", b"1").is_ok());
        assert!(matches!(
            set("x-other", b"1"),
            Err(TrailerError::NotAnnounced)
        ));
        assert!(matches!(
            set("x-sum", b"1\r\n"),
            Err(TrailerError::InvalidValue)
        ));
        assert!(matches!(
            set("x-sum", &[b'x'; 99]),
            Err(TrailerError::TooLarge)
        ));
        assert!(matches!(
            set("content-length", b"1"),
            Err(TrailerError::Forbidden)
        ));
        assert!(matches!(set("cookie", b"1"), Err(TrailerError::Forbidden)));
        assert!(matches!(set(":path", b"1"), Err(TrailerError::InvalidName)));
        ending.head = HeadState::Held;
        assert!(ending.write(Edit::Append, "x-other", b"1").is_ok());
    }
}
