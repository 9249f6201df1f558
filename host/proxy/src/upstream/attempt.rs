//! One attempt to send a request, by one connection.

use std::io;

use http::{Request, Response, StatusCode};

use super::Outgoing;
use super::connection::{Sending, Unanswered};
use super::http2::{self, Verdict};
use super::pool::{Lease, Used};
use crate::body::{Body, BodyError};
use crate::failure::Failure;

/// How one attempt failed.
pub(super) enum Attempt {
    /// Nothing was sent; the request's body is whole and may go elsewhere.
    Unsent(Body, Failure),
    /// It was sent, or may have been.
    Broken(Failure),
    Late(Failure),
    /// It was sent, and the other side says that it did not look at it.
    Unprocessed(Failure),
    /// The connection was an old one that ended without a word: the peer's idle timeout crossed our request.
    Stale(Failure),
    /// A limit was reached; the body is whole.
    Overloaded(Body, Failure),
    /// It is not the upstream's fault, and no other target would do better.
    Refused(Failure),
}

/// What a span says of an attempt.
pub(super) fn in_short(sent: &Result<Response<Body>, Attempt>) -> Result<StatusCode, &'static str> {
    match sent {
        Ok(response) => Ok(response.status()),
        Err(Attempt::Unsent(..)) => Err("connect"),
        Err(Attempt::Broken(_) | Attempt::Stale(_)) => Err("broken"),
        Err(Attempt::Late(_)) => Err("timeout"),
        Err(Attempt::Unprocessed(_)) => Err("refused"),
        Err(Attempt::Overloaded(..)) => Err("limit"),
        Err(Attempt::Refused(_)) => Err("client"),
    }
}

/// A request that goes out by one connection.
pub(super) struct Going {
    lease: Lease,
    sending: Sending,
    /// Without a body.
    is_whole: bool,
    /// With a body that its client sends.
    is_clients: bool,
}

/// Begins to send a request by one connection; [`attempt`] waits for what comes of it. Two steps, because a future that
/// takes a request keeps room for it to its end.
pub(super) fn begin(mut lease: Lease, request: Request<Body>) -> Going {
    let is_whole = http_body::Body::is_end_stream(request.body());
    let is_clients = request.body().is_of_a_connection();
    let sending = match lease.used() {
        Used::Whole(connection) => connection.begin(request),
        Used::Stream(stream) => stream.begin(request),
    };
    Going {
        lease,
        sending,
        is_whole,
        is_clients,
    }
}

/// Waits for the answer to a request that is going out.
pub(super) async fn attempt(
    going: Going,
    reused: bool,
    outgoing: &Outgoing<'_>,
    name: &str,
) -> Result<Response<Body>, Attempt> {
    let (progress, waits) = (&outgoing.progress, &outgoing.waits);
    let Going {
        mut lease,
        mut sending,
        is_whole,
        is_clients,
    } = going;
    let answered = match lease.used() {
        Used::Whole(connection) => connection.answer(&mut sending, progress, waits).await,
        Used::Stream(stream) => Box::pin(stream.answer(&mut sending, progress, waits)).await,
    };
    match answered {
        Ok(response) => {
            let sent = is_whole || (is_clients && progress.has_ended());
            if (!sent || response.status() == StatusCode::SWITCHING_PROTOCOLS)
                && let Used::Whole(connection) = lease.used()
            {
                connection.detach();
            }
            Ok(response.map(|incoming| Body::response(incoming, waits, lease)))
        }
        Err(Unanswered::InTime)
            if is_clients && waits.are_over() && progress.is_waiting() && !progress.has_ended() =>
        {
            let why = "the client's body did not end within the route's `timeouts.total`";
            let failure = Failure::client(StatusCode::REQUEST_TIMEOUT, why);
            Err(Attempt::Refused(failure))
        }
        Err(Unanswered::InTime) => {
            let reason = match waits.are_over() {
                true => format!("{name}: no response within the route's `timeouts.total`"),
                false => format!("{name}: no response within {:?}", waits.response),
            };
            Err(Attempt::Late(Failure::gateway_timeout(reason)))
        }
        Err(Unanswered::Broken(mut error)) => match error.take_message() {
            Some(request) => {
                let why = format!(
                    "{name}: it closed the new connection, or spoke on it, before it was asked anything; \
                     it may speak another protocol than `protocol` says"
                );
                Err(Attempt::Unsent(
                    request.into_body(),
                    Failure::bad_gateway(why),
                ))
            }
            None => Err(explain(error.into_error(), reused, name)),
        },
    }
}

fn explain(error: hyper::Error, reused: bool, endpoint: &str) -> Attempt {
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        if let Some(body) = cause.downcast_ref::<BodyError>() {
            return Attempt::Refused(Failure::request_body(body));
        }
        source = cause.source();
    }
    let mut reason = match std::error::Error::source(&error) {
        Some(cause) => format!("{endpoint}: {error}: {cause}"),
        None => format!("{endpoint}: {error}"),
    };
    let verdict = http2::judge(&error);
    if error.is_parse() || verdict == Some(Verdict::NotHttp2) {
        reason += "; it may speak another protocol than `protocol` says";
    }
    match verdict {
        Some(Verdict::Unprocessed) => {
            return Attempt::Unprocessed(Failure::bad_gateway(reason));
        }
        Some(Verdict::BrokenOff) => return Attempt::Refused(Failure::bad_request(reason)),
        Some(Verdict::NotHttp2) | None => {}
    }
    let failure = Failure::bad_gateway(reason);
    match reused && (error.is_incomplete_message() || error.is_canceled() || is_reset(&error)) {
        true => Attempt::Stale(failure),
        false => Attempt::Broken(failure),
    }
}

fn is_reset(error: &hyper::Error) -> bool {
    let io = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|e| {
        matches!(
            e.kind(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        )
    })
}
