//! One client's connection: HTTP/1.1 by hyper, with the timeouts that a client is held to.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as Task, Poll};
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use crate::config::ListenerLimits;
use crate::exchange;
use crate::listener::WorkerListener;
use crate::worker::Worker;

/// Whom a connection is with.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) listener: Arc<str>,
}

/// What an exchange is served with: a generation, and what its connection has to do with it.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) worker: Rc<Worker>,
    pub(crate) peer: Peer,
    /// Index into the configuration's listeners.
    pub(crate) listener: usize,
    pub(crate) limits: ListenerLimits,
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
    let limits = listener.limits();
    let mut stop = listener.end_requested();
    let service = service_fn(|request| {
        let (context, activity) = (Rc::new(listener.context(address)), activity.clone());
        activity.busy();
        async move {
            let mut response = exchange::serve(context, request).await;
            response.body_mut().mark_end_in(activity);
            Ok::<_, Infallible>(response)
        }
    });
    let tracked = Tracked {
        stream,
        activity: activity.clone(),
        permit,
    };
    let connection = http1::Builder::new()
        .max_headers(limits.header_count)
        .max_header_size(limits.header_size)
        .serve_connection(TokioIo::new(tracked), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let mut stopping = false;
    let mut clock = std::pin::pin!(tokio::time::sleep(limits.header_timeout));
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(client = %address, %error, "connection ended");
                }
                break;
            }
            () = stop.requested(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = clock.as_mut() => match activity.overdue(&limits) {
                Overdue::No { look_again } => clock.as_mut().reset(tokio::time::Instant::now() + look_again),
                Overdue::Idle => {
                    connection.as_mut().graceful_shutdown();
                    clock.as_mut().reset(tokio::time::Instant::now() + limits.header_timeout);
                }
                Overdue::Head => {
                    tracing::debug!(client = %address, "connection closed: no whole request head in time");
                    break;
                }
            }
        }
    }
}

/// What a connection is doing, and since when. Shared with the bodies of its responses, which may end on their own.
#[derive(Debug)]
pub(crate) struct Activity {
    base: Instant,
    /// Milliseconds since `base`, shifted left by two, and a state in the low bits.
    state: AtomicU64,
}

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

/// A client's socket that notes when bytes come.
#[derive(Debug)]
pub(crate) struct Tracked {
    stream: TcpStream,
    activity: Arc<Activity>,
    /// One of the listener's `limits.connections`, which an upgraded connection keeps.
    permit: OwnedSemaphorePermit,
}

impl Tracked {
    pub(crate) fn into_parts(self) -> (TcpStream, OwnedSemaphorePermit) {
        (self.stream, self.permit)
    }
}

impl AsyncRead for Tracked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Task<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.bytes_came();
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
