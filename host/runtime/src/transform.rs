//! A body's way through a plugin.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use wasmtime::component::ResourceAny;

use crate::exchange::{Exchange, HeadLimits, Passing};
use crate::failure::{FailureKind, PluginFailure};
use crate::instance::Phase;
use crate::slot::Slot;
use crate::trailers::{Ending, HeadState, announced};
use crate::verdict::Reply;
use crate::worker_plugin::WorkerPlugin;

/// One body's way through a plugin.
#[derive(Debug)]
pub struct BodyTransform {
    plugin: Rc<WorkerPlugin>,
    slot: Arc<Slot>,
    resource: ResourceAny,
    of: Arc<Passing>,
    /// What the head had announced when the plugin returned this.
    announced: Vec<HeaderName>,
    limits: HeadLimits,
}

/// The end of a body that passed through a plugin.
#[derive(Debug, Default)]
pub struct Finished {
    /// What is still to be sent; may be empty.
    pub bytes: Bytes,
    /// What follows the body. None of them frames or routes.
    pub trailers: HeaderMap,
}

/// What becomes of a message whose body was held back.
#[derive(Debug)]
pub enum HeldEnd {
    /// It goes on, with this at its body's end.
    Body(Finished),
    /// This is sent instead.
    Answer(Reply),
}

/// Largest piece that is handed to a guest at once (`transform.push`).
const MAX_CHUNK: usize = 65_536;

impl BodyTransform {
    pub(crate) fn new(
        plugin: Rc<WorkerPlugin>,
        slot: Arc<Slot>,
        resource: ResourceAny,
        exchange: &Exchange,
    ) -> Self {
        let headers = match &exchange.response {
            Some(response) => &response.headers,
            None => &exchange.request.headers,
        };
        Self {
            plugin,
            slot,
            resource,
            of: Arc::new(exchange.into()),
            announced: announced(headers),
            limits: exchange.limits,
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
        let mut instance = self.slot.take().await;
        let pushed = match instance.is_usable() {
            true => instance.push(self.resource, chunk, &self.of).await,
            false => Err(FailureKind::LostInstance),
        };
        self.plugin.judge("transform.push", pushed)
    }

    /// The body has ended, followed by these trailers, and its head has been sent.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub async fn finish(mut self, trailers: HeaderMap) -> Result<Finished, PluginFailure> {
        let head = HeadState::Sent(std::mem::take(&mut self.announced));
        let phase = Phase::Other("transform.finish");
        let (_, finished) = self.end(phase, head, trailers).await;
        let finished = finished.map(|(bytes, ending)| Finished {
            bytes,
            trailers: ending.trailers,
        });
        self.plugin.judge("transform.finish", finished)
    }

    /// The body has ended, followed by these trailers, and its head is held back: that of the response if the exchange
    /// has one. The exchange comes back whatever happened, with the edits made until then. `before`: the bytes of the
    /// body that are held already.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push), and when the plugin answers what cannot be sent or the body gets too large to be held.
    pub async fn finish_held(
        self,
        before: usize,
        mut exchange: Box<Exchange>,
        trailers: HeaderMap,
    ) -> (Box<Exchange>, Result<HeldEnd, PluginFailure>) {
        // An instance must not hold itself by the exchange that it is lent.
        let own = exchange.own_instances.take(self.plugin.plugin());
        let phase = match &exchange.response {
            Some(_) => Phase::Response(exchange),
            None => Phase::Request(exchange),
        };
        let (phase, finished) = self.end(phase, HeadState::Held, trailers).await;
        let end = finished.and_then(|(bytes, ending)| match ending.answer {
            Some(reply) => {
                let reply = Reply::check(reply).map_err(FailureKind::BadResult)?;
                Ok(HeldEnd::Answer(reply))
            }
            None if before.saturating_add(bytes.len()) > self.held_body_limit() => {
                Err(FailureKind::HeldBody(self.held_body_limit()))
            }
            None => Ok(HeldEnd::Body(Finished {
                bytes,
                trailers: ending.trailers,
            })),
        });
        let end = self.plugin.judge("transform.finish", end);
        let mut exchange = phase.into_exchange();
        if let Some(own) = own {
            exchange
                .own_instances
                .put(self.plugin.plugin().clone(), own);
        }
        (exchange, end)
    }

    async fn end(
        &self,
        phase: Phase,
        head: HeadState,
        trailers: HeaderMap,
    ) -> (Phase, Result<(Bytes, Ending), FailureKind>) {
        let ending = Ending {
            trailers,
            limits: self.limits,
            head,
            answer: None,
        };
        let mut instance = self.slot.take().await;
        if !instance.is_usable() {
            return (phase, Err(FailureKind::LostInstance));
        }
        instance
            .finish(self.resource, &self.of, phase, ending)
            .await
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
