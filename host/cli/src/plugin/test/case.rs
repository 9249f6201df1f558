//! What a test file says, read and valid.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::Value;
use witgate_proxy::config::Location;
use witgate_testkit::{Direction, Message, Scheme};

/// A test file.
pub(crate) struct Suite {
    pub(crate) file: PathBuf,
    pub(crate) cases: Vec<Case>,
}

/// One `[[test]]`.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) location: Location,
    pub(crate) config: Value,
    pub(crate) grants: Grants,
    /// What answers the requests that the plugin sends itself.
    pub(crate) upstream: Vec<Answer>,
    /// Path and a part of the message of each mistake that the plugin is to find; then there are no exchanges.
    pub(crate) config_errors: Option<Vec<(String, String)>>,
    pub(crate) exchanges: Vec<Exchange>,
}

#[derive(Default)]
pub(crate) struct Grants {
    /// What is in the store before.
    pub(crate) keyvalue: Option<Vec<(String, String)>>,
    /// Series.
    pub(crate) metrics: Option<usize>,
    pub(crate) secrets: Vec<(String, String)>,
    pub(crate) origins: Vec<String>,
}

/// `[[test.upstream]]`
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) method: Method,
    /// With the origin.
    pub(crate) url: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Vec<u8>,
}

/// One exchange and what is to become of it.
pub(crate) struct Exchange {
    /// What passes on the plugin's clock before.
    pub(crate) after: Duration,
    pub(crate) request: Request,
    pub(crate) response: Option<Response>,
    pub(crate) messages: Vec<Sent>,
    pub(crate) end: Option<Ending>,
    pub(crate) expect: Expect,
}

#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) authority: String,
    pub(crate) scheme: Scheme,
    /// `None`: 192.0.2.7.
    pub(crate) client: Option<IpAddr>,
    pub(crate) upgrade: Option<String>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// In these pieces.
    pub(crate) body: Vec<Vec<u8>>,
    /// Plugin, note and value.
    pub(crate) attributes: Vec<(String, String, String)>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            method: Method::GET,
            path: "/".into(),
            authority: "example.com".into(),
            scheme: Scheme::Http,
            client: None,
            upgrade: None,
            headers: Vec::new(),
            body: Vec::new(),
            attributes: Vec::new(),
        }
    }
}

#[derive(Default)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// In these pieces.
    pub(crate) body: Vec<Vec<u8>>,
}

/// A message of a WebSocket.
pub(crate) struct Sent {
    pub(crate) direction: Direction,
    pub(crate) message: Message,
    pub(crate) expect: Option<Fate>,
}

/// What is to become of a message.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    Forward,
    Drop,
    Replace(Message),
    Reply(Message),
    Close(u16),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Ending {
    Complete,
    ClientLeft,
    Failed,
}

/// `expect`
#[derive(Default)]
pub(crate) struct Expect {
    pub(crate) request: Option<Expected>,
    pub(crate) response: Option<Expected>,
    pub(crate) reply: Option<Expected>,
    /// `None`: there is no such note.
    pub(crate) attributes: Vec<(String, Option<String>)>,
    /// Words that a line of the log holds, each in another or the same line.
    pub(crate) log: Vec<String>,
    /// The most fuel that its hooks may use.
    pub(crate) cost: Option<u64>,
    /// A part of what is said of the failure.
    pub(crate) failure: Option<String>,
    pub(crate) keyvalue: Vec<(String, Option<String>)>,
}

/// What is expected of a message's head and body; what is not named may be anything.
#[derive(Default)]
pub(crate) struct Expected {
    pub(crate) verdict: Option<&'static str>,
    pub(crate) path: Option<String>,
    pub(crate) authority: Option<String>,
    pub(crate) status: Option<StatusCode>,
    /// No values: there is no such field.
    pub(crate) headers: Vec<(String, Vec<String>)>,
    pub(crate) body: Option<Vec<u8>>,
    /// A file that the host is to serve.
    pub(crate) file: Option<String>,
}
