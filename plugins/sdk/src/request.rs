use crate::bindings::witgate::plugin::request;
use crate::head::{HeadError, header_methods};

/// The head of the current exchange's request.
///
/// Readable in every hook; [`RequestHook`](crate::RequestHook) hands it out for writing, later hooks do not, because
/// the request has been sent by then. It has no size: each method asks the host, and nothing is copied into the
/// sandbox but what is asked for.
#[derive(Debug)]
pub struct Request(());

impl Request {
    /// The method, case as sent: `GET`.
    pub fn method(&self) -> String {
        request::method()
    }

    /// Host and optional port that the upstream will see: the client's until [`set_authority`](Self::set_authority).
    pub fn authority(&self) -> String {
        request::authority()
    }

    /// Sets the authority (HTTP/1.1 `Host`) that the upstream sees.
    ///
    /// # Errors
    ///
    /// `InvalidValue` unless it is a host and optional port by RFC 3986 §3.2.2.
    pub fn set_authority(&mut self, authority: &str) -> Result<(), HeadError> {
        request::set_authority(authority).map_err(|e| HeadError::new("authority", e))
    }

    /// Sends the authority of whichever endpoint is chosen, as it stands in the upstream's configuration. A later
    /// [`set_authority`](Self::set_authority) takes this back.
    pub fn use_upstream_authority(&mut self) {
        request::use_upstream_authority();
    }

    /// Path and query that the upstream will see: `/json/version?x=1`.
    pub fn path_with_query(&self) -> String {
        request::path_with_query()
    }

    /// Path that the upstream will see, without the query.
    pub fn path(&self) -> String {
        let mut target = request::path_with_query();
        if let Some(end) = target.find('?') {
            target.truncate(end);
        }
        target
    }

    /// Replaces path and query. The route stays as chosen.
    ///
    /// # Errors
    ///
    /// `InvalidValue` unless it starts with `/` and is a legal path and query by RFC 3986 §3.3 and §3.4.
    pub fn set_path_with_query(&mut self, path_with_query: &str) -> Result<(), HeadError> {
        request::set_path_with_query(path_with_query)
            .map_err(|e| HeadError::new("path-with-query", e))
    }

    /// Protocol the client wants to upgrade to (RFC 9110 §7.8), lower case: `websocket`.
    pub fn upgrade(&self) -> Option<String> {
        request::upgrade()
    }

    header_methods!(request);

    /// Only a hook's caller makes one, so that none exists outside a hook.
    pub(crate) fn current() -> Self {
        Self(())
    }
}
