use crate::bindings::witgate::plugin::response;
use crate::head::{HeadError, header_methods};

/// The head of the current exchange's response, as [`ResponseHook`](crate::ResponseHook) gets it.
///
/// It has no size: each method asks the host.
#[derive(Debug)]
pub struct Response(());

impl Response {
    /// The status code; 101 for a granted upgrade.
    pub fn status(&self) -> u16 {
        response::status()
    }

    /// Replaces the status code.
    ///
    /// # Errors
    ///
    /// `InvalidValue` outside 200..=599, and always when the status is 101.
    pub fn set_status(&mut self, status: u16) -> Result<(), HeadError> {
        response::set_status(status).map_err(|e| HeadError::new("status", e))
    }

    /// Ends the client's connection after this response (`Connection: close`, RFC 9112 §9.6). Does nothing to a
    /// granted upgrade.
    pub fn end_connection(&mut self) {
        response::end_connection();
    }

    header_methods!(response);

    /// Only a hook's caller makes one, so that none exists outside a hook.
    pub(crate) fn current() -> Self {
        Self(())
    }
}
