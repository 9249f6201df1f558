use std::fmt;

use bytes::Bytes;
use witgate_runtime::{BodyTransform, PluginFailure};

use crate::plugin::Stage;

/// A body on its way through a plugin's transform.
pub struct Body {
    transform: BodyTransform,
    stage: Stage,
}

impl Body {
    pub(crate) fn new(transform: BodyTransform, stage: Stage) -> Self {
        Self { transform, stage }
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
        self.stage
            .run(self.transform.push(Bytes::copy_from_slice(chunk)))
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
        self.stage.run(self.transform.finish())
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}
