//! The life of a request, read from top to bottom. The drawing in the crate's documentation is of [`receive`] and
//! [`live`].
//!
//! Stages that not every exchange comes to are boxed: what they take would otherwise be part of every exchange, which is
//! moved when it begins, and of every connection, which keeps room for one.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header, request};
use hyper::Request;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;
use witgate_runtime::{Exchange, HeadLimits};

use crate::access::{Accounted, Entry, Outcome};
use crate::body::Body;
use crate::chain::{self, Forward};
use crate::completion::{Kept, Parked};
use crate::compress::Wanted;
use crate::config::{Destination, RouteTimeouts, Websocket};
use crate::connection::websocket_key::{self, OwnKey};
use crate::connection::{self, Busy, Context, Peer};
use crate::failure::{Failure, Side};
use crate::grpc::Call;
use crate::head::{self, Received, remove_hop_by_hop};
use crate::messages::{self, MessageChain};
use crate::path;
use crate::reply;
use crate::rewrite;
use crate::router::Asked;
use crate::standard;
use crate::tls::acme;
use crate::trailers;
use crate::tunnel::{self, Granted};
use crate::upgrade_limits::Permit;
use crate::upstream::{Outgoing, Waits, WorkerUpstream};
use crate::worker::WorkerRoute;

/// A request that was read and routed, or cannot be. In a box: a future that takes something keeps room for it to its end.
pub(crate) struct Begun {
    context: Rc<Context>,
    entry: Box<Entry>,
    /// `HEAD`
    head_only: bool,
    /// A stream of HTTP/2 that would be a WebSocket.
    is_stream: bool,
    /// Of gRPC.
    call: Option<Call>,
    /// What becomes a tunnel, if that is asked for and granted.
    client_end: Option<OnUpgrade>,
    next: Result<Next, Failure>,
}

/// Where a request goes.
enum Next {
    /// To the chain of its route.
    Route(Routed),
    /// Nowhere: there is an answer.
    Answer(Box<Response<Body>>),
}

/// A request on the way to the chain of its route.
struct Routed {
    /// Place among the worker's routes.
    route: usize,
    exchange: Box<Exchange>,
    body: Body,
}

/// Begins the life of a request: what needs no waiting.
pub(crate) fn begin(
    context: Rc<Context>,
    peer: &Peer,
    mut request: Request<Incoming>,
    busy: Busy,
) -> Box<Begun> {
    let mut entry = Box::new(Entry::new(
        request.method().clone(),
        context.name.clone(),
        peer.address.client(),
        context.worker.unrouted(context.listener),
        busy,
    ));
    entry.show_in(&context.worker.recent);
    entry.log_to(&context.worker.access_log);
    if let Some(tls) = &peer.tls {
        tls.note(&entry.attributes);
    }
    let head_only = request.method() == Method::HEAD;
    let call = Call::of(request.method(), request.headers());
    let is_stream = tunnel::is_stream_offered(&request);
    let client_end = tunnel::offered(&mut request);
    let next = receive(&context, peer, request, &mut entry);
    Box::new(Begun {
        context,
        entry,
        head_only,
        is_stream,
        call,
        client_end,
        next,
    })
}

/// The stages up to the route, in order.
fn receive(
    context: &Context,
    peer: &Peer,
    request: Request<Incoming>,
    entry: &mut Entry,
) -> Result<Next, Failure> {
    let worker = &context.worker;
    let (mut parts, incoming) = request.into_parts();

    // The head: one reading or none.
    let version = parts.version;
    if version == Version::HTTP_2 {
        connection::settle_http2(&mut parts, context.limits.header_count)?;
    }
    let server = worker.server();
    let received = head::receive(&mut parts, peer, server, || worker.next_id())?;
    entry.note_head(&received, &parts);
    if let Some(config) = &server.trace_context
        && let Some(joined) = head::trace::carry_on(&mut parts.headers, config, || worker.random())
    {
        entry.join(joined, worker.traces.as_ref(), received.scheme, &parts);
    }
    if let Some(via) = &server.via {
        head::via::add(&mut parts, version, via)?;
    }

    // The request's body, not read yet.
    let limits = &context.limits;
    let too_large = head::check_length(&parts.headers, limits.body_size);
    let progress = entry.received.clone();
    let body = Body::request(incoming, limits.body_size, limits.body_timeout, progress);
    if let Err(failure) = too_large {
        worker.discard(body);
        return Err(failure);
    }

    // Whoever is to give a certificate looks whether a name is ours, before any route could send it elsewhere.
    if peer.tls.is_none()
        && let Some(answer) = acme::answer(parts.uri.path())
    {
        worker.discard(body);
        return Ok(Next::Answer(Box::new(Response::new(Body::full(answer)))));
    }

    // The route, by what the head says now.
    let index = match route_of(context, &received, &parts) {
        Ok(index) => index,
        Err(failure) => {
            worker.discard(body);
            return Err(failure);
        }
    };
    let route = worker.route(index);
    entry.route = route.name.clone();
    entry.counts = route.counts.clone();
    entry.is_logged = route.access_log;
    if let Some(rewrite) = &route.rewrite
        && let Err(failure) = rewrite::path(&mut parts, rewrite, &route.path)
    {
        worker.discard(body);
        return Err(failure);
    }
    let exchange = Box::new(Exchange {
        facts: received.facts(peer, context.name.clone(), route.name.clone()),
        request: parts,
        use_upstream_authority: false,
        response: None,
        attributes: entry.attributes.clone(),
        own_instances: Default::default(),
        limits: HeadLimits {
            count: limits.header_count,
            size: limits.header_size,
        },
    });
    entry.kept = (route.to_tell.as_ref()).map(|plugins| Kept::new(plugins, &worker.completions));
    Ok(Next::Route(Routed {
        route: index,
        exchange,
        body,
    }))
}

/// Serves a request that has begun. Whatever happens ends in a response and a line in the access log.
pub(crate) async fn serve(begun: Box<Begun>) -> Response<Accounted> {
    let Begun {
        context,
        mut entry,
        head_only,
        is_stream,
        call,
        client_end,
        next,
    } = *begun;
    let mut messages = MessageChain::default();
    let upgradable = client_end.is_some();
    let lived = match next {
        Ok(Next::Route(routed)) => {
            live(&context, routed, upgradable, &mut entry, &mut messages).await
        }
        Ok(Next::Answer(answer)) => Ok(*answer),
        Err(failure) => Err(failure),
    };
    let mut response = lived.unwrap_or_else(|failure| fail(&mut entry, &failure));
    if is_stream && response.status().is_success() {
        // The stream would be the WebSocket.
        let failure = Failure::bad_gateway("no WebSocket was granted, and nothing was refused");
        response = fail(&mut entry, &failure);
    }
    entry.status = Some(response.status());
    response = framed(response, head_only);
    if let Some(kept) = &entry.kept {
        kept.note_response(&response);
    }
    if let Some(call) = call {
        call.settle(&mut response);
    }
    if let Some(granted) = response.extensions_mut().remove::<Granted>()
        && let Some(client_end) = client_end
    {
        entry.upgraded();
        let tunnel = tunnel::run(client_end, granted, messages, entry);
        context.worker.tasks.spawn(tunnel);
        // The tunnel has the entry; the head of a 101 needs an account of nothing.
        return response.map(|_| Accounted::without_entry());
    }
    response.map(|body| Accounted::new(body, entry))
}

/// Every stage from the route on, in order. An error is a failure of the exchange for which no response hooks run. Who
/// looks at the messages of a WebSocket that it ends in is put into `messages`.
async fn live(
    context: &Context,
    routed: Routed,
    upgradable: bool,
    entry: &mut Entry,
    messages: &mut MessageChain,
) -> Result<Response<Body>, Failure> {
    let Routed {
        route,
        exchange,
        body,
    } = routed;
    let route = context.worker.route(route);

    // What the client takes, before a plugin makes the upstream take something else.
    let compression = (route.compress.as_ref())
        .map(|config| Wanted::by(config, &exchange.request.method, &exchange.request.headers));

    let passed = pass(context, route, 0, exchange, body, upgradable, entry).await;
    let (mut exchange, mut response) = passed;
    if let Ok(response) = &mut response {
        trailers::settle(response, &exchange.request.extensions);
    }

    if let Some(wanted) = compression {
        response = response.and_then(|response| compressed(&wanted, response));
    }

    // Who looks at the messages of a granted WebSocket.
    if let Ok(granted) = &response
        && granted
            .extensions()
            .get::<Granted>()
            .is_some_and(|granted| granted.is_websocket)
    {
        let (_, chain, _) = route.part(0);
        let asked;
        (exchange, asked) = Box::pin(messages::ask(chain, exchange, granted)).await;
        match asked {
            Ok(asked) => *messages = asked,
            Err(failure) => response = Err(failure),
        }
    }
    entry.keep(exchange);
    response
}

fn compressed(wanted: &Wanted<'_>, response: Response<Body>) -> Result<Response<Body>, Failure> {
    wanted.apply(response).map_err(|error| {
        let reason = format!("a response cannot be compressed: {error}");
        Failure::host(StatusCode::INTERNAL_SERVER_ERROR, reason)
    })
}

/// The route that a request takes, if there is no doubt about it: a path that an upstream may read as that of another
/// route, or of none, would get past what stands before the other.
fn route_of(
    context: &Context,
    received: &Received,
    parts: &request::Parts,
) -> Result<usize, Failure> {
    let worker = &context.worker;
    let asked = Asked {
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        method: &parts.method,
        headers: &parts.headers,
    };
    let find = |path: &str| {
        let asked = Asked { path, ..asked };
        worker
            .router()
            .find(context.listener, &received.authority, asked)
    };
    let Some(found) = find(asked.path) else {
        return Err(Failure::client(StatusCode::NOT_FOUND, "no route matches"));
    };
    if received.has_other_readings {
        // What follows a prefix, a plugin's or a rewrite's, must not lead out of it.
        if path::hides_dot_segments(asked.path) {
            return Err(Failure::bad_request("the path hides dot segments"));
        }
        if path::other_readings(asked.path).any(|other| find(&other) != Some(found)) {
            return Err(Failure::bad_request(
                "servers differ in how they read the path, and so does the route that it takes",
            ));
        }
    }
    Ok(found)
}

/// The chain forward, what it leads to, and the chain back. A middleware divides the chain: what is behind it, it calls
/// itself; `part` counts those that were passed.
async fn pass(
    context: &Context,
    route: &WorkerRoute,
    part: usize,
    exchange: Box<Exchange>,
    body: Body,
    upgradable: bool,
    entry: &mut Entry,
) -> (Box<Exchange>, Result<Response<Body>, Failure>) {
    let worker = &context.worker;
    let (links_before, chain, middleware) = route.part(part);
    let kept = entry.kept.clone();
    let kept = kept.as_deref();

    // The chain forward, and what it leads to.
    let (mut exchange, mut body, forward) = match chain {
        [] => (exchange, body, Forward::Passed),
        _ => Box::pin(chain::forward(chain, exchange, body)).await,
    };
    if let Some(kept) = kept {
        kept.tell_first(links_before + forward.told(chain));
    }
    let (passed, exchange, response) = match (forward, middleware) {
        (Forward::Passed, None) => {
            if exchange.facts.upgrade.is_some() && messages::may_inspect(chain) {
                messages::withhold_extensions(&mut exchange.request.headers);
            }
            // What a middleware passes on is not the client's exchange, which is parked already.
            let exchange = Parked::new(exchange, kept.filter(|_| part == 0));
            let arrived = arrive(context, route, &exchange, &mut body, upgradable, entry).await;
            (chain.len(), exchange.into_inner(), arrived)
        }
        (Forward::Passed, Some(middleware)) => {
            let exchange = Parked::new(exchange, kept.filter(|_| part == 0));
            let rest = async |exchange, body| {
                // Boxed, because it is this function again.
                let rest = Box::pin(pass(context, route, part + 1, exchange, body, false, entry));
                let (exchange, response) = rest.await;
                (
                    exchange,
                    response.unwrap_or_else(|failure| fail(entry, &failure)),
                )
            };
            let called = standard::through(middleware, &exchange, &mut body, context, rest);
            let called = Box::pin(called).await;
            if called
                .as_ref()
                .is_ok_and(|made| !made.status().is_server_error())
            {
                // It made up for what may have failed behind it.
                entry.outcome = Outcome::Aborted;
            }
            (chain.len(), exchange.into_inner(), called)
        }
        (Forward::Answered { at, response }, _) => {
            chain[at].note_answer(kept);
            (at, exchange, Ok(*response))
        }
        (Forward::Failed { failure, .. }, _) => {
            worker.discard(body);
            return (exchange, Err(failure));
        }
    };
    worker.discard(body);
    // A destination's failure passes back through the hooks as the response that it is.
    let response = response.unwrap_or_else(|failure| fail(entry, &failure));

    // The chain back.
    match &chain[..passed] {
        [] => (exchange, Ok(response)),
        passed => Box::pin(chain::back(passed, exchange, response, kept)).await,
    }
}

/// The end of the chain: an upstream, a component, a fixed reply, a redirect, or nobody. Takes the body if it is wanted.
async fn arrive(
    context: &Context,
    route: &WorkerRoute,
    exchange: &Exchange,
    body: &mut Body,
    upgradable: bool,
    entry: &mut Entry,
) -> Result<Response<Body>, Failure> {
    if let Some(component) = &route.component {
        return Box::pin(standard::handle(component, exchange, body, context)).await;
    }
    match &route.destination {
        Destination::Reply(fixed) => return Ok(reply::fixed(fixed)),
        Destination::Redirect(to) => return rewrite::redirect(to, &route.path, exchange),
        _ => {}
    }
    let Some(upstream) = route.upstream(&exchange.request.headers) else {
        return Err(Failure::client(
            StatusCode::NOT_FOUND,
            "no plugin of the route answered, and it has no upstream",
        ));
    };
    let upgrade = exchange.facts.upgrade.as_deref().filter(|_| upgradable);
    let permit = match upgrade {
        Some(_) => Some(route.upgrades.admit(exchange.facts.client)?),
        None => None,
    };
    let outgoing = Outgoing {
        head: &exchange.request,
        client: exchange.facts.client,
        use_upstream_authority: exchange.use_upstream_authority,
        upgrade,
        body,
        progress: entry.received.clone(),
        traced: entry.traced.clone(),
        waits: waits(context, route, upstream, entry),
    };
    let mut response = upstream.send(outgoing, &mut entry.upstream).await?;
    entry.upstream_time = Some(entry.elapsed());
    // What an HTTP/1.0 upstream says of its version is not what we speak.
    let version = std::mem::replace(response.version_mut(), Version::HTTP_11);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let inspected = upgrade.filter(|_| messages::may_inspect(route.part(0).1));
        let head = &exchange.request;
        let is_own_key = head.extensions.get::<OwnKey>().is_some();
        if is_own_key && !websocket_key::is_accepted(&head.headers, response.headers()) {
            return Err(Failure::bad_gateway(
                "the upstream's `Sec-WebSocket-Accept` does not fit the key",
            ));
        }
        return accept_upgrade(response, permit, route.websocket, inspected);
    }
    settle_length(response.headers_mut())?;
    match version {
        Version::HTTP_2 => trailers::keep_announcement(response.headers_mut()),
        _ => trailers::remove_all_but_announcement(response.headers_mut()),
    }
    Ok(response)
}

/// The route's own limits, and else those of the upstream and the listener.
fn waits(
    context: &Context,
    route: &WorkerRoute,
    upstream: &WorkerUpstream,
    entry: &Entry,
) -> Waits {
    let RouteTimeouts {
        response,
        idle,
        total,
    } = route.timeouts;
    let left = |total: Duration| Instant::now() + total.saturating_sub(entry.elapsed());
    Waits {
        response: response.unwrap_or_else(|| upstream.response_timeout()),
        pause: idle.unwrap_or(context.limits.body_timeout),
        end: total.map(left),
    }
}

/// RFC 9112 §6.3: `Transfer-Encoding` overrides `Content-Length`, which must not be sent on; and a coding that was
/// not undone must not lose its name. A length that was said several times is said once.
fn settle_length(headers: &mut HeaderMap) -> Result<(), Failure> {
    if let Some(coding) = headers.get(header::TRANSFER_ENCODING) {
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Failure::bad_gateway(
                "the upstream uses a transfer coding other than chunked",
            ));
        }
        headers.remove(header::CONTENT_LENGTH);
        return Ok(());
    }
    // hyper has compared them: they are the same.
    let Some(length) = headers.get(header::CONTENT_LENGTH) else {
        return Ok(());
    };
    if let Some(comma) = length.as_bytes().iter().position(|byte| *byte == b',') {
        let once = HeaderValue::from_bytes(length.as_bytes()[..comma].trim_ascii());
        let once = once.map_err(|_| Failure::bad_gateway("the upstream's length is no number"))?;
        headers.insert(header::CONTENT_LENGTH, once);
    }
    Ok(())
}

/// A 101: its hop-by-hop fields are what it is about, so `Upgrade` goes through, as does its reason phrase. The permit
/// is there when the client asked. `inspected`: what it asked for, where plugins may want to look at messages.
fn accept_upgrade(
    mut response: Response<Body>,
    permit: Option<Permit>,
    websocket: Option<Websocket>,
    inspected: Option<&str>,
) -> Result<Response<Body>, Failure> {
    let Some(permit) = permit else {
        return Err(Failure::bad_gateway(
            "the upstream switches protocols without being asked",
        ));
    };
    let upgrade = response.headers_mut().remove(header::UPGRADE);
    remove_hop_by_hop(response.headers_mut());
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    let is_websocket = (upgrade.as_ref())
        .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if let Some(asked) = inspected {
        messages::check_grant(response.headers(), upgrade.as_ref(), asked)?;
    }
    if let Some(upgrade) = upgrade {
        response.headers_mut().insert(header::UPGRADE, upgrade);
    }
    let granted = Granted {
        upstream: hyper::upgrade::on(&mut response),
        permit: Arc::new(permit),
        is_websocket,
        websocket: websocket.filter(|_| is_websocket),
    };
    response.extensions_mut().insert(granted);
    Ok(response)
}

fn fail(entry: &mut Entry, failure: &Failure) -> Response<Body> {
    let (request_id, route) = (&*entry.request_id, &*entry.route);
    let (fault, status, reason) = (
        failure.side.as_str(),
        failure.status.as_u16(),
        &*failure.reason,
    );
    match failure.side {
        // What clients do wrong, and that there are too many, they can do as often as they like.
        Side::Client | Side::Host if failure.status.as_u16() < 500 || failure.status == 503 => {
            tracing::debug!(target: "exchange", request_id, route, fault, status, reason, "exchange failed")
        }
        _ => {
            tracing::warn!(target: "exchange", request_id, route, fault, status, reason, "exchange failed")
        }
    }
    entry.fail(failure);
    if let Some(kept) = &entry.kept {
        kept.answered_by_nobody();
    }
    failure.response()
}

/// Makes the head say what will be sent: no body with HEAD, 204 and 304, and the length where it is known.
fn framed(mut response: Response<Body>, head_only: bool) -> Response<Body> {
    let status = response.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        // RFC 9110 §7.8; the chain takes `Connection` for the host's and off.
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    } else if status == StatusCode::NO_CONTENT {
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = Body::empty();
    } else if head_only || status == StatusCode::NOT_MODIFIED {
        let length = response.body().exact_size().filter(|length| *length > 0);
        if let Some(length) = length {
            response
                .headers_mut()
                .entry(header::CONTENT_LENGTH)
                .or_insert(HeaderValue::from(length));
        }
        *response.body_mut() = Body::empty();
    }
    response
}
