use crate::bindings::witgate::plugin::types;

/// A response that a plugin makes itself.
///
/// ```
/// # use witgate_plugin::Reply;
/// let reply = Reply::new(401).header("www-authenticate", "Bearer").json(r#"{"error":"invalid bearer"}"#);
/// ```
///
/// The host checks it before it sends it: a status outside 200..=599, an illegal header, a framing header
/// (`Content-Length`, `Connection`, …) or a file outside the granted mounts is a failure of the plugin. `Date` and the
/// framing are the host's.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<types::Header>,
    body: types::ReplyBody,
}

impl Reply {
    /// A reply without headers and with an empty body. 204 and 304 go out without a body, whatever is set here.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: types::ReplyBody::Empty,
        }
    }

    /// Adds a header; a name may occur several times.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(types::Header {
            name: name.into(),
            value: value.into(),
        });
        self
    }

    /// Sets the body, without a `Content-Type`.
    pub fn bytes(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = types::ReplyBody::Bytes(body.into());
        self
    }

    /// Sets a body that already is JSON, and its `Content-Type`.
    pub fn json(self, body: impl Into<Vec<u8>>) -> Self {
        self.header("content-type", "application/json").bytes(body)
    }

    /// Sets a body of UTF-8 text, and its `Content-Type`.
    pub fn text(self, body: impl Into<String>) -> Self {
        self.header("content-type", "text/plain; charset=utf-8")
            .bytes(body.into())
    }

    /// Lets the host open and stream a file; its bytes never enter the sandbox. With status 200 the host adds
    /// `Content-Length`, `ETag`, `Last-Modified` and `Accept-Ranges`, and answers conditional and range requests and
    /// HEAD on its own.
    pub fn file(mut self, file: impl Into<File>) -> Self {
        self.body = types::ReplyBody::File(file.into().0);
        self
    }

    pub(crate) fn into_wit(self) -> types::Reply {
        types::Reply {
            status: self.status,
            headers: self.headers,
            body: self.body,
        }
    }
}

/// A file under one of the plugin's granted mounts, for [`Reply::file`].
///
/// ```
/// # use witgate_plugin::{File, Reply};
/// let file = File::new("/snapshots/state.json").or_not_found("application/json", r#"{"error":"not yet"}"#);
/// let reply = Reply::new(200).header("content-type", "application/json").file(file);
/// ```
#[derive(Debug, Clone)]
pub struct File(types::File);

impl File {
    /// The file at this absolute path, as the plugin sees it. A path that leaves the mount, by `..` or by a symbolic
    /// link, is a failure of the plugin. A missing file becomes an empty 404.
    pub fn new(path: impl Into<String>) -> Self {
        Self(types::File {
            path: path.into(),
            not_found: None,
            stale: None,
        })
    }

    /// What the client gets, with status 404 and the reply's own headers, when the file does not exist.
    pub fn or_not_found(
        mut self,
        content_type: impl Into<String>,
        body: impl Into<Vec<u8>>,
    ) -> Self {
        self.0.not_found = Some(types::NotFound {
            content_type: content_type.into(),
            body: body.into(),
        });
        self
    }

    /// Lets the age of the file at `of` count, which may be this one or another that this one speaks of. When it was
    /// last modified more than `after_seconds` ago or does not exist, the reply's status becomes `status`, which also
    /// takes the place of 404 when this file is missing. The host adds `Age` in seconds.
    pub fn or_stale(mut self, of: impl Into<String>, after_seconds: u64, status: u16) -> Self {
        self.0.stale = Some(types::Stale {
            of: of.into(),
            after_seconds,
            status,
        });
        self
    }
}

impl From<&str> for File {
    fn from(path: &str) -> Self {
        Self::new(path)
    }
}

impl From<String> for File {
    fn from(path: String) -> Self {
        Self::new(path)
    }
}
