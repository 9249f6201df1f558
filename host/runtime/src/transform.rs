//! A body's way through a plugin.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::ResourceAny;

use crate::failure::{FailureKind, PluginFailure};
use crate::slot::Slot;
use crate::worker_plugin::WorkerPlugin;

/// One body's way through a plugin.
#[derive(Debug)]
pub struct BodyTransform {
    plugin: Rc<WorkerPlugin>,
    slot: Arc<Slot>,
    resource: ResourceAny,
    body_of: (Arc<str>, Arc<str>),
}

/// Largest piece that is handed to a guest at once (`transform.push`).
const MAX_CHUNK: usize = 65_536;

impl BodyTransform {
    pub(crate) fn new(
        plugin: Rc<WorkerPlugin>,
        slot: Arc<Slot>,
        resource: ResourceAny,
        body_of: (Arc<str>, Arc<str>),
    ) -> Self {
        Self {
            plugin,
            slot,
            resource,
            body_of,
        }
    }

    /// Passes a piece of the body through the plugin; the result may be empty.
    ///
    /// # Errors
    ///
    /// When the plugin fails; the body cannot be continued then.
    pub async fn push(&mut self, mut bytes: Bytes) -> Result<Bytes, PluginFailure> {
        if bytes.len() <= MAX_CHUNK {
            return self.push_chunk(bytes).await;
        }
        let mut out = Vec::with_capacity(bytes.len());
        while !bytes.is_empty() {
            let chunk = bytes.split_to(bytes.len().min(MAX_CHUNK));
            out.extend_from_slice(&self.push_chunk(chunk).await?);
        }
        Ok(out.into())
    }

    async fn push_chunk(&mut self, chunk: Bytes) -> Result<Bytes, PluginFailure> {
        if chunk.is_empty() {
            return Ok(chunk);
        }
        let mut instance = self.slot.instance.lock().await;
        let pushed = match instance.is_usable() {
            true => instance.push(self.resource, chunk, &self.body_of).await,
            false => Err(FailureKind::LostInstance),
        };
        self.plugin.judge("transform.push", pushed)
    }

    /// The body has ended: what is still to be sent.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub async fn finish(self) -> Result<Bytes, PluginFailure> {
        let mut instance = self.slot.instance.lock().await;
        let finished = match instance.is_usable() {
            true => instance.finish(self.resource, &self.body_of).await,
            false => Err(FailureKind::LostInstance),
        };
        drop(instance);
        self.plugin.judge("transform.finish", finished)
    }

    /// Bytes of a body that may be held back for this plugin.
    pub fn held_body_limit(&self) -> usize {
        self.plugin.plugin().limits().held_body
    }

    /// The failure of a held body that grew over its limit.
    pub fn held_body_exceeded(&self) -> PluginFailure {
        self.plugin.failure(
            "transform.push",
            FailureKind::HeldBody(self.held_body_limit()),
        )
    }
}

impl Drop for BodyTransform {
    fn drop(&mut self) {
        self.slot.end(self.resource);
    }
}
