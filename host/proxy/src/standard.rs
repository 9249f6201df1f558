//! Standard components in the life of a request: as its end, and as middleware in a chain.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, Uri, Version, header};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, Empty};
use witgate_runtime::wasi_http::{
    About, FrameSender, HttpBody, HttpError, Onward, WasiBody, WorkerHttpPlugin, channel,
};
use witgate_runtime::{Exchange, PluginFailure};

use crate::body::{Body, BodyError, Read};
use crate::connection::Context;
use crate::failure::Failure;
use crate::trailers;
use crate::worker::Tasks;

/// A component answers the request. Takes the body.
pub(crate) async fn handle(
    component: &WorkerHttpPlugin,
    exchange: &Exchange,
    body: &mut Body,
    context: &Context,
) -> Result<Response<Body>, Failure> {
    let request = request(exchange, body, &context.worker.tasks)?;
    let handled = component.handle(request, about(exchange), None).await;
    received(handled, context)
}

/// A middleware answers the request, and may have `rest` answer requests before: what is behind it in the chain, and
/// the end of the route. It has to do so before it answers itself; what it has not heard the end of by then is ended.
pub(crate) async fn through(
    middleware: &WorkerHttpPlugin,
    exchange: &Exchange,
    body: &mut Body,
    context: &Context,
    mut rest: impl AsyncFnMut(Box<Exchange>, Body) -> (Box<Exchange>, Response<Body>),
) -> Result<Response<Body>, Failure> {
    let tasks = &context.worker.tasks;
    let request = request(exchange, body, tasks)?;
    let (sender, mut passed_on) = WorkerHttpPlugin::next();
    let mut handling = pin!(middleware.handle(request, about(exchange), Some(sender)));
    loop {
        let Onward { request, answer } = tokio::select! {
            biased;
            handled = &mut handling => return received(handled, context),
            Some(onward) = passed_on.recv() => onward,
        };
        let (inner, body) = onward(exchange, request)?;
        // What sends a body on decides how it is framed before it reads any of it.
        let body = tokio::select! {
            biased;
            handled = &mut handling => return received(handled, context),
            body = begun(&inner.request.method, body) => body,
        };
        let passing = rest(inner, body);
        let (_, response) = tokio::select! {
            biased;
            handled = &mut handling => return received(handled, context),
            passed = passing => passed,
        };
        if answer
            .send(response.map(|body| lend_response(body, tasks)))
            .is_err()
        {
            tracing::debug!("a middleware does not want the response any more");
        }
    }
}

fn about(exchange: &Exchange) -> About {
    About {
        route: exchange.facts.route.clone(),
        id: exchange.facts.id.clone(),
    }
}

/// The request as a component sees it: its head as it is by now, with scheme and authority in the URI.
fn request(
    exchange: &Exchange,
    body: &mut Body,
    tasks: &Tasks,
) -> Result<Request<WasiBody>, Failure> {
    let head = &exchange.request;
    let host = head.headers.get(header::HOST).map(HeaderValue::as_bytes);
    // A client of HTTP/1.0 may send none.
    let authority = Authority::try_from(host.unwrap_or(b"localhost"));
    let mut uri = head.uri.clone().into_parts();
    uri.scheme = Some(match exchange.facts.client_scheme {
        witgate_runtime::Scheme::Http => Scheme::HTTP,
        witgate_runtime::Scheme::Https => Scheme::HTTPS,
    });
    uri.authority = Some(authority.map_err(|_| Failure::bad_request("no host and port"))?);
    let mut request = Request::new(lend_request(std::mem::replace(body, Body::empty()), tasks));
    *request.method_mut() = head.method.clone();
    *request.uri_mut() =
        Uri::from_parts(uri).map_err(|_| Failure::bad_request("the path is no URI path"))?;
    *request.headers_mut() = head.headers.clone();
    Ok(request)
}

/// The exchange that a middleware makes of the one it is in.
fn onward(
    exchange: &Exchange,
    request: Request<WasiBody>,
) -> Result<(Box<Exchange>, Body), Failure> {
    let (mut head, body) = request.into_parts();
    let authority = head.uri.authority().map(Authority::as_str);
    let host = authority.and_then(|authority| HeaderValue::from_str(authority).ok());
    let path = head.uri.path_and_query().cloned();
    head.uri = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
    trailers::keep_announcement(&mut head.headers);
    // The body says how long it is.
    head.headers.remove(header::CONTENT_LENGTH);
    let host =
        host.ok_or_else(|| Failure::plugin("a middleware passes a request to no host on"))?;
    head.headers.insert(header::HOST, host);
    head.extensions = exchange.request.extensions.clone();
    let inner = Exchange {
        facts: exchange.facts.clone(),
        request: head,
        use_upstream_authority: exchange.use_upstream_authority,
        response: None,
        attributes: exchange.attributes.clone(),
        own_instances: Default::default(),
        limits: exchange.limits,
    };
    Ok((Box::new(inner), Body::onward(body)))
}

/// A body whose first piece is there, or that is known to be none. A request with another method may have a body that
/// comes when its answer is there, so that nobody waits for more of it than there is at once.
async fn begun(method: &Method, mut body: Body) -> Body {
    if body.is_end_stream() || body.exact_size().is_some() {
        return body;
    }
    let first = match has_no_use_for_a_body(method) {
        true => body.frame().await,
        false => match poll_once(&mut body).await {
            Some(first) => first,
            None => return body,
        },
    };
    match first {
        Some(first) => body.after(first),
        None => Body::empty(),
    }
}

/// RFC 9110 §9.3: content in such a request has no meaning, and clients send none.
fn has_no_use_for_a_body(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS | Method::TRACE
    )
}

/// The next frame, if it is there.
async fn poll_once(body: &mut Body) -> Option<Option<Read>> {
    poll_fn(|cx| {
        let frame = Pin::new(&mut *body).poll_frame(cx);
        Poll::Ready(match frame {
            Poll::Ready(frame) => Some(frame),
            Poll::Pending => None,
        })
    })
    .await
}

/// The response, with what belongs to the connection taken off.
fn received(
    handled: Result<Response<HttpBody>, PluginFailure>,
    context: &Context,
) -> Result<Response<Body>, Failure> {
    let pause = context.limits.body_timeout;
    let mut response = handled?.map(|body| Body::component(body, pause));
    *response.version_mut() = Version::HTTP_11;
    trailers::keep_announcement(response.headers_mut());
    Ok(response)
}

/// A client's body for an instance, which runs beside the exchange. What that does not read is read here, within limits,
/// so that the client hears the answer.
fn lend_request(body: Body, tasks: &Tasks) -> WasiBody {
    lend(body, tasks, |rest| async { rest.discard().await })
}

fn lend_response(body: Body, tasks: &Tasks) -> WasiBody {
    lend(body, tasks, |rest| async { drop(rest) })
}

fn lend<F: Future<Output = ()>>(
    body: Body,
    tasks: &Tasks,
    unread: impl FnOnce(Body) -> F + 'static,
) -> WasiBody {
    if body.is_end_stream() {
        return Empty::new().map_err(|never| match never {}).boxed_unsync();
    }
    let (sender, lent) = channel(body.size_hint());
    tasks.spawn(async move {
        if let Some(rest) = pump(body, sender).await {
            unread(rest).await;
        }
    });
    lent.boxed_unsync()
}

/// Moves a body piece by piece, each when the last was taken. Gives back what nobody wants to read.
async fn pump(mut body: Body, sender: FrameSender) -> Option<Body> {
    loop {
        let frame = tokio::select! {
            biased;
            () = sender.closed() => return Some(body),
            frame = body.frame() => frame,
        };
        let sent = match frame {
            Some(Ok(frame)) if is_empty(&frame) => true,
            Some(Ok(frame)) => sender.send(Ok(frame)).await,
            Some(Err(error)) => {
                tracing::debug!(%error, "a body ended before its end");
                sender.send(Err(reason(&error))).await;
                return None;
            }
            None => {
                sender.finish().await;
                return None;
            }
        };
        if !sent {
            return Some(body);
        }
    }
}

fn is_empty(frame: &Frame<Bytes>) -> bool {
    frame.data_ref().is_some_and(Bytes::is_empty)
}

/// What a component hears of a body that ends before its end.
fn reason(error: &BodyError) -> HttpError {
    match error {
        BodyError::TooLarge(limit) => HttpError::HttpRequestBodySize(Some(*limit)),
        BodyError::Stalled(_) | BodyError::Late => HttpError::ConnectionReadTimeout,
        BodyError::Read(_) | BodyError::Plugin(_) | BodyError::File(_) | BodyError::Onward(_) => {
            HttpError::ConnectionTerminated
        }
    }
}
