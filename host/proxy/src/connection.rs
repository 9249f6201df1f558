//! One client's connection: HTTP/1.1 by hyper, with the timeouts that a client is held to.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context as Task, Poll};
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode, header};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::coop::unconstrained;

use crate::config::ListenerLimits;
use crate::exchange;
use crate::framing::{Asked, Framing};
use crate::listener::WorkerListener;
use crate::seldom::Seldom;
use crate::worker::Worker;

/// Whom a connection is with.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Its IP address, as it is told to upstreams.
    pub(crate) forwarded_for: HeaderValue,
}

impl Peer {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let text = address.ip().to_string();
        let forwarded_for = HeaderValue::try_from(text).expect("an address is visible ASCII");
        Self {
            address,
            forwarded_for,
        }
    }
}

/// What the exchanges of a listener are served with: a generation, and what its configuration says of the listener.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) worker: Rc<Worker>,
    /// Index into the configuration's listeners.
    pub(crate) listener: usize,
    pub(crate) name: Arc<str>,
    pub(crate) limits: ListenerLimits,
}

impl Context {
    pub(crate) fn new(worker: Rc<Worker>, listener: usize) -> Self {
        let config = worker.listener(listener);
        Self {
            listener,
            name: config.name.clone(),
            limits: config.limits.clone(),
            worker,
        }
    }
}

/// What ends a connection's wait, but for bytes.
enum Event {
    Ended(hyper::Result<()>),
    Stop,
    Clock,
}

/// Serves a connection to its end. The permit is one of the listener's `limits.connections`.
///
/// Each request is served by the generation that is current when it comes; the limits on heads and on idleness are
/// those of the connection's beginning.
pub(crate) async fn serve(
    listener: Rc<WorkerListener>,
    address: SocketAddr,
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
) {
    let activity = Arc::new(Activity::new());
    let limits = listener.context().limits.clone();
    let mut stop = listener.end_requested();
    let peer = Rc::new(Peer::new(address));
    let service = service_fn(|request| {
        let (context, peer, activity) = (listener.context(), peer.clone(), activity.clone());
        activity.busy();
        let asks_for_protocol = request.headers().contains_key(header::UPGRADE);
        async move {
            let mut response = exchange::serve(context, peer, request).await;
            let refused = response.status() != StatusCode::SWITCHING_PROTOCOLS;
            if asks_for_protocol && refused && activity.refuse_protocol() {
                // Whatever it is that came behind the request, it is not read as HTTP.
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            response.body_mut().mark_end_in(activity);
            Ok::<_, Infallible>(response)
        }
    });
    let tracked = Tracked {
        stream,
        activity: activity.clone(),
        framing: Framing::default(),
        permit,
    };
    let connection = http1::Builder::new()
        .max_headers(limits.header_count)
        .max_header_size(limits.header_size)
        .serve_connection(TokioIo::new(tracked), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let mut stop = std::pin::pin!(stop.requested());
    let mut stopping = false;
    let mut clock = std::pin::pin!(tokio::time::sleep(limits.header_timeout));
    let mut seldom = Seldom::default();
    loop {
        let event = poll_fn(|cx| {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(Event::Ended(ended));
            }
            seldom.poll(cx, |cx| {
                if !stopping && stop.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Stop);
                }
                // Also when this turn is spent on bytes that came.
                let clock = std::pin::pin!(unconstrained(clock.as_mut()));
                clock.poll(cx).map(|()| Event::Clock)
            })
        });
        match event.await {
            Event::Ended(ended) => {
                if let Err(error) = ended {
                    tracing::debug!(client = %address, %error, "connection ended");
                }
                break;
            }
            Event::Stop => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            Event::Clock => match activity.overdue(&limits) {
                Overdue::No { look_again } => {
                    clock
                        .as_mut()
                        .reset(tokio::time::Instant::now() + look_again);
                }
                Overdue::Idle => {
                    connection.as_mut().graceful_shutdown();
                    clock
                        .as_mut()
                        .reset(tokio::time::Instant::now() + limits.header_timeout);
                }
                Overdue::Head => {
                    tracing::debug!(client = %address, "connection closed: no whole request head in time");
                    break;
                }
            },
        }
    }
}

/// What a connection is doing, and since when. Shared with the bodies of its responses, which may end on their own.
#[derive(Debug)]
pub(crate) struct Activity {
    base: Instant,
    /// Milliseconds since `base`, shifted left by two, and a state in the low bits.
    state: AtomicU64,
    /// Where a request for another protocol stands.
    protocol: AtomicU8,
}

/// None was asked for, or none that was granted: HTTP goes on.
const PROTOCOL_REFUSED: u8 = 0;
/// Asked for, and nothing came behind the request.
const PROTOCOL_ASKED: u8 = 1;
/// Asked for, and the client went on sending.
const PROTOCOL_SENT: u8 = 2;

/// Part of a request's head has come, or the connection is new.
const HEAD: u64 = 0;
/// An exchange is under way.
const BUSY: u64 = 1;
/// Kept alive, waiting for the next request.
const IDLE: u64 = 2;

enum Overdue {
    No {
        look_again: Duration,
    },
    /// No request for too long.
    Idle,
    /// A head that does not come to its end.
    Head,
}

impl Activity {
    fn new() -> Self {
        Self {
            base: Instant::now(),
            state: AtomicU64::new(HEAD),
            protocol: AtomicU8::new(PROTOCOL_REFUSED),
        }
    }

    fn set(&self, state: u64) {
        let now = u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX >> 2);
        self.state.store(now << 2 | state, Ordering::Relaxed);
    }

    fn busy(&self) {
        // Nothing is overdue during an exchange, so its time does not matter.
        self.state.store(BUSY, Ordering::Relaxed);
    }

    pub(crate) fn idle(&self) {
        self.set(IDLE);
    }

    fn bytes_came(&self) {
        if self.state.load(Ordering::Relaxed) & 3 == IDLE {
            self.set(HEAD);
        }
    }

    fn protocol_asked(&self, asked: Asked) {
        let protocol = if asked.more {
            PROTOCOL_SENT
        } else {
            PROTOCOL_ASKED
        };
        self.protocol.store(protocol, Ordering::Relaxed);
    }

    fn protocol_is_refused(&self) -> bool {
        self.protocol.load(Ordering::Relaxed) == PROTOCOL_REFUSED
    }

    /// What comes from now on is HTTP. Whether the client has sent of the other protocol already.
    fn refuse_protocol(&self) -> bool {
        self.protocol.swap(PROTOCOL_REFUSED, Ordering::Relaxed) == PROTOCOL_SENT
    }

    fn overdue(&self, limits: &ListenerLimits) -> Overdue {
        let state = self.state.load(Ordering::Relaxed);
        let since = self
            .base
            .elapsed()
            .saturating_sub(Duration::from_millis(state >> 2));
        let left = |limit: Duration| limit.checked_sub(since).filter(|left| !left.is_zero());
        match state & 3 {
            HEAD => left(limits.header_timeout)
                .map_or(Overdue::Head, |look_again| Overdue::No { look_again }),
            IDLE => left(limits.idle_timeout).map_or(Overdue::Idle, |look_again| {
                // The next head may begin any moment and is to be looked at in time.
                Overdue::No {
                    look_again: look_again.min(limits.header_timeout),
                }
            }),
            _ => Overdue::No {
                look_again: limits.header_timeout,
            },
        }
    }
}

/// A client's socket that notes when bytes come, and spoils what has two readings.
#[derive(Debug)]
pub(crate) struct Tracked {
    stream: TcpStream,
    activity: Arc<Activity>,
    framing: Framing,
    /// One of the listener's `limits.connections`, which an upgraded connection keeps.
    permit: OwnedSemaphorePermit,
}

impl Tracked {
    pub(crate) fn into_parts(self) -> (TcpStream, OwnedSemaphorePermit) {
        (self.stream, self.permit)
    }
}

impl Tracked {
    fn follow(&mut self, came: &mut [u8]) {
        if self.framing.asked().is_some() && self.activity.protocol_is_refused() {
            self.framing.go_on();
        }
        if let Err(refusal) = self.framing.follow(came) {
            tracing::debug!(%refusal, "a client's message is refused");
        }
        if let Some(asked) = self.framing.asked() {
            self.activity.protocol_asked(asked);
        }
    }
}

impl AsyncRead for Tracked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Task<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(refusal) = self.framing.refused() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, refusal)));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let came = &mut buffer.filled_mut()[before..];
        if !came.is_empty() {
            self.activity.bytes_came();
            self.follow(came);
        }
        polled
    }
}

impl AsyncWrite for Tracked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Task<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Task<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
