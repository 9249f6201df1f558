//! The plugins of a route: request hooks in their order, response hooks in reverse.

use std::rc::Rc;
use std::sync::Arc;

use http::{Extensions, HeaderValue, Response, StatusCode, header};
use hyper::ext::ReasonPhrase;
use witgate_runtime::{Exchange, PluginFailure, Reply, ResponseHead, Verdict, WorkerPlugin};

use crate::body::{Body, Held};
use crate::completion::Kept;
use crate::config::OnFailure;
use crate::failure::Failure;
use crate::file::{FileCache, Mount};
use crate::reply;
use crate::trailers;

/// One plugin of a chain, on this worker.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) plugin: Rc<WorkerPlugin>,
    pub(crate) on_failure: OnFailure,
    pub(crate) mounts: Arc<[Mount]>,
    /// What it answered with from there.
    pub(crate) files: Rc<FileCache>,
}

/// What the request hooks came to.
#[derive(Debug)]
pub(crate) enum Forward {
    /// All let it pass.
    Passed,
    /// The plugin at this place answered; those before it see the response.
    Answered {
        at: usize,
        response: Box<Response<Body>>,
    },
    /// A plugin failed, and its policy is to end the exchange. So many were passed before.
    Failed { passed: usize, failure: Failure },
}

impl Forward {
    /// How many plugins of the chain are told of the exchange's end: those that were passed, and the one that answered.
    pub(crate) fn told(&self, chain: &[Link]) -> usize {
        match self {
            Self::Passed => chain.len(),
            Self::Answered { at, .. } => at + 1,
            Self::Failed { passed, .. } => *passed,
        }
    }

    fn answered(at: usize, response: Result<Response<Body>, Failure>) -> Self {
        match response {
            Ok(response) => Self::Answered {
                at,
                response: Box::new(response),
            },
            Err(failure) => Self::Failed {
                passed: at,
                failure,
            },
        }
    }
}

/// Calls the request hooks. The body comes back as the plugins want it sent on, or unread when it is not.
pub(crate) async fn forward(
    chain: &[Link],
    mut exchange: Box<Exchange>,
    mut body: Body,
) -> (Box<Exchange>, Body, Forward) {
    for (at, link) in chain.iter().enumerate() {
        if !link.plugin.plugin().hooks().request {
            continue;
        }
        let verdict;
        (exchange, verdict) = link.plugin.on_request(exchange).await;
        match link.judge(verdict, &exchange) {
            Ok(Verdict::Next) => {}
            Ok(Verdict::Answer(answer)) => {
                let response = link.answer(*answer, &exchange);
                return (exchange, body, Forward::answered(at, response));
            }
            Ok(Verdict::Transform(transform)) => {
                body = body.transformed(*transform);
                exchange.request.headers.remove(header::CONTENT_LENGTH);
            }
            Ok(Verdict::Hold(transform)) => {
                exchange.request.headers.remove(header::CONTENT_LENGTH);
                let held;
                (exchange, held) = Box::pin(body.held(*transform, exchange)).await;
                body = match held {
                    Ok(Held::Body(body)) => body,
                    Ok(Held::Answer(answer)) => {
                        let response = link.answer(*answer, &exchange);
                        return (exchange, Body::empty(), Forward::answered(at, response));
                    }
                    Err(error) => {
                        let failed = Forward::Failed {
                            passed: at + 1,
                            failure: Failure::request_body(&error),
                        };
                        return (exchange, Body::empty(), failed);
                    }
                };
                trailers::frame_held(&mut exchange.request.headers, &body);
            }
            Err(failure) => {
                let failed = Forward::Failed {
                    passed: at,
                    failure,
                };
                return (exchange, body, failed);
            }
        }
    }
    (exchange, body, Forward::Passed)
}

/// Calls the response hooks of the plugins that were passed.
pub(crate) async fn back(
    passed: &[Link],
    mut exchange: Box<Exchange>,
    response: Response<Body>,
    kept: Option<&Kept>,
) -> (Box<Exchange>, Result<Response<Body>, Failure>) {
    if passed
        .iter()
        .all(|link| !link.plugin.plugin().hooks().response)
    {
        return (exchange, Ok(response));
    }
    let (mut head, mut body, mut extensions) = take_apart(response);
    let status = head.status;
    for link in passed
        .iter()
        .rev()
        .filter(|link| link.plugin.plugin().hooks().response)
    {
        let upgraded = head.status == StatusCode::SWITCHING_PROTOCOLS;
        exchange.response = Some(head);
        let verdict;
        (exchange, verdict) = link.plugin.on_response(exchange).await;
        head = exchange
            .response
            .take()
            .expect("only this function takes a response out of its exchange");
        match link.judge(verdict, &exchange) {
            Ok(Verdict::Next) => {}
            Ok(Verdict::Answer(_)) if upgraded => {
                let name = link.plugin.plugin().name();
                return (
                    exchange,
                    Err(Failure::plugin(format!(
                        "plugin `{name}` answered a granted upgrade"
                    ))),
                );
            }
            Ok(Verdict::Answer(answer)) => match link.answer(*answer, &exchange) {
                Ok(response) => {
                    let end_connection = head.end_connection;
                    (head, body, extensions) = take_apart(response);
                    head.end_connection |= end_connection;
                    link.note_answer(kept);
                }
                Err(failure) => return (exchange, Err(failure)),
            },
            // Where there is no body, there is nothing to pass through.
            Ok(Verdict::Transform(_) | Verdict::Hold(_)) if !has_body(&exchange, head.status) => {}
            Ok(Verdict::Transform(transform)) => {
                body = body.transformed(*transform);
                head.headers.remove(header::CONTENT_LENGTH);
                now_different(&mut head);
            }
            Ok(Verdict::Hold(transform)) => {
                // Before the plugin sees the head again, so that what it says of the new body stands.
                head.headers.remove(header::CONTENT_LENGTH);
                now_different(&mut head);
                exchange.response = Some(head);
                let held;
                (exchange, held) = Box::pin(body.held(*transform, exchange)).await;
                head = exchange
                    .response
                    .take()
                    .expect("only this function takes a response out of its exchange");
                match held {
                    Ok(Held::Body(whole)) => {
                        body = match trailers::are_taken(&exchange.request.extensions) {
                            true => whole,
                            false => whole.without_trailers(),
                        };
                        trailers::frame_held(&mut head.headers, &body);
                    }
                    Ok(Held::Answer(answer)) => match link.answer(*answer, &exchange) {
                        Ok(response) => {
                            let end_connection = head.end_connection;
                            (head, body, extensions) = take_apart(response);
                            head.end_connection |= end_connection;
                            link.note_answer(kept);
                        }
                        Err(failure) => return (exchange, Err(failure)),
                    },
                    Err(error) => return (exchange, Err(Failure::response_body(&error))),
                }
            }
            Err(failure) => return (exchange, Err(failure)),
        }
    }
    if head.status != status {
        // The words belonged to the other status.
        extensions.remove::<ReasonPhrase>();
    }
    (exchange, Ok(put_together(head, body, extensions)))
}

impl Link {
    /// Applies the plugin's policy to its failure.
    fn judge(
        &self,
        verdict: Result<Verdict, PluginFailure>,
        exchange: &Exchange,
    ) -> Result<Verdict, Failure> {
        match verdict {
            Ok(verdict) => Ok(verdict),
            Err(failure) if self.on_failure == OnFailure::Open => {
                let facts = &exchange.facts;
                tracing::warn!(
                    request_id = &*facts.id,
                    route = &*facts.route,
                    kind = failure.kind.label(),
                    "{failure}; skipped (`on-failure = \"open\"`)"
                );
                Ok(Verdict::Next)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// This plugin's reply is what is sent, as far as is known.
    pub(crate) fn note_answer(&self, kept: Option<&Kept>) {
        if let Some(kept) = kept {
            kept.answered_by(&self.plugin);
        }
    }

    fn answer(&self, answer: Reply, exchange: &Exchange) -> Result<Response<Body>, Failure> {
        reply::of_plugin(
            answer,
            &self.mounts,
            &self.files,
            &exchange.request.method,
            &exchange.request.headers,
        )
    }
}

/// A body that a plugin rewrote is another representation: a strong validator would claim that it is the same
/// (RFC 9110 §8.8.1), and ranges of the original do not apply.
fn now_different(head: &mut ResponseHead) {
    head.headers.remove(header::ACCEPT_RANGES);
    if let Some(etag) = head.headers.get_mut(header::ETAG)
        && !etag.as_bytes().starts_with(b"W/")
    {
        let weak = [b"W/", etag.as_bytes()].concat();
        *etag = HeaderValue::from_bytes(&weak)
            .expect("an entity tag with W/ before it is a legal value");
    }
}

fn has_body(exchange: &Exchange, status: StatusCode) -> bool {
    exchange.request.method != http::Method::HEAD
        && !matches!(
            status,
            StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        )
}

fn take_apart(response: Response<Body>) -> (ResponseHead, Body, Extensions) {
    let (parts, body) = response.into_parts();
    let mut headers = parts.headers;
    // `Connection` is the host's; of what stands in it only the wish to end the connection matters here.
    let end_connection = headers
        .remove(header::CONNECTION)
        .is_some_and(|value| value == "close");
    (
        ResponseHead {
            status: parts.status,
            headers,
            end_connection,
        },
        body,
        parts.extensions,
    )
}

fn put_together(head: ResponseHead, body: Body, extensions: Extensions) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    *response.extensions_mut() = extensions;
    if head.end_connection {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
