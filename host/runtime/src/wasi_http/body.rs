//! Bodies on their way into and out of an instance.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{mpsc, oneshot};
use wasmtime_wasi_http::{Error, WasiBody};

use crate::failure::{FailureKind, PluginFailure};

/// A body that comes from somewhere else piece by piece: what a component reads of a body that cannot leave its thread.
#[derive(Debug)]
pub struct ChannelBody {
    frames: mpsc::Receiver<Result<Frame<Bytes>, Error>>,
    /// Bytes that are still to come, where that is known.
    left: Option<u64>,
    ended: bool,
}

/// The other end of a [`ChannelBody`]. Dropped without [`finish`](Self::finish), the body is cut off.
#[derive(Debug)]
pub struct FrameSender(mpsc::Sender<Result<Frame<Bytes>, Error>>);

/// A body and what fills it. `size` is the source's. One piece is under way at a time, so whoever fills it is as slow as
/// whoever reads it.
pub fn channel(size: SizeHint) -> (FrameSender, ChannelBody) {
    let (sender, frames) = mpsc::channel(1);
    let body = ChannelBody {
        frames,
        left: size.exact(),
        ended: false,
    };
    (FrameSender(sender), body)
}

impl FrameSender {
    /// Waits for room, and sends. `false` when nobody reads any more.
    pub async fn send(&self, frame: Result<Frame<Bytes>, Error>) -> bool {
        self.0.send(frame).await.is_ok()
    }

    /// Waits until nobody reads any more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }

    /// The body ends here.
    pub async fn finish(self) {
        // Nobody has to be there to hear it. An empty piece is what no source sends.
        drop(self.0.send(Ok(Frame::data(Bytes::new()))).await);
    }
}

impl Body for ChannelBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(self.frames.poll_recv(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) if frame.data_ref().is_some_and(Bytes::is_empty) => {
                self.ended = true;
                None
            }
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.left = self.left.map(|left| left.saturating_sub(length));
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.ended = true;
                Some(Err(error))
            }
            None => {
                self.ended = true;
                Some(Err(Error::ConnectionTerminated))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map(SizeHint::with_exact).unwrap_or_default()
    }
}

/// How a client left an exchange whose instance may still run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// With the whole response.
    After,
    /// Before its end.
    Before,
}

/// The body of a component's response. Dropping it before its end ends the instance.
pub struct HttpBody {
    inner: WasiBody,
    plugin: Arc<str>,
    failed: Arc<OnceLock<FailureKind>>,
    leave: Option<oneshot::Sender<Leave>>,
    ended: bool,
}

impl HttpBody {
    pub(crate) fn new(
        inner: WasiBody,
        plugin: Arc<str>,
        failed: Arc<OnceLock<FailureKind>>,
        leave: oneshot::Sender<Leave>,
    ) -> Self {
        Self {
            inner,
            plugin,
            failed,
            leave: Some(leave),
            ended: false,
        }
    }

    /// Whether all of it was read. Whoever reads stops at the announced length, without looking for the end.
    fn is_whole(&self) -> bool {
        self.ended || self.inner.is_end_stream() || self.inner.size_hint().exact() == Some(0)
    }

    /// The instance knows better than its body why that ended.
    fn failure(&self, otherwise: Option<FailureKind>) -> Option<PluginFailure> {
        Some(PluginFailure {
            plugin: self.plugin.clone(),
            call: "handle",
            kind: self.failed.get().cloned().or(otherwise)?,
        })
    }
}

impl Body for HttpBody {
    type Data = Bytes;
    type Error = PluginFailure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, PluginFailure>>> {
        let failure = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(frame)) => return Poll::Ready(Some(Ok(frame))),
            Some(Err(error)) => self.failure(Some(FailureKind::Error(error.to_string()))),
            None => self.failure(None),
        };
        self.ended = true;
        Poll::Ready(failure.map(Err))
    }

    fn is_end_stream(&self) -> bool {
        // An instance that failed leaves a body that looks as if it had ended.
        self.is_whole() && self.failed.get().is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for HttpBody {
    fn drop(&mut self) {
        let leave = match self.is_whole() {
            true => Leave::After,
            false => Leave::Before,
        };
        if let Some(sender) = self.leave.take() {
            // An instance that is not there any more does not mind.
            sender.send(leave).ok();
        }
    }
}

impl std::fmt::Debug for HttpBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpBody")
            .field("plugin", &self.plugin)
            .finish_non_exhaustive()
    }
}
