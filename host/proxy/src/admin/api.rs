//! What can be asked of the admin listener: one table of operations, and the answer to each.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::body::Body;
use super::{Shown, documents, events, pages};
use crate::metrics::classic;

/// Bytes of a request's body: a filter for the log.
const BODY: usize = 4096;

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Health,
    Ready,
    Metrics,
    Status,
    Config,
    Routes,
    Plugins,
    Plugin,
    Upstreams,
    Connections,
    Exchanges,
    Events,
    LogLevel,
    SetLogLevel,
    Drain,
    Reload,
    Chrome,
    Harvest,
    OpenApi,
    Page,
    Style,
    Script,
}

use Operation as O;

/// Every operation with its method and path; `{name}` stands for one segment.
pub(super) const OPERATIONS: [(&str, &str, Operation); 22] = [
    ("GET", "/health", O::Health),
    ("GET", "/ready", O::Ready),
    ("GET", "/metrics", O::Metrics),
    ("GET", "/status", O::Status),
    ("GET", "/config", O::Config),
    ("GET", "/routes", O::Routes),
    ("GET", "/plugins", O::Plugins),
    ("GET", "/plugins/{name}", O::Plugin),
    ("GET", "/upstreams", O::Upstreams),
    ("GET", "/connections", O::Connections),
    ("GET", "/exchanges", O::Exchanges),
    ("GET", "/events", O::Events),
    ("GET", "/log-level", O::LogLevel),
    ("PUT", "/log-level", O::SetLogLevel),
    ("POST", "/drain", O::Drain),
    ("POST", "/reload", O::Reload),
    ("GET", "/chrome", O::Chrome),
    ("POST", "/harvest", O::Harvest),
    ("GET", "/openapi.json", O::OpenApi),
    ("GET", "/", O::Page),
    ("GET", "/dashboard.css", O::Style),
    ("GET", "/dashboard.js", O::Script),
];

impl Operation {
    /// Whether it is for everybody who reaches the address: those who probe (a kubelet, a load balancer) have nothing
    /// to show, and the dashboard's files hold nothing.
    fn is_open(self) -> bool {
        matches!(
            self,
            O::Health | O::Ready | O::OpenApi | O::Page | O::Style | O::Script
        )
    }

    fn changes(self) -> bool {
        matches!(self, O::SetLogLevel | O::Drain | O::Reload | O::Harvest)
    }
}

/// The operations of a path, each with its method, and what stands in place of `{name}`.
fn operations(path: &str) -> Vec<(&'static str, Operation, &str)> {
    let found = OPERATIONS
        .iter()
        .filter_map(|(method, pattern, operation)| {
            let name = match pattern.strip_suffix("{name}") {
                Some(start) => path.strip_prefix(start).filter(|name| is_segment(name))?,
                None => (*pattern == path).then_some("")?,
            };
            Some((*method, *operation, name))
        });
    found.collect()
}

fn is_segment(name: &str) -> bool {
    !name.is_empty() && !name.contains('/')
}

/// What is sent.
pub(super) struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: Body,
    field: Option<(&'static str, HeaderValue)>,
}

impl Answer {
    fn new(content_type: &'static str, body: impl Into<Body>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type,
            body: body.into(),
            field: None,
        }
    }

    fn text(content_type: &'static str, text: &'static str) -> Self {
        let bytes = Bytes::from_static(text.as_bytes());
        Self::new(content_type, Body::Whole(Some(bytes)))
    }

    pub(super) fn json(status: StatusCode, document: &Value) -> Self {
        Self {
            status,
            ..Self::new("application/json", format!("{document}\n"))
        }
    }

    pub(super) fn events(body: Body) -> Self {
        Self::new("text/event-stream", body)
    }

    pub(super) fn error(status: StatusCode, why: &str) -> Self {
        Self::json(status, &json!({ "error": why }))
    }

    pub(super) fn needs_token() -> Self {
        let challenge = HeaderValue::from_static("Bearer realm=\"witgate admin\"");
        Self::error(StatusCode::UNAUTHORIZED, "a bearer token is needed")
            .with("www-authenticate", challenge)
    }

    fn with(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.field = Some((name, value));
        self
    }

    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if let Some((name, value)) = self.field {
            headers.insert(name, value);
        }
        let fixed = [
            (header::CONTENT_TYPE, self.content_type),
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
        ];
        for (name, value) in fixed {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let same_origin = HeaderValue::from_static("same-origin");
        headers.insert("cross-origin-resource-policy", same_origin);
        response
    }
}

/// The dashboard is three files of this listener, which ask it alone.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

impl Shown {
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let answer = self.answer_or_refuse(request).await;
        answer.unwrap_or_else(|refusal| refusal).into_response()
    }

    async fn answer_or_refuse(&self, request: Request<Incoming>) -> Result<Answer, Answer> {
        let path = request.uri().path().to_owned();
        let known = operations(&path);
        if known.is_empty() {
            let all = OPERATIONS.map(|(_, path, _)| path).join(" ");
            let why = format!("there is nothing of this name, but: {all}");
            return Err(Answer::error(StatusCode::NOT_FOUND, &why));
        }
        let method = match request.method() {
            &Method::HEAD => "GET",
            other => other.as_str(),
        };
        let Some((_, operation, name)) = known.iter().find(|(known, ..)| *known == method) else {
            return Err(not_allowed(&known));
        };
        if !operation.is_open() {
            self.admit(&request, operation.changes())?;
        }
        self.perform(*operation, name, request).await
    }

    async fn perform(
        &self,
        operation: Operation,
        name: &str,
        request: Request<Incoming>,
    ) -> Result<Answer, Answer> {
        let ok = |document: &Value| Ok(Answer::json(StatusCode::OK, document));
        let (status, metrics) = (&self.status, &self.status.metrics);
        let generation = self.generations.borrow().clone();
        match operation {
            O::Health => Ok(Answer::text(TEXT, "ok\n")),
            O::Ready => {
                let (ready, document) = status.ready(self.access(&request).is_granted());
                let status = match ready {
                    true => StatusCode::OK,
                    false => StatusCode::SERVICE_UNAVAILABLE,
                };
                Ok(Answer::json(status, &document))
            }
            O::Metrics => self.metrics(takes_open_metrics(&request)).await,
            O::Status => ok(&self.status_document().await),
            O::Config => ok(&generation.config().shown()),
            O::Routes => ok(&documents::routes(&generation, &metrics.figures())),
            O::Plugins => ok(&documents::plugins(&generation, &metrics.figures())),
            O::Plugin => {
                let figures = metrics.figures();
                let found = documents::plugin(&generation, &figures, metrics, name);
                let why = "there is no plugin of this name";
                let found = found.ok_or_else(|| Answer::error(StatusCode::NOT_FOUND, why))?;
                ok(&found)
            }
            O::Upstreams => ok(&documents::upstreams(&generation, &metrics.figures())),
            O::Connections => ok(&documents::connections(metrics)),
            O::Exchanges => {
                let found = metrics.looks.look(&mut Default::default()).await;
                let exchanges: Vec<_> =
                    found.iter().map(|past| documents::exchange(past)).collect();
                ok(&json!({ "exchanges": exchanges }))
            }
            O::Events => events::stream(self),
            O::LogLevel => ok(&json!({ "filter": self.operate()?.log_filter() })),
            O::SetLogLevel => {
                let filter = filter(request).await?;
                let refused = |why: String| Answer::error(StatusCode::BAD_REQUEST, &why);
                let operate = self.operate()?;
                operate.set_log_filter(&filter).map_err(refused)?;
                ok(&json!({ "filter": operate.log_filter() }))
            }
            O::Drain => {
                self.operate()?.drain();
                let document = json!({ "draining": true });
                Ok(Answer::json(StatusCode::ACCEPTED, &document))
            }
            O::Reload => {
                let stopping = |why: String| Answer::error(StatusCode::SERVICE_UNAVAILABLE, &why);
                let report = self.operate()?.reload().await.map_err(stopping)?;
                let status = match report.is_done() {
                    true => StatusCode::OK,
                    false => StatusCode::UNPROCESSABLE_ENTITY,
                };
                Ok(Answer::json(status, report.document()))
            }
            O::Chrome => ok(&self.operate()?.browser().ok_or_else(no_chromium)?),
            O::Harvest => {
                let harvest = self.operate()?.harvest().ok_or_else(no_chromium)?;
                let failed = |why: String| Answer::error(StatusCode::BAD_GATEWAY, &why);
                ok(&harvest.await.map_err(failed)?)
            }
            O::OpenApi => Ok(Answer::text("application/json", pages::OPENAPI)),
            O::Page => Ok(Answer::text("text/html; charset=utf-8", pages::PAGE)),
            O::Style => Ok(Answer::text("text/css; charset=utf-8", pages::STYLE)),
            O::Script => Ok(Answer::text(
                "text/javascript; charset=utf-8",
                pages::SCRIPT,
            )),
        }
    }

    pub(super) fn operate(&self) -> Result<&dyn super::Operate, Answer> {
        let nobody = || Answer::error(StatusCode::NOT_FOUND, "this process can only be looked at");
        self.status.operate.as_deref().ok_or_else(nobody)
    }

    async fn metrics(&self, open_metrics: bool) -> Result<Answer, Answer> {
        let status = self.status.clone();
        // What Chromium's harvests came to is read from a file.
        let written = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &status.registry).map(|()| text)
        });
        let why = match written.await {
            Ok(Ok(text)) if open_metrics => return Ok(Answer::new(OPENMETRICS, text)),
            Ok(Ok(text)) => return Ok(Answer::new(PROMETHEUS, classic::of(&text))),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!(why, "the metrics cannot be written");
        let see = "the metrics cannot be written; see the log";
        Err(Answer::error(StatusCode::INTERNAL_SERVER_ERROR, see))
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether a scraper names OpenMetrics among what it takes, as those do that speak it; what others take is the older format.
fn takes_open_metrics(request: &Request<Incoming>) -> bool {
    let accepted = request.headers().get_all(header::ACCEPT).iter();
    let mut accepted = accepted.filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.contains("application/openmetrics-text"))
}

fn not_allowed(known: &[(&'static str, Operation, &str)]) -> Answer {
    let methods = known.iter().map(|(method, ..)| match *method {
        "GET" => "GET, HEAD",
        other => other,
    });
    let methods = methods.collect::<Vec<_>>().join(", ");
    let why = format!("only {methods}");
    let allow = HeaderValue::try_from(methods).expect("names of methods are a legal value");
    Answer::error(StatusCode::METHOD_NOT_ALLOWED, &why).with("allow", allow)
}

fn no_chromium() -> Answer {
    let why = "there is no [chrome] with a [chrome.snapshot] in the configuration";
    Answer::error(StatusCode::NOT_FOUND, why)
}

/// `{"filter": "info,access=off"}`
async fn filter(request: Request<Incoming>) -> Result<String, Answer> {
    let wrong = || {
        let why = "the body has to be JSON: {\"filter\": \"info,access=off\"}";
        Answer::error(StatusCode::BAD_REQUEST, why)
    };
    let body = Limited::new(request.into_body(), BODY).collect().await;
    let body = body.map_err(|_| wrong())?.to_bytes();
    let document: Value = serde_json::from_slice(&body).map_err(|_| wrong())?;
    let filter = document.get("filter").and_then(Value::as_str);
    let is_alone = document.as_object().is_some_and(|fields| fields.len() == 1);
    filter
        .filter(|_| is_alone)
        .map(str::to_owned)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_document_that_describes_the_api_has_every_operation_and_no_other() {
        let document: Value = serde_json::from_str(pages::OPENAPI).expect("it is JSON");
        let paths = document["paths"].as_object().expect("it has paths");
        let described: BTreeSet<_> = paths
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().expect("a path has methods");
                let methods = methods.keys().filter(|key| *key != "parameters");
                methods.map(move |method| format!("{} {path}", method.to_uppercase()))
            })
            .collect();
        let known = OPERATIONS
            .iter()
            .map(|(method, path, _)| format!("{method} {path}"));
        assert_eq!(described, known.collect());
    }

    #[test]
    fn a_path_with_a_name_in_it_is_one_segment_longer() {
        let of = |path| operations(path).first().map(|(_, operation, _)| *operation);
        assert_eq!(of("/plugins"), Some(O::Plugins));
        assert_eq!(of("/plugins/a"), Some(O::Plugin));
        assert_eq!(of("/plugins/"), None);
        assert_eq!(of("/plugins/a/b"), None);
        assert_eq!(operations("/log-level").len(), 2);
    }
}
