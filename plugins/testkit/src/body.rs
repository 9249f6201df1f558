use std::fmt;

use bytes::Bytes;
use http::HeaderMap;
use witgate_runtime::{BodyTransform, Finished, HeldEnd, PluginFailure};

use crate::Exchange;
use crate::plugin::Stage;

/// A body on its way through a plugin's transform.
pub struct Body {
    transform: BodyTransform,
    /// Bytes that came out.
    out: usize,
    stage: Stage,
}

impl Body {
    pub(crate) fn new(transform: BodyTransform, stage: Stage) -> Self {
        Self {
            transform,
            out: 0,
            stage,
        }
    }

    /// Sends a whole body in these chunks and gives what came out, all together.
    ///
    /// # Panics
    ///
    /// When the plugin fails.
    pub fn send<'a>(mut self, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut out = Vec::new();
        for chunk in chunks {
            out.extend_from_slice(&self.push(chunk));
        }
        out.extend_from_slice(&self.finish());
        out
    }

    /// Sends one chunk and gives what came out for it.
    ///
    /// # Panics
    ///
    /// When the plugin fails.
    pub fn push(&mut self, chunk: &[u8]) -> Bytes {
        self.try_push(chunk)
            .unwrap_or_else(|failure| self.stage.fail(&failure))
    }

    /// Sends one chunk and gives what came out for it.
    ///
    /// # Errors
    ///
    /// When the plugin traps, exceeds a limit or returns a failure.
    pub fn try_push(&mut self, chunk: &[u8]) -> Result<Bytes, PluginFailure> {
        let pushed = self.transform.push(Bytes::copy_from_slice(chunk));
        let out = self.stage.run(pushed)?;
        self.out += out.len();
        Ok(out)
    }

    /// Ends the body and gives what was still to come.
    ///
    /// # Panics
    ///
    /// When the plugin fails.
    pub fn finish(self) -> Bytes {
        let stage = self.stage.clone();
        self.try_finish()
            .unwrap_or_else(|failure| stage.fail(&failure))
    }

    /// Ends the body and gives what was still to come.
    ///
    /// # Errors
    ///
    /// As [`try_push`](Self::try_push).
    pub fn try_finish(self) -> Result<Bytes, PluginFailure> {
        Ok(self.try_finish_before(&[])?.bytes)
    }

    /// Ends a body that is sent on as it comes, and is followed by these trailers.
    ///
    /// # Panics
    ///
    /// When the plugin fails, and on an illegal trailer.
    pub fn finish_before(self, trailers: &[(&str, &str)]) -> Finished {
        let stage = self.stage.clone();
        self.try_finish_before(trailers)
            .unwrap_or_else(|failure| stage.fail(&failure))
    }

    fn try_finish_before(self, trailers: &[(&str, &str)]) -> Result<Finished, PluginFailure> {
        self.stage.run(self.transform.finish(fields(trailers)))
    }

    /// Ends a body that is held back (the verdict `hold`), followed by these trailers. The plugin can still edit the
    /// exchange: its response if it has one, its request otherwise.
    ///
    /// # Panics
    ///
    /// When the plugin fails, and on an illegal trailer.
    pub fn finish_held(self, exchange: &mut Exchange, trailers: &[(&str, &str)]) -> HeldEnd {
        let stage = self.stage.clone();
        self.try_finish_held(exchange, trailers)
            .unwrap_or_else(|failure| stage.fail(&failure))
    }

    /// As [`finish_held`](Self::finish_held).
    ///
    /// # Errors
    ///
    /// As [`try_push`](Self::try_push).
    pub fn try_finish_held(
        self,
        exchange: &mut Exchange,
        trailers: &[(&str, &str)],
    ) -> Result<HeldEnd, PluginFailure> {
        let Self {
            transform,
            out,
            stage,
        } = self;
        let trailers = fields(trailers);
        exchange.lend_to(|lent| stage.run(transform.finish_held(out, lent, trailers)))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}

fn fields(fields: &[(&str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&str, &str)| {
        (
            name.parse::<http::HeaderName>().expect("a legal name"),
            value.parse::<http::HeaderValue>().expect("a legal value"),
        )
    };
    fields.iter().map(field).collect()
}
