//! HTTP/2 on a connection: by ALPN, or by a client that knows.
//!
//! | bound | value | reason |
//! |---|---|---|
//! | streams at once | `limits.streams` | each holds an exchange, and with it a connection upstream |
//! | bytes of a head | `limits.header-size` | hyper answers 431; h2 derives from it how many CONTINUATION frames there may be |
//! | fields of a head | `limits.header-count` | as with HTTP/1.1 |
//! | streams that the client resets before they are looked at | [`PENDING_RESETS`] | "rapid reset", CVE-2023-44487 |
//! | streams that are reset because of the client's errors | [`ERROR_RESETS`] | the same from the other side, CVE-2025-8671 |
//! | frames that move no content | [`frames`](super::frames) | floods of PING, SETTINGS, RST_STREAM, empty DATA |
//! | bytes of bodies that wait to be read | [`STREAM_WINDOW`], [`CONNECTION_WINDOW`] | memory of an upload that the upstream takes slowly |
//! | bytes that wait to be sent | [`SEND_BUFFER`] for each stream | memory of a client that reads slowly |
//! | time without room for a piece of a response | `limits.body-timeout` | a stream that its client leaves open, with what it holds upstream |
//! | time without an answer to a PING | [`PING_INTERVAL`], [`PING_TIMEOUT`] | a client that hangs, while its kernel does not |

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderName, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::server::conn::http2::{self, Connection};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Notify;

use super::http2_stall::{self, Awaiting};
use super::stream::{Stream, Tracked};
use super::{Driven, KeepAlive, Served};
use crate::access::Accounted;
use crate::exchange;
use crate::failure::OfFailure;
use crate::worker::Tasks;

const PENDING_RESETS: usize = 20;
const ERROR_RESETS: usize = 1024;
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
const SEND_BUFFER: usize = 128 << 10;
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What belongs to a connection and has no place in HTTP/2 (RFC 9113 §8.2.2).
const CONNECTION_SPECIFIC: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

pub(super) async fn serve(served: Served, stream: Stream) {
    let activity = served.activity(true);
    let limits = served.limits();
    let tasks = served.listener.context().worker.tasks.clone();
    let end = Rc::new(Notify::new());
    let left = KeepAlive::new(limits.requests);
    let (listener, peer) = (served.listener.clone(), served.peer.clone());
    let service = service_fn(|request: Request<Incoming>| {
        let end = end.clone();
        if left.is_last() {
            end.notify_one();
        }
        let begun = exchange::begin(listener.context(), &peer, request, activity.begin());
        async move {
            let response = exchange::serve(begun).await;
            Ok::<_, Infallible>(settle_response(response, &end).map(Awaiting::new))
        }
    });
    let (listener, place) = served.begin("HTTP/2", &activity);
    let tracked = Tracked::http2(stream, activity.clone(), place);
    let connection = http2::Builder::new(OnWorker {
        tasks,
        pause: limits.body_timeout,
    })
    .timer(TokioTimer::new())
    .enable_connect_protocol()
    .max_concurrent_streams(limits.streams)
    .max_header_list_size(u32::try_from(limits.header_size).unwrap_or(u32::MAX))
    .max_pending_accept_reset_streams(PENDING_RESETS)
    .max_local_error_reset_streams(ERROR_RESETS)
    .initial_stream_window_size(STREAM_WINDOW)
    .initial_connection_window_size(CONNECTION_WINDOW)
    .max_send_buf_size(SEND_BUFFER)
    .keep_alive_interval(PING_INTERVAL)
    .keep_alive_timeout(PING_TIMEOUT)
    .serve_connection(TokioIo::new(tracked), service);
    let connection = std::pin::pin!(connection);
    super::drive(connection, &activity, &limits, &listener, end.notified()).await;
}

/// Brings a response into the form that it has in HTTP/2. A wish to end the connection ends it gracefully, when its
/// streams have ended; not that of a failure, which concerns no other stream.
fn settle_response(mut response: Response<Accounted>, end: &Notify) -> Response<Accounted> {
    let is_failure = response.extensions().get::<OfFailure>().is_some();
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // RFC 8441 §5: the stream is the WebSocket, and its key was ours.
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
    }
    let headers = response.headers_mut();
    if !is_failure
        && headers
            .get(header::CONNECTION)
            .is_some_and(|value| value == "close")
    {
        end.notify_one();
    }
    for name in &CONNECTION_SPECIFIC {
        headers.remove(name);
    }
    response
}

/// Runs the streams of a connection beside it, on its worker.
#[derive(Clone)]
struct OnWorker {
    tasks: Tasks,
    /// How long a client may make no room for a piece of a response.
    pause: Duration,
}

impl<F: Future<Output = ()> + 'static> Executor<F> for OnWorker {
    fn execute(&self, stream: F) {
        self.tasks.spawn(http2_stall::bounded(stream, self.pause));
    }
}

impl<S> Driven for Connection<TokioIo<Tracked>, S, OnWorker>
where
    S: HttpService<Incoming, ResBody = Awaiting, Error = Infallible>,
    OnWorker: Http2ServerConnExec<S::Future, Awaiting>,
{
    const LOSES_FIRST: bool = false;

    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
