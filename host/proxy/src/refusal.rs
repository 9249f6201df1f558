//! What clients are refused for, counted by listener and by a fixed set of reasons: an attacker adds to a number, and never
//! to how many there are. `docs/limits.md` lists them.

use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;

use crate::failure::{Failure, Side};
use crate::framing::Refusal;

/// Why a client was refused: a request, a stream of HTTP/2, or its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    BadHead,
    BadLine,
    AmbiguousLength,
    BadChunk,
    BadBody,
    HeaderTooLarge,
    BodyTooLarge,
    Unsupported,
    Loop,
    TooManyConnections,
    TooManyUpgrades,
    SlowHead,
    SlowBody,
    SlowReader,
    Flood,
    Http2Abuse,
    Http2Error,
    ProxyProtocol,
}

impl Reason {
    pub(crate) const ALL: [Self; 18] = [
        Self::BadHead,
        Self::BadLine,
        Self::AmbiguousLength,
        Self::BadChunk,
        Self::BadBody,
        Self::HeaderTooLarge,
        Self::BodyTooLarge,
        Self::Unsupported,
        Self::Loop,
        Self::TooManyConnections,
        Self::TooManyUpgrades,
        Self::SlowHead,
        Self::SlowBody,
        Self::SlowReader,
        Self::Flood,
        Self::Http2Abuse,
        Self::Http2Error,
        Self::ProxyProtocol,
    ];

    /// The label `reason`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::BadHead => "bad-head",
            Self::BadLine => "bad-line",
            Self::AmbiguousLength => "ambiguous-length",
            Self::BadChunk => "bad-chunk",
            Self::BadBody => "bad-body",
            Self::HeaderTooLarge => "header-too-large",
            Self::BodyTooLarge => "body-too-large",
            Self::Unsupported => "unsupported",
            Self::Loop => "loop",
            Self::TooManyConnections => "too-many-connections",
            Self::TooManyUpgrades => "too-many-upgrades",
            Self::SlowHead => "slow-head",
            Self::SlowBody => "slow-body",
            Self::SlowReader => "slow-reader",
            Self::Flood => "flood",
            Self::Http2Abuse => "http2-abuse",
            Self::Http2Error => "http2-error",
            Self::ProxyProtocol => "proxy-protocol",
        }
    }

    /// That of an exchange which failed; `None` when the client is not to blame, or only asked for what is not there.
    pub(crate) fn of(failure: &Failure) -> Option<Self> {
        match (failure.side, failure.status) {
            (Side::Client, StatusCode::NOT_FOUND) => None,
            (Side::Client, StatusCode::PAYLOAD_TOO_LARGE) => Some(Self::BodyTooLarge),
            (Side::Client, StatusCode::REQUEST_TIMEOUT) => Some(Self::SlowBody),
            (Side::Client, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE) => {
                Some(Self::HeaderTooLarge)
            }
            (Side::Client, StatusCode::TOO_MANY_REQUESTS) => Some(Self::TooManyUpgrades),
            (Side::Client, StatusCode::LOOP_DETECTED) => Some(Self::Loop),
            (Side::Client, StatusCode::BAD_REQUEST) if failure.is_of_body => Some(Self::BadBody),
            (Side::Client, StatusCode::BAD_REQUEST) => Some(Self::BadHead),
            (Side::Client, _) => Some(Self::Unsupported),
            (Side::Plugin | Side::Upstream | Side::Host, _) => None,
        }
    }

    /// That of an error with which a connection ended: of what hyper or h2 refuse by themselves.
    pub(crate) fn of_connection(error: &hyper::Error) -> Option<Self> {
        if error.is_parse_too_large() {
            return Some(Self::HeaderTooLarge);
        }
        if error.is_parse() {
            return Some(Self::BadHead);
        }
        let source = std::error::Error::source(error)?;
        let error = source.downcast_ref::<h2::Error>()?;
        // What the client itself ended is no refusal.
        match error.reason().filter(|_| error.is_library()) {
            Some(h2::Reason::ENHANCE_YOUR_CALM) => Some(Self::Http2Abuse),
            Some(h2::Reason::NO_ERROR) | None => None,
            Some(_) => Some(Self::Http2Error),
        }
    }
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::BareLineFeed | Refusal::BlankLines | Refusal::FoldedLine => Self::BadLine,
            Refusal::BadLength
            | Refusal::RepeatedLength
            | Refusal::UnknownCoding
            | Refusal::RepeatedCoding
            | Refusal::LengthAndCoding => Self::AmbiguousLength,
            Refusal::BadChunkSize | Refusal::BadChunkExtension => Self::BadChunk,
        }
    }
}

/// How often, on one listener and all its workers.
#[derive(Debug, Default)]
pub(crate) struct Refusals([AtomicU64; Reason::ALL.len()]);

impl Refusals {
    pub(crate) fn count(&self, reason: Reason) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counted(&self) -> impl Iterator<Item = (Reason, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        Reason::ALL.into_iter().zip(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_count_and_name() {
        let refusals = Refusals::default();
        for (times, reason) in Reason::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| refusals.count(reason));
        }
        let counted: Vec<_> = refusals.counted().collect();
        for (times, (reason, count)) in (0u64..).zip(&counted) {
            assert_eq!(*count, times, "{reason:?}");
            let same = counted
                .iter()
                .filter(|(other, _)| other.as_str() == reason.as_str());
            assert_eq!(same.count(), 1, "{reason:?}");
        }
    }

    #[test]
    fn whose_fault_it_is_decides_whether_it_is_a_refusal() {
        let of = |failure: Failure| Reason::of(&failure).map(Reason::as_str);
        assert_eq!(of(Failure::bad_request("x")), Some("bad-head"));
        assert_eq!(of(Failure::bad_gateway("x")), None);
        let client = |status| of(Failure::client(status, "x"));
        assert_eq!(client(StatusCode::NOT_FOUND), None);
        assert_eq!(
            client(StatusCode::PAYLOAD_TOO_LARGE),
            Some("body-too-large")
        );
        assert_eq!(client(StatusCode::METHOD_NOT_ALLOWED), Some("unsupported"));
        assert_eq!(
            of(Failure::host(StatusCode::SERVICE_UNAVAILABLE, "x")),
            None
        );
    }
}
