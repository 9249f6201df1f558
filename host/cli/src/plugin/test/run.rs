//! Runs a test: what the proxy would do with its exchanges, and what is other than expected.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use witgate_testkit::{
    Body, Component, Direction, End, FaultySide, Head, HeldEnd, Messages, Plugin, PluginFailure,
    Reply, Scheme, SendError, Store, Summary, Verdict, diff,
};

use super::case::{Answer, Case, Ending, Exchange, Fate, Request, Sent};
use super::expect;

/// What became of a test.
pub(crate) struct Outcome {
    /// Each a paragraph; none when it passed.
    pub(crate) failures: Vec<String>,
    /// Fuel of all hook calls.
    pub(crate) cost: u64,
    /// What the plugin logged.
    pub(crate) log: Vec<String>,
}

/// What became of one exchange, as far as it is expected to be anything.
#[derive(Default)]
pub(super) struct Became {
    /// As the upstream gets it.
    pub(super) request: Head,
    pub(super) request_verdict: &'static str,
    /// As the client gets it.
    pub(super) response: Option<Head>,
    pub(super) response_verdict: &'static str,
    /// What the plugin answered itself.
    pub(super) reply: Option<Head>,
    pub(super) failure: Option<String>,
    pub(super) messages: Vec<(Sent, String)>,
}

/// Runs a test on an instance of its own.
pub(crate) fn run(component: &Component, case: &Case) -> Outcome {
    let lent = Lent::new(component, case);
    let started = lent.component.try_start(&case.config.to_string());
    let plugin = match (started, &case.config_errors) {
        (Ok(plugin), None) => plugin,
        (Ok(plugin), Some(_)) => {
            let what = "the plugin takes the configuration, which it is to refuse";
            return Outcome::failed(vec![what.into()], lines(&plugin));
        }
        (Err(not), Some(expected)) if !not.mistakes().is_empty() => {
            let log = not.log.iter().map(ToString::to_string).collect();
            return Outcome::failed(expect::mistakes(expected, not.mistakes()), log);
        }
        (Err(not), _) => {
            let log = not.log.iter().map(ToString::to_string).collect();
            return Outcome::failed(vec![first_line(&not.to_string())], log);
        }
    };
    let mut failures = Vec::new();
    let mut seen = 0;
    for (at, exchange) in case.exchanges.iter().enumerate() {
        plugin.advance(exchange.after);
        let before = plugin.cost();
        let mut inner = request(&exchange.request);
        let became = pass(&plugin, exchange, &mut inner);
        let cost = plugin.cost() - before;
        let log = lines(&plugin);
        let mut found = expect::differences(&exchange.expect, &became, &inner);
        found.extend(expect::log(&exchange.expect.log, &log[seen..]));
        found.extend(expect::cost(exchange.expect.cost, cost));
        found.extend(lent.keyvalue(&exchange.expect.keyvalue));
        seen = log.len();
        let of = match case.exchanges.len() {
            1 => String::new(),
            _ => format!("exchange {}: ", at + 1),
        };
        failures.extend(found.into_iter().map(|what| format!("{of}{what}")));
    }
    failures.extend(lent.unanswered());
    Outcome {
        failures,
        cost: plugin.cost(),
        log: lines(&plugin),
    }
}

impl Outcome {
    fn failed(failures: Vec<String>, log: Vec<String>) -> Self {
        Self {
            failures,
            cost: 0,
            log,
        }
    }
}

fn lines(plugin: &Plugin) -> Vec<String> {
    plugin.log().iter().map(ToString::to_string).collect()
}

/// wasmtime's account of a trap is a page; the guest's own words are in the log.
fn first_line(text: &str) -> String {
    const MOST: usize = 12;
    let lines: Vec<_> = text.lines().take(MOST).collect();
    lines.join("\n")
}

/// The component with what the test grants it.
struct Lent {
    component: Component,
    store: Option<Store>,
    unanswered: Arc<Mutex<Vec<String>>>,
}

impl Lent {
    fn new(component: &Component, case: &Case) -> Self {
        let mut component = component.clone();
        let store = case.grants.keyvalue.as_ref().map(|pairs| {
            let store = Store::new();
            for (key, value) in pairs {
                store.set(key, value.as_str());
            }
            store
        });
        if let Some(store) = &store {
            component = component.keyvalue(store);
        }
        if let Some(series) = case.grants.metrics {
            component = component.metrics(series);
        }
        let secrets = case.grants.secrets.iter();
        let secrets: Vec<_> = secrets.map(|(name, value)| (&**name, &**value)).collect();
        component = component.secrets(&secrets);
        let unanswered = Arc::new(Mutex::new(Vec::new()));
        if !case.grants.origins.is_empty() {
            let origins: Vec<_> = case.grants.origins.iter().map(String::as_str).collect();
            let (answers, missing) = (case.upstream.clone(), unanswered.clone());
            component = component.answering(&origins, move |request| {
                answer(&answers, request).inspect_err(|_| {
                    let what = format!("{} {}", request.method(), url(request));
                    missing
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(what);
                })
            });
        }
        Self {
            component,
            store,
            unanswered,
        }
    }

    fn unanswered(&self) -> Vec<String> {
        let missing = self.unanswered.lock();
        let missing = missing.unwrap_or_else(PoisonError::into_inner);
        let sentence = |request: &String| {
            format!(
                "the plugin sent `{request}`, and no `[[test.upstream]]` answers that, so it was told that there is no connection"
            )
        };
        missing.iter().map(sentence).collect()
    }

    fn keyvalue(&self, expected: &[(String, Option<String>)]) -> Vec<String> {
        let get = |key: &str| {
            let value = self.store.as_ref()?.get(key)?;
            Some(String::from_utf8_lossy(&value).into_owned())
        };
        let found: Vec<_> = expected
            .iter()
            .map(|(key, _)| (key.clone(), get(key)))
            .collect();
        expect::pairs("the store", expected, &found)
    }
}

fn url(request: &http::Request<Bytes>) -> String {
    let host = request.headers().get("host");
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let scheme = request.extensions().get::<Scheme>();
    let scheme = scheme.map_or("http", |scheme| scheme.as_str());
    format!("{scheme}://{host}{}", request.uri())
}

fn answer(
    answers: &[Answer],
    request: &http::Request<Bytes>,
) -> Result<http::Response<Bytes>, SendError> {
    let url = url(request);
    let mut answers = answers.iter();
    let answer = answers.find(|answer| answer.method == request.method() && answer.url == url);
    let Some(answer) = answer else {
        return Err(SendError::Connect("the test has no answer to it".into()));
    };
    let mut response = http::Response::new(Bytes::from(answer.body.clone()));
    *response.status_mut() = answer.status;
    response
        .headers_mut()
        .extend(answer.headers.iter().cloned());
    Ok(response)
}

fn request(spec: &Request) -> witgate_testkit::Exchange {
    let mut exchange = witgate_testkit::Exchange::new(spec.method.as_str(), &spec.path)
        .authority(&spec.authority)
        .scheme(spec.scheme);
    if let Some(address) = spec.client {
        exchange = exchange.client(address);
    }
    if let Some(protocol) = &spec.upgrade {
        exchange = exchange.upgrade(protocol);
    }
    for (name, value) in &spec.headers {
        exchange = exchange.header(name.as_str(), value.as_bytes());
    }
    for (plugin, note, value) in &spec.attributes {
        exchange = exchange.note_of(plugin, note, value);
    }
    exchange
}

/// Passes one exchange through the plugin, in the proxy's order.
fn pass(plugin: &Plugin, spec: &Exchange, inner: &mut witgate_testkit::Exchange) -> Became {
    let mut became = Became::default();
    if let Err(failure) = try_pass(plugin, spec, inner, &mut became) {
        became.failure = Some(first_line(&failure.to_string()));
    }
    became
}

fn try_pass(
    plugin: &Plugin,
    spec: &Exchange,
    inner: &mut witgate_testkit::Exchange,
    became: &mut Became,
) -> Result<(), PluginFailure> {
    let verdict = plugin.try_on_request(inner)?;
    became.request_verdict = word(&verdict);
    let passed = body(verdict, &spec.request.body, inner)?;
    let first = format!("{} {}", spec.request.method, inner.path_with_query());
    became.request = Head::new(first, &inner.inner().request.headers);
    match passed {
        Passed::Body(text) => became.request.body = text,
        Passed::Reply(reply) => {
            became.reply = Some(shown(&reply));
            return end(plugin, spec, inner, Some(reply.status));
        }
    }
    respond(plugin, spec, inner, became)?;
    let status = inner
        .inner()
        .response
        .as_ref()
        .map(|response| response.status);
    if !spec.messages.is_empty() {
        let wanted = plugin.try_on_upgrade(inner)?;
        for sent in &spec.messages {
            became.messages.push(message(wanted.as_ref(), sent)?);
        }
    }
    end(plugin, spec, inner, status)
}

/// The way back, when the test has one.
fn respond(
    plugin: &Plugin,
    spec: &Exchange,
    inner: &mut witgate_testkit::Exchange,
    became: &mut Became,
) -> Result<(), PluginFailure> {
    let implied = match spec.messages.is_empty() {
        true => spec.expect.response.is_some() || spec.end.is_some(),
        false => true,
    };
    let (status, headers, chunks) = match &spec.response {
        Some(response) => {
            let headers = response.headers.iter();
            let headers = headers.map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.to_string(), value)
            });
            (response.status.as_u16(), headers.collect(), &*response.body)
        }
        None if !implied => return Ok(()),
        None if spec.messages.is_empty() => (200, Vec::new(), &[][..]),
        None => (101, Vec::new(), &[][..]),
    };
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    let with_response = std::mem::replace(inner, witgate_testkit::Exchange::get("/"));
    *inner = with_response.response(status, &headers);
    let verdict = plugin.try_on_response(inner)?;
    became.response_verdict = word(&verdict);
    match body(verdict, chunks, inner)? {
        Passed::Body(text) => {
            let response = &inner.inner().response;
            let response = response.as_ref().expect("it was given one");
            let mut head = Head::new(response.status.as_str(), &response.headers);
            head.body = text;
            became.response = Some(head);
        }
        Passed::Reply(reply) => became.reply = Some(shown(&reply)),
    }
    Ok(())
}

enum Passed {
    Body(Option<String>),
    Reply(Box<Reply>),
}

/// Passes a body through what the verdict says.
fn body(
    verdict: Verdict,
    chunks: &[Vec<u8>],
    inner: &mut witgate_testkit::Exchange,
) -> Result<Passed, PluginFailure> {
    let text = |bytes: &[u8]| Some(expect::body(bytes));
    let push = |body: &mut Body| -> Result<Vec<u8>, PluginFailure> {
        let mut out = Vec::new();
        for chunk in chunks {
            out.extend_from_slice(&body.try_push(chunk)?);
        }
        Ok(out)
    };
    match verdict {
        Verdict::Next => Ok(Passed::Body(text(&chunks.concat()))),
        Verdict::Answer(reply) => Ok(Passed::Reply(Box::new(reply))),
        Verdict::Transform(mut body) => {
            let mut out = push(&mut body)?;
            out.extend_from_slice(&body.try_finish()?);
            Ok(Passed::Body(text(&out)))
        }
        Verdict::Hold(mut body) => {
            let mut out = push(&mut body)?;
            match body.try_finish_held(inner, &[])? {
                HeldEnd::Body(finished) => {
                    out.extend_from_slice(&finished.bytes);
                    Ok(Passed::Body(text(&out)))
                }
                HeldEnd::Answer(reply) => Ok(Passed::Reply(Box::new(reply))),
            }
        }
    }
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Next => "next",
        Verdict::Answer(_) => "answer",
        Verdict::Transform(_) => "transform",
        Verdict::Hold(_) => "hold",
    }
}

fn shown(reply: &Reply) -> Head {
    use witgate_testkit::ReplyBody;

    let mut head = Head::new(reply.status.as_str(), &reply.headers);
    head.body = match &reply.body {
        ReplyBody::Empty => Some(String::new()),
        ReplyBody::Bytes(bytes) => Some(expect::body(bytes)),
        ReplyBody::File(file) => Some(expect::file(&file.path)),
    };
    head
}

/// Shows a message to who wants to see it, and says what became of it.
fn message(wanted: Option<&Messages>, sent: &Sent) -> Result<(Sent, String), PluginFailure> {
    use witgate_testkit::MessageVerdict;

    let copy = Sent {
        direction: sent.direction,
        message: sent.message.clone(),
        expect: sent.expect.clone(),
    };
    let Some(messages) = wanted.filter(|messages| messages.wants(sent.direction, false)) else {
        return Ok((copy, "forward".into()));
    };
    let became = match messages.try_send(sent.direction, sent.message.clone())? {
        MessageVerdict::Forward => "forward".to_owned(),
        MessageVerdict::Drop => "drop".to_owned(),
        MessageVerdict::Replace(message) => format!("replace = {}", shown_message(&message)),
        MessageVerdict::Reply(message) => format!("reply = {}", shown_message(&message)),
        MessageVerdict::Close(close) => format!("close = {}", close.code),
    };
    Ok((copy, became))
}

/// A message as a test file would have it.
pub(super) fn shown_message(message: &witgate_testkit::Message) -> String {
    match message {
        witgate_testkit::Message::Text(text) => format!("{text:?}"),
        witgate_testkit::Message::Binary(bytes) => format!("{{ hex = {:?} }}", expect::hex(bytes)),
        other => format!("{other:?}"),
    }
}

/// A fate in the words of [`message`].
pub(super) fn fate(fate: &Fate) -> String {
    match fate {
        Fate::Forward => "forward".into(),
        Fate::Drop => "drop".into(),
        Fate::Replace(message) => format!("replace = {}", shown_message(message)),
        Fate::Reply(message) => format!("reply = {}", shown_message(message)),
        Fate::Close(code) => format!("close = {code}"),
    }
}

pub(super) fn sender(direction: Direction) -> &'static str {
    match direction {
        Direction::ToUpstream => "client",
        Direction::ToClient => "upstream",
    }
}

fn end(
    plugin: &Plugin,
    spec: &Exchange,
    inner: &mut witgate_testkit::Exchange,
    status: Option<StatusCode>,
) -> Result<(), PluginFailure> {
    let Some(ending) = spec.end else {
        return Ok(());
    };
    let summary = Summary {
        end: match ending {
            Ending::Complete => End::Complete,
            Ending::ClientLeft => End::ClientLeft,
            Ending::Failed => End::Failed(FaultySide::Upstream, "the test says so".into()),
        },
        status: status.filter(|_| inner.inner().response.is_some()),
        received: 0,
        sent: 0,
        duration: Duration::from_millis(1),
        upstream_time: None,
        upstream: None,
        answered_by: None,
    };
    plugin.try_on_complete(inner, &summary)
}

/// Shared by the comparisons.
pub(super) fn difference(what: &str, expected: &str, found: &str) -> Option<String> {
    (expected != found).then(|| format!("{what} is not as expected:\n{}", diff(expected, found)))
}
