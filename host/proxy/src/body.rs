//! Bodies on their way, in either direction.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};
use witgate_runtime::wasi_http::{HttpBody, HttpError, WasiBody};
use witgate_runtime::{
    BodyTransform, Exchange, Finished, HeldEnd, PluginFailure, Reply, admitted_trailers,
};

use crate::alarm::Pause;
use crate::compress::{Compressed, Encoder};
use crate::file::FileBody;
use crate::upstream::{Lease, Waits};

/// A body: of one piece, from a connection, from a file, or one of these passed through a plugin.
///
/// It is part of a message that is moved from stage to stage, and of every place where a connection keeps one, so it is as
/// small as it can be. `None` when there is none, or all of one piece was taken.
#[derive(Debug)]
pub(crate) struct Body(Option<Box<Kind>>);

#[derive(Debug)]
enum Kind {
    /// Not empty.
    Full(Bytes),
    /// One piece and what follows it, each until it was taken.
    Trailed(Option<Bytes>, Option<HeaderMap>),
    Stream(Stream),
    File(FileBody),
    Transformed(Box<Transformed>),
    Compressed(Box<Compressed>),
    /// Of a component's response.
    Component(Written),
    /// Of a request that a middleware passes on.
    Onward(WasiBody),
    /// One that has begun: what was read of it, until that was taken, and the rest.
    Begun(Option<Read>, Body),
}

/// What was read of a body.
pub(crate) type Read = Result<Frame<Bytes>, BodyError>;

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("{0}")]
    Read(#[from] hyper::Error),
    #[error("nothing came for {0:?}")]
    Stalled(Duration),
    #[error("the route's `timeouts.total` is over")]
    Late,
    #[error("over {0} bytes")]
    TooLarge(u64),
    #[error("{0}")]
    Plugin(#[from] PluginFailure),
    #[error("{0}")]
    File(#[from] std::io::Error),
    #[error("{0}")]
    Onward(#[from] HttpError),
}

/// What became of a body that was held back.
#[derive(Debug)]
pub(crate) enum Held {
    /// It goes on.
    Body(Body),
    /// The plugin answers instead.
    Answer(Box<Reply>),
}

/// How much of an unwanted request body is read, in bytes. More costs more than a lost answer.
const MAX_DISCARDED: usize = 1 << 20;
/// How long it is read.
const LONGEST_DISCARD: Duration = Duration::from_secs(5);

impl Body {
    pub(crate) fn empty() -> Self {
        Self(None)
    }

    fn of(kind: Kind) -> Self {
        Self(Some(Box::new(kind)))
    }

    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        match bytes.is_empty() {
            true => Self::empty(),
            false => Self::of(Kind::Full(bytes)),
        }
    }

    /// Of one piece, with these trailers if there are any.
    pub(crate) fn whole(bytes: Bytes, trailers: HeaderMap) -> Self {
        if trailers.is_empty() {
            return Self::full(bytes);
        }
        let bytes = Some(bytes).filter(|bytes| !bytes.is_empty());
        Self::of(Kind::Trailed(bytes, Some(trailers)))
    }

    pub(crate) fn file(file: FileBody) -> Self {
        Self::of(Kind::File(file))
    }

    /// A client's request body: bounded in size and in how long it may pause, its bytes counted.
    pub(crate) fn request(
        incoming: Incoming,
        limit: Option<u64>,
        pause: Duration,
        progress: Rc<Progress>,
    ) -> Self {
        if incoming.is_end_stream() {
            progress.ended.set(true);
            return Self::empty();
        }
        Self::of(Kind::Stream(Stream {
            incoming,
            pause: Pause::new(pause),
            end: None,
            limit,
            progress: Some(progress),
            lease: None,
        }))
    }

    /// An upstream's response body. The connection goes back to its pool when the body has ended.
    pub(crate) fn response(incoming: Incoming, waits: &Waits, mut lease: Lease) -> Self {
        let alarm = lease.take_alarm();
        if incoming.is_end_stream() {
            lease.release(alarm);
            return Self::empty();
        }
        let lease = Some(lease);
        Self::of(Kind::Stream(Stream {
            incoming,
            pause: Pause::with(waits.pause, alarm),
            end: waits.end,
            limit: None,
            progress: None,
            lease,
        }))
    }

    /// The body of a component's response, bounded in how long it may pause.
    pub(crate) fn component(body: HttpBody, pause: Duration) -> Self {
        let pause = Pause::new(pause);
        Self::of(Kind::Component(Written { body, pause }))
    }

    /// The body of a request that a middleware passes on.
    pub(crate) fn onward(body: WasiBody) -> Self {
        Self::of(Kind::Onward(body))
    }

    /// The same body once more, where it can be sent twice: there is none, or it is of one piece.
    pub(crate) fn again(&self) -> Option<Self> {
        match self.0.as_deref() {
            None => Some(Self::empty()),
            Some(Kind::Full(bytes)) => Some(Self::of(Kind::Full(bytes.clone()))),
            Some(Kind::Trailed(bytes, trailers)) => {
                Some(Self::of(Kind::Trailed(bytes.clone(), trailers.clone())))
            }
            Some(_) => None,
        }
    }

    /// The same body with what was read of it.
    pub(crate) fn after(self, first: Read) -> Self {
        Self::of(Kind::Begun(Some(first), self))
    }

    /// The same body, passed through a plugin.
    pub(crate) fn transformed(self, transform: BodyTransform) -> Self {
        Self::of(Kind::Transformed(Box::new(Transformed {
            source: self,
            step: Step::Read(transform),
            trailers: None,
        })))
    }

    /// The same body, compressed.
    pub(crate) fn compressed(self, encoder: Encoder) -> Self {
        Self::of(Kind::Compressed(Box::new(Compressed::new(self, encoder))))
    }

    /// The same body, passed through a plugin and read to its end. The exchange comes back with what the plugin made
    /// of it then.
    pub(crate) async fn held(
        self,
        mut transform: BodyTransform,
        exchange: Box<Exchange>,
    ) -> (Box<Exchange>, Result<Held, BodyError>) {
        let (mut whole, trailers) = match self.collect(&mut transform).await {
            Ok(collected) => collected,
            Err(error) => return (exchange, Err(error)),
        };
        let (exchange, end) = transform.finish_held(whole.len(), exchange, trailers).await;
        let held = match end {
            Ok(HeldEnd::Answer(reply)) => Ok(Held::Answer(Box::new(reply))),
            Ok(HeldEnd::Body(end)) => {
                whole.extend_from_slice(&end.bytes);
                Ok(Held::Body(Self::whole(whole.freeze(), end.trailers)))
            }
            Err(failure) => Err(failure.into()),
        };
        (exchange, held)
    }

    /// All that a plugin makes of the body before its end, and the trailers.
    async fn collect(
        mut self,
        transform: &mut BodyTransform,
    ) -> Result<(BytesMut, HeaderMap), BodyError> {
        let limit = transform.held_body_limit();
        let (mut whole, mut trailers) = (BytesMut::new(), HeaderMap::new());
        while let Some(frame) = self.frame().await {
            match frame?.into_data() {
                Ok(data) => {
                    let data = transform.push(data).await?;
                    if whole.len() + data.len() > limit {
                        return Err(transform.held_body_exceeded().into());
                    }
                    whole.extend_from_slice(&data);
                }
                Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
            }
        }
        Ok((whole, trailers))
    }

    /// The trailers, where they are known before the body is sent.
    pub(crate) fn trailers(&self) -> Option<&HeaderMap> {
        match self.0.as_deref() {
            Some(Kind::Trailed(_, trailers)) => trailers.as_ref(),
            _ => None,
        }
    }

    /// The same body without trailers, where they are known before it is sent.
    pub(crate) fn without_trailers(self) -> Self {
        match self.0.map(|kind| *kind) {
            Some(Kind::Trailed(bytes, _)) => Self::full(bytes.unwrap_or_default()),
            kind => Self(kind.map(Box::new)),
        }
    }

    /// Reads what is left of a request's body and throws it away, within limits. An answer that is sent while the
    /// client is still sending is lost when the connection is closed on it (RFC 9112 §9.6).
    pub(crate) async fn discard(self) {
        let mut left = MAX_DISCARDED;
        let mut body = self.into_source();
        let discarding = async {
            while let Some(Ok(frame)) = body.frame().await {
                let length = frame.data_ref().map_or(0, Bytes::len);
                match left.checked_sub(length) {
                    Some(rest) => left = rest,
                    None => return,
                }
            }
        };
        if timeout(LONGEST_DISCARD, discarding).await.is_err() {
            tracing::debug!(
                "a client was still sending the body of a request that had been answered"
            );
        }
    }

    /// The body as it comes from the connection, without the plugins it would pass through.
    fn into_source(self) -> Self {
        match self.0.map(|kind| *kind) {
            Some(Kind::Transformed(transformed)) => transformed.source.into_source(),
            kind => Self(kind.map(Box::new)),
        }
    }

    /// It is what a connection brings, or was read from one to its end; nobody else has to add to it.
    pub(crate) fn is_of_a_connection(&self) -> bool {
        matches!(
            self.0.as_deref(),
            None | Some(Kind::Full(_) | Kind::Trailed(..) | Kind::Stream(_) | Kind::File(_))
        )
    }

    /// When it has to be over (`timeouts.total`).
    pub(crate) fn end(&self) -> Option<Instant> {
        match self.0.as_deref()? {
            Kind::Stream(stream) => stream.end,
            Kind::Transformed(transformed) => transformed.source.end(),
            Kind::Compressed(compressed) => compressed.source().end(),
            Kind::Begun(_, rest) => rest.end(),
            _ => None,
        }
    }

    /// Its length, where that is known.
    pub(crate) fn exact_size(&self) -> Option<u64> {
        self.size_hint().exact()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(kind) = self.0.as_deref_mut() else {
            return Poll::Ready(None);
        };
        match kind {
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = None;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Trailed(bytes, trailers) => {
                let frame = bytes.take().map(Frame::data);
                let frame = frame.or_else(|| trailers.take().map(Frame::trailers));
                Poll::Ready(frame.map(Ok))
            }
            Kind::Stream(stream) => stream.poll_frame(cx),
            Kind::File(file) => Poll::Ready(file.next().map(|bytes| Ok(Frame::data(bytes?)))),
            Kind::Transformed(transformed) => transformed.poll_frame(cx),
            Kind::Compressed(compressed) => compressed.poll_frame(cx),
            Kind::Component(written) => written.poll_frame(cx),
            Kind::Onward(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::from),
            Kind::Begun(first, rest) => match first.take() {
                Some(first) => Poll::Ready(Some(first)),
                None => Pin::new(rest).poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        let Some(kind) = self.0.as_deref() else {
            return true;
        };
        match kind {
            Kind::Full(_) => false,
            Kind::Trailed(bytes, trailers) => bytes.is_none() && trailers.is_none(),
            Kind::Stream(stream) => stream.incoming.is_end_stream(),
            Kind::File(file) => file.is_end(),
            Kind::Component(written) => written.body.is_end_stream(),
            Kind::Onward(body) => body.is_end_stream(),
            Kind::Begun(first, rest) => first.is_none() && rest.is_end_stream(),
            Kind::Compressed(compressed) => compressed.is_end_stream(),
            Kind::Transformed(transformed) => {
                matches!(transformed.step, Step::Ended) && transformed.trailers.is_none()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let Some(kind) = self.0.as_deref() else {
            return SizeHint::with_exact(0);
        };
        match kind {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream(stream) => stream.incoming.size_hint(),
            Kind::File(file) => SizeHint::with_exact(file.left()),
            Kind::Trailed(..) | Kind::Transformed(_) | Kind::Compressed(_) => SizeHint::default(),
            Kind::Component(written) => written.body.size_hint(),
            Kind::Onward(body) => body.size_hint(),
            Kind::Begun(Some(_), _) => SizeHint::default(),
            Kind::Begun(None, rest) => rest.size_hint(),
        }
    }
}

/// How a request's body is coming along.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    bytes: Cell<u64>,
    /// The client has been asked for more and has not sent it yet.
    waiting: Cell<bool>,
    /// All has come, or nothing more will.
    ended: Cell<bool>,
}

impl Progress {
    pub(crate) fn add(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.get()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.get()
    }
}

/// A body from a connection.
#[derive(Debug)]
struct Stream {
    incoming: Incoming,
    pause: Pause,
    /// When it has to be over.
    end: Option<Instant>,
    /// Bytes that may still come.
    limit: Option<u64>,
    progress: Option<Rc<Progress>>,
    lease: Option<Lease>,
}

impl Stream {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = self.poll_incoming(cx) else {
            ready!(self.pause.poll_over(cx, self.end));
            return Poll::Ready(Some(Err(match self.is_late() {
                true => BodyError::Late,
                false => BodyError::Stalled(self.pause.limit),
            })));
        };
        self.pause.ended();
        if self.is_late() {
            return Poll::Ready(Some(Err(BodyError::Late)));
        }
        // The receiver stops polling once it has seen the announced length or trailers, so the end is looked for here.
        let trailers = matches!(&frame, Some(Ok(frame)) if frame.is_trailers());
        if frame.is_none() || trailers || self.incoming.is_end_stream() {
            self.note_end();
        }
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(self.admit(frame)),
            Some(Err(error)) => Some(Err(error.into())),
            None => None,
        })
    }

    fn is_late(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let polled = match &mut self.lease {
            Some(lease) => lease.poll_frame(cx, &mut self.incoming),
            None => Pin::new(&mut self.incoming).poll_frame(cx),
        };
        if let Some(progress) = &self.progress {
            progress.waiting.set(polled.is_pending());
        }
        polled
    }

    fn note_end(&mut self) {
        if let Some(progress) = &self.progress {
            progress.ended.set(true);
        }
        if let Some(lease) = self.lease.take() {
            lease.release(self.pause.take_alarm());
        }
    }

    fn admit(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
        let data = match frame.data_ref() {
            Some(data) => data,
            None => {
                let trailers = frame.into_trailers().unwrap_or_default();
                return Ok(Frame::trailers(admitted_trailers(trailers)));
            }
        };
        let Some(progress) = &self.progress else {
            return Ok(frame);
        };
        progress.add(data.len() as u64);
        match self.limit {
            Some(limit) if progress.bytes() > limit => return Err(BodyError::TooLarge(limit)),
            _ => {}
        }
        Ok(frame)
    }
}

/// A body that a component writes.
#[derive(Debug)]
struct Written {
    body: HttpBody,
    pause: Pause,
}

impl Written {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            ready!(self.pause.poll_over(cx, None));
            return Poll::Ready(Some(Err(BodyError::Stalled(self.pause.limit))));
        };
        self.pause.ended();
        Poll::Ready(frame.map(|frame| Ok(frame?)))
    }
}

type Called<T> = Pin<Box<dyn Future<Output = T>>>;

/// A body that passes through a plugin, one call at a time.
struct Transformed {
    source: Body,
    step: Step,
    trailers: Option<HeaderMap>,
}

enum Step {
    /// Wait for the next piece.
    Read(BodyTransform),
    /// The plugin has a piece.
    Push(Called<(BodyTransform, Result<Bytes, PluginFailure>)>),
    /// The plugin knows that there is no more.
    Finish(Called<Result<Finished, PluginFailure>>),
    Ended,
}

impl std::fmt::Debug for Transformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transformed")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl Transformed {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match std::mem::replace(&mut self.step, Step::Ended) {
                Step::Read(transform) => match Pin::new(&mut self.source).poll_frame(cx) {
                    Poll::Pending => {
                        self.step = Step::Read(transform);
                        return Poll::Pending;
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(Some(Ok(frame))) => self.step = Self::take(frame, transform),
                    Poll::Ready(None) => self.step = finish(transform, HeaderMap::new()),
                },
                Step::Push(mut call) => {
                    let Poll::Ready((transform, pushed)) = call.as_mut().poll(cx) else {
                        self.step = Step::Push(call);
                        return Poll::Pending;
                    };
                    let bytes = match pushed {
                        Ok(bytes) => bytes,
                        Err(failure) => return Poll::Ready(Some(Err(failure.into()))),
                    };
                    self.step = Step::Read(transform);
                    if !bytes.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(bytes))));
                    }
                }
                Step::Finish(mut call) => {
                    let Poll::Ready(finished) = call.as_mut().poll(cx) else {
                        self.step = Step::Finish(call);
                        return Poll::Pending;
                    };
                    let Finished { bytes, trailers } = match finished {
                        Ok(finished) => finished,
                        Err(failure) => return Poll::Ready(Some(Err(failure.into()))),
                    };
                    self.trailers = Some(trailers).filter(|trailers| !trailers.is_empty());
                    if !bytes.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(bytes))));
                    }
                }
                Step::Ended => {
                    return Poll::Ready(self.trailers.take().map(|t| Ok(Frame::trailers(t))));
                }
            }
        }
    }

    fn take(frame: Frame<Bytes>, mut transform: BodyTransform) -> Step {
        match frame.into_data() {
            Ok(bytes) => Step::Push(Box::pin(async move {
                let pushed = transform.push(bytes).await;
                (transform, pushed)
            })),
            // Trailers come last; what the plugin still has goes before them.
            Err(frame) => finish(transform, frame.into_trailers().unwrap_or_default()),
        }
    }
}

fn finish(transform: BodyTransform, trailers: HeaderMap) -> Step {
    Step::Finish(Box::pin(transform.finish(trailers)))
}
