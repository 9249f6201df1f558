use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use witgate_runtime::{
    Attributes, Facts, HeadLimits, OwnInstances, PluginFailure, ResponseHead, Scheme,
};

use crate::plugin::Stage;
use crate::{PLUGIN_NAME, Verdict};

/// One request and, from [`response`](Self::response) on, its response. Made by a test, edited by the plugin, and read
/// by the test afterwards.
#[derive(Debug)]
pub struct Exchange {
    /// `None` only while a plugin has it.
    inner: Option<Box<witgate_runtime::Exchange>>,
}

/// What a listener takes by default.
const HEAD_LIMITS: HeadLimits = HeadLimits {
    count: 100,
    size: 64 << 10,
};

/// A client of documentation (RFC 5737).
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const PORT: u16 = 51324;

/// # Making one
///
/// The parts that take text panic on what could not have come out of a parser of HTTP.
impl Exchange {
    /// A request for `path_with_query` by plain HTTP from 192.0.2.7, without any header.
    pub fn new(method: &str, path_with_query: &str) -> Self {
        let (mut request, ()) = http::Request::new(()).into_parts();
        request.method = Method::from_bytes(method.as_bytes()).expect("a legal method");
        request.uri = path_with_query.parse().expect("a legal path and query");
        let facts = Facts {
            id: "test-exchange".into(),
            listener: "test-listener".into(),
            route: "test-route".into(),
            peer: SocketAddr::new(CLIENT, PORT).into(),
            client: CLIENT.into(),
            client_scheme: Scheme::Http,
            client_authority: "".into(),
            client_path_with_query: path_with_query.into(),
            upgrade: None,
        };
        let inner = witgate_runtime::Exchange {
            facts,
            request,
            use_upstream_authority: false,
            response: None,
            attributes: Attributes::default(),
            limits: HEAD_LIMITS,
            own_instances: OwnInstances::default(),
        };
        Self {
            inner: Some(Box::new(inner)),
        }
    }

    /// [`new`](Self::new) with the method GET.
    pub fn get(path_with_query: &str) -> Self {
        Self::new("GET", path_with_query)
    }

    /// The host and optional port that the client sent.
    #[must_use]
    pub fn authority(mut self, authority: &str) -> Self {
        self.inner_mut().facts.client_authority = authority.into();
        self.inner_mut()
            .request
            .headers
            .insert(HOST, value(authority.as_bytes()));
        self
    }

    /// The address of the client, which is the peer as well.
    #[must_use]
    pub fn client(mut self, address: IpAddr) -> Self {
        let facts = &mut self.inner_mut().facts;
        facts.client = address.into();
        facts.peer = SocketAddr::new(address, PORT).into();
        self
    }

    /// The scheme that the client used.
    #[must_use]
    pub fn scheme(mut self, scheme: Scheme) -> Self {
        self.inner_mut().facts.client_scheme = scheme;
        self
    }

    /// The path and query that the client sent, where the route's `strip-prefix` has made another of it.
    #[must_use]
    pub fn client_path_with_query(mut self, path_with_query: &str) -> Self {
        self.inner_mut().facts.client_path_with_query = path_with_query.into();
        self
    }

    /// The protocol that the client wants to upgrade to.
    #[must_use]
    pub fn upgrade(mut self, protocol: &str) -> Self {
        self.inner_mut().facts.upgrade = Some(protocol.into());
        self
    }

    /// Adds a header to the request.
    #[must_use]
    pub fn header(mut self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        self.inner_mut()
            .request
            .headers
            .append(self::name(name), value(bytes.as_ref()));
        self
    }

    /// Leaves a note of another plugin on it.
    ///
    /// The name is 1 to 64 characters of `a`–`z`, `0`–`9`, `-` and `_`, the value at most 1,024 bytes.
    #[must_use]
    pub fn note_of(mut self, plugin: &str, note: &str, value: &str) -> Self {
        let attributes = &self.inner_mut().attributes;
        attributes.leave(plugin, note, value).expect("a legal note");
        self
    }

    /// Gives it a response with this status and these headers.
    #[must_use]
    pub fn response(mut self, status: u16, headers: &[(&str, &str)]) -> Self {
        let headers = headers
            .iter()
            .map(|(name, bytes)| (self::name(name), value(bytes.as_bytes())));
        self.inner_mut().response = Some(ResponseHead {
            status: StatusCode::from_u16(status).expect("a legal status"),
            headers: headers.collect(),
            end_connection: false,
        });
        self
    }
}

/// # Reading one
impl Exchange {
    /// Host and optional port that the upstream will see; empty for none.
    pub fn upstream_authority(&self) -> &str {
        text(&self.inner().request.headers, "host").unwrap_or_default()
    }

    /// Whether the upstream will see its own authority instead.
    pub fn uses_upstream_authority(&self) -> bool {
        self.inner().use_upstream_authority
    }

    /// Path and query that the upstream will see.
    pub fn path_with_query(&self) -> &str {
        self.inner()
            .request
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str())
    }

    /// The first value of a request header.
    pub fn request_header(&self, name: &str) -> Option<&str> {
        text(&self.inner().request.headers, name)
    }

    /// A note that the plugin left, in a hook or in the transform of a body.
    pub fn attribute(&self, name: &str) -> Option<String> {
        self.inner().attributes.get(PLUGIN_NAME, name)
    }

    /// The response's status.
    pub fn status(&self) -> u16 {
        self.response_head().status.as_u16()
    }

    /// The first value of a response header.
    pub fn response_header(&self, name: &str) -> Option<&str> {
        text(&self.response_head().headers, name)
    }

    /// Whether the connection ends after the response.
    pub fn ends_connection(&self) -> bool {
        self.response_head().end_connection
    }

    /// Everything at once, as the runtime has it.
    pub fn inner(&self) -> &witgate_runtime::Exchange {
        self.inner.as_ref().expect("a plugin gives it back")
    }

    pub(crate) fn into_inner(self) -> Box<witgate_runtime::Exchange> {
        self.inner.expect("a plugin gives it back")
    }

    fn inner_mut(&mut self) -> &mut witgate_runtime::Exchange {
        self.inner.as_mut().expect("a plugin gives it back")
    }

    fn response_head(&self) -> &ResponseHead {
        self.inner()
            .response
            .as_ref()
            .expect("the test gave it a response")
    }

    /// Lends it to a plugin for one call.
    pub(crate) fn lend(
        &mut self,
        call: impl FnOnce(Box<witgate_runtime::Exchange>) -> Called<witgate_runtime::Verdict>,
        stage: &Stage,
    ) -> Result<Verdict, PluginFailure> {
        self.lend_to(call)
            .map(|verdict| Verdict::new(verdict, stage))
    }

    /// Lends it to a plugin for any call.
    pub(crate) fn lend_to<T>(
        &mut self,
        call: impl FnOnce(Box<witgate_runtime::Exchange>) -> (Box<witgate_runtime::Exchange>, T),
    ) -> T {
        let (inner, result) = call(self.inner.take().expect("a plugin gives it back"));
        self.inner = Some(inner);
        result
    }
}

/// What a call gives back.
type Called<T> = (Box<witgate_runtime::Exchange>, Result<T, PluginFailure>);

fn name(name: &str) -> HeaderName {
    HeaderName::from_bytes(name.as_bytes()).expect("a legal header name")
}

fn value(bytes: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(bytes).expect("a legal header value")
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| {
        value
            .to_str()
            .expect("visible ASCII; look at `inner` for the bytes")
    })
}
