//! Counts what is sent of a response, and notes how that ends.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use super::{Entry, Outcome};
use crate::body::{Body, BodyError};
use crate::failure::Failure;

/// A response body that knows its entry.
#[derive(Debug)]
pub(crate) struct Accounted {
    body: Body,
    /// Why the body ended early, until the server is told.
    broken: Option<Box<BodyError>>,
    entry: Option<Box<Entry>>,
}

impl Accounted {
    /// Nothing, of which nothing is logged.
    pub(crate) fn without_entry() -> Self {
        Self {
            body: Body::empty(),
            broken: None,
            entry: None,
        }
    }

    /// When it has to be over.
    pub(crate) fn end(&self) -> Option<tokio::time::Instant> {
        self.body.end()
    }

    pub(crate) fn new(body: Body, mut entry: Box<Entry>) -> Self {
        if body.is_end_stream() && matches!(entry.outcome, Outcome::Aborted) {
            entry.outcome = Outcome::Complete;
        }
        Self {
            body,
            broken: None,
            entry: Some(entry),
        }
    }
}

impl http_body::Body for Accounted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(*error)));
        }
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        let Some(entry) = &mut this.entry else {
            return polled;
        };
        match &polled {
            Poll::Ready(Some(Ok(frame))) => entry
                .sent
                .add(frame.data_ref().map_or(0, |data| data.len() as u64)),
            Poll::Ready(Some(Err(error))) => entry.fail(&Failure::response_body(error)),
            Poll::Ready(None) | Poll::Pending => {}
        }
        if let Poll::Ready(Some(Err(error))) = polled {
            // hyper closes the connection at once when it is told, with what it has not sent yet; a piece, or the head,
            // can have come in this same moment.
            this.broken = Some(Box::new(error));
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Nobody asks for more once the trailers are there.
        let trailers = matches!(&polled, Poll::Ready(Some(Ok(frame))) if frame.is_trailers());
        let ended = trailers || matches!(polled, Poll::Ready(None)) || this.body.is_end_stream();
        if ended && matches!(entry.outcome, Outcome::Aborted) {
            entry.outcome = Outcome::Complete;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
