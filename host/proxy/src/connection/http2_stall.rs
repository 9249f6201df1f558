//! A client of HTTP/2 that gives no room for a response (RFC 9113 §5.2).
//!
//! Its connection is alive, and hyper asks for nothing of a body meanwhile, so that no time-out of the body comes: without
//! this, a stream would hold its exchange, and a connection upstream, for as long as the client likes.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::access::Accounted;
use crate::alarm::Alarm;
use crate::body::BodyError;

tokio::task_local! {
    /// Of the stream that the task runs.
    static CLIENT: Rc<Client>;
}

/// What a stream's client is waited for.
#[derive(Debug, Default)]
struct Client {
    /// Since when it is to make room for the next piece.
    awaited_since: Cell<Option<Instant>>,
    /// When the response has to be over, whoever is waited for (`timeouts.total`).
    end: Cell<Option<Instant>>,
}

/// Runs a stream to its end, or until its client has made no room for a piece for `limit`, which resets the stream.
pub(super) async fn bounded(stream: impl Future<Output = ()>, limit: Duration) {
    let client = Rc::new(Client::default());
    let mut stream = pin!(CLIENT.scope(client.clone(), stream));
    let mut alarm = Alarm::default();
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match client.awaited_since.get() {
            Some(since) => {
                let turn = since + limit;
                let end = client.end.get().map_or(turn, |end| end.min(turn));
                let late = alarm.poll_at(cx, end);
                if late.is_ready() {
                    tracing::debug!(
                        ?limit,
                        "a stream is reset: its client makes no room for it, or not in time"
                    );
                }
                late
            }
            None => Poll::Pending,
        }
    })
    .await;
}

/// A response's body that knows when it is the client's turn. To be made in the stream's task.
pub(super) struct Awaiting {
    body: Accounted,
    client: Rc<Client>,
}

impl Awaiting {
    pub(super) fn new(body: Accounted) -> Self {
        let client = CLIENT.try_with(Rc::clone).unwrap_or_default();
        // hyper asks for the first piece, too, only when there is room.
        client.awaited_since.set(Some(Instant::now()));
        client.end.set(body.end());
        Self { body, client }
    }
}

impl Body for Awaiting {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let is_clients_turn = matches!(polled, Poll::Ready(Some(Ok(_))));
        let since = is_clients_turn.then(Instant::now);
        self.client.awaited_since.set(since);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
