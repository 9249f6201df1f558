//! What a hook decided, checked.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::bindings::types;
use crate::head;
use crate::transform::BodyTransform;

/// What a hook returned. Most return [`Next`](Self::Next), so that the others are in boxes: a verdict is moved through every
/// stage of a call.
#[derive(Debug)]
pub enum Verdict {
    /// Go on.
    Next,
    /// Send this instead.
    Answer(Box<Reply>),
    /// Go on and pass the body through this, as it comes.
    Transform(Box<BodyTransform>),
    /// Go on and pass the body through this, holding the head back until the body has been seen whole.
    Hold(Box<BodyTransform>),
}

impl Verdict {
    /// What can be returned besides [`Next`](Self::Next), in one word each.
    pub const LABELS: [&str; 3] = ["answer", "transform", "hold"];

    /// Place among [`LABELS`](Self::LABELS).
    pub(crate) fn index(&self) -> Option<usize> {
        match self {
            Self::Next => None,
            Self::Answer(_) => Some(0),
            Self::Transform(_) => Some(1),
            Self::Hold(_) => Some(2),
        }
    }

    pub(crate) fn label(&self) -> &'static str {
        self.index().map_or("next", |at| Self::LABELS[at])
    }
}

/// A response that a plugin made, fit to be sent.
#[derive(Debug)]
pub struct Reply {
    /// 200..=599
    pub status: StatusCode,
    /// Without framing fields.
    pub headers: HeaderMap,
    /// What follows.
    pub body: ReplyBody,
}

/// The body of a [`Reply`].
#[derive(Debug)]
pub enum ReplyBody {
    /// None.
    Empty,
    /// All of it.
    Bytes(Bytes),
    /// A file under one of the plugin's mounts; the host opens it.
    File(FileReply),
}

/// A file that the host is to serve.
#[derive(Debug)]
pub struct FileReply {
    /// Absolute path as the plugin knows it; not yet checked against the mounts.
    pub path: String,
    /// What to send, with 404, when there is no such file.
    pub not_found: Option<NotFound>,
    /// What changes when it is too old.
    pub stale: Option<Stale>,
}

/// A limit on the age of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// Absolute path, as the plugin knows it, of the file whose age counts; not yet checked against the mounts.
    pub of: String,
    /// The largest age that is still fresh.
    pub after: Duration,
    /// The status when it is stale or the file to send is missing: 200..=599.
    pub status: StatusCode,
}

/// The 404 in place of a missing file.
#[derive(Debug)]
pub struct NotFound {
    /// `Content-Type`
    pub content_type: HeaderValue,
    /// The body.
    pub body: Bytes,
}

/// Header fields of one reply. Clients and proxies take 100 to a few hundred.
const MAX_HEADERS: usize = 256;

impl Reply {
    /// Checks what a guest returned. The error says what cannot be sent.
    pub(crate) fn check(reply: types::Reply) -> Result<Self, String> {
        let status = status(reply.status)?;
        if reply.headers.len() > MAX_HEADERS {
            return Err(format!(
                "{} headers, over the {MAX_HEADERS} of a reply",
                reply.headers.len()
            ));
        }
        let mut headers = HeaderMap::with_capacity(reply.headers.len());
        for header in reply.headers {
            let name = header.name;
            let refused = |e| format!("the header {name:?}: {}", explain(&e));
            headers.append(
                head::writable_name(&name).map_err(refused)?,
                head::value(&header.value).map_err(refused)?,
            );
        }
        let body = match reply.body {
            types::ReplyBody::Empty => ReplyBody::Empty,
            types::ReplyBody::Bytes(bytes) => ReplyBody::Bytes(bytes.into()),
            types::ReplyBody::File(file) => {
                let not_found = file.not_found.map(NotFound::check).transpose()?;
                ReplyBody::File(FileReply {
                    path: file.path,
                    not_found,
                    stale: file.stale.map(Stale::check).transpose()?,
                })
            }
        };
        Ok(Self {
            status,
            headers,
            body,
        })
    }
}

fn status(status: u16) -> Result<StatusCode, String> {
    StatusCode::from_u16(status)
        .ok()
        .filter(|_| (200..=599).contains(&status))
        .ok_or_else(|| format!("a status of {status}, which is outside 200..=599"))
}

impl Stale {
    fn check(stale: types::Stale) -> Result<Self, String> {
        Ok(Self {
            of: stale.of,
            after: Duration::from_secs(stale.after_seconds),
            status: status(stale.status)?,
        })
    }
}

impl NotFound {
    fn check(not_found: types::NotFound) -> Result<Self, String> {
        let refused = |e| format!("the `content-type` of `not-found`: {}", explain(&e));
        let content_type = head::value(not_found.content_type.as_bytes()).map_err(refused)?;
        Ok(Self {
            content_type,
            body: not_found.body.into(),
        })
    }
}

fn explain(error: &types::HeadError) -> &'static str {
    match error {
        types::HeadError::InvalidName => "not a legal name",
        types::HeadError::InvalidValue => "not a legal value",
        types::HeadError::Forbidden => "the host owns this field",
        types::HeadError::TooLarge => "too large",
    }
}
