//! HTTP/1.1 on a connection.

use std::convert::Infallible;
use std::pin::Pin;

use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1::{self, UpgradeableConnection};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;

use super::stream::{Stream, Tracked};
use super::{Driven, KeepAlive, Served};
use crate::access::Accounted;
use crate::exchange;

pub(super) async fn serve(served: Served, stream: Stream) {
    let activity = served.activity(false);
    let limits = served.limits();
    let left = KeepAlive::new(limits.requests);
    let (listener, peer) = (served.listener.clone(), served.peer.clone());
    let service = service_fn(|request: Request<Incoming>| {
        let activity = activity.clone();
        let is_last = left.is_last();
        let version = request.version();
        let asks_for_protocol = request.headers().contains_key(header::UPGRADE);
        let begun = exchange::begin(listener.context(), &peer, request, activity.begin());
        // In a box, so that a connection without a request has no room for one.
        Box::pin(async move {
            let mut response = exchange::serve(begun).await;
            let refused = response.status() != StatusCode::SWITCHING_PROTOCOLS;
            // Whatever it is that came behind a request for a protocol, it is not read as HTTP.
            let ends = asks_for_protocol && refused && activity.refuse_protocol();
            let ends = ends || version == Version::HTTP_10 && !has_length(&response);
            if ends || is_last && refused {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            if response.headers().contains_key(header::CONNECTION) {
                // To a client of HTTP/1.0 hyper adds to a response of HTTP/1.1 that the connection is kept.
                *response.version_mut() = version;
            }
            Ok::<_, Infallible>(response)
        })
    });
    let (listener, place) = served.begin("HTTP/1.1", &activity);
    let tracked = Tracked::http1(stream, activity.clone(), place);
    let connection = http1::Builder::new()
        .max_headers(limits.header_count)
        .max_header_size(limits.header_size)
        .serve_connection(TokioIo::new(tracked), service)
        .with_upgrades();
    let connection = std::pin::pin!(connection);
    super::drive(
        connection,
        &activity,
        &limits,
        &listener,
        std::future::pending(),
    )
    .await;
}

/// Without a length or chunks, the end of the connection is that of the body (RFC 9112 §6.3).
fn has_length(response: &Response<Accounted>) -> bool {
    response.headers().contains_key(header::CONTENT_LENGTH)
        || response.body().size_hint().exact().is_some()
}

impl<S> Driven for UpgradeableConnection<TokioIo<Tracked>, S>
where
    S: HttpService<Incoming, ResBody = Accounted, Error = Infallible>,
{
    const LOSES_FIRST: bool = true;

    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
