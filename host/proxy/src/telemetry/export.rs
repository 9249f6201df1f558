//! The thread that sends spans to the collector.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, header};
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout, timeout_at};
use witgate_runtime::{HttpClient as _, Origin, SendError};

use super::{Message, SpanCounts, spans};
use crate::config::Traces;
use crate::outbound;

/// Why the last attempt came to no answer, which the exporter does not tell.
type Broken = Arc<Mutex<Option<String>>>;

/// Bytes of a collector's answer that are read.
const ANSWER: usize = 64 << 10;

/// Ends when nobody can hand over anything any more.
pub(super) fn run(
    config: &Traces,
    client: outbound::Client,
    messages: Receiver<Message>,
    counts: &SpanCounts,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let broken = Arc::<Mutex<Option<String>>>::default();
    let exporter = exporter(config, client, broken.clone());
    match (runtime, exporter) {
        (Ok(runtime), Ok(exporter)) => {
            let mut export = Export {
                config,
                exporter,
                broken,
                counts,
                failing: false,
            };
            runtime.block_on(export.run(messages));
        }
        // The configuration was checked, so that this is no fault of its.
        (Err(error), _) => tracing::error!(%error, "traces cannot be exported"),
        (_, Err(error)) => tracing::error!(error, "traces cannot be exported"),
    }
}

fn exporter(
    config: &Traces,
    client: outbound::Client,
    broken: Broken,
) -> Result<SpanExporter, String> {
    let headers = config.headers.iter();
    let headers = headers.map(|(name, value)| (name.clone(), value.reveal().to_owned()));
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(&*config.collector.url)
        .with_timeout(config.timeout)
        .with_headers(headers.collect::<HashMap<_, _>>())
        .with_http_client(Client {
            client,
            origin: config.collector.origin.clone(),
            timeout: config.timeout,
            broken,
        })
        .build();
    let mut exporter = exporter.map_err(|error| error.to_string())?;
    let attributes = config.resource.iter();
    let attributes = attributes.map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    let resource = Resource::builder_empty()
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_service_name(config.service.clone())
        .with_attributes(attributes)
        .build();
    exporter.set_resource(&resource);
    Ok(exporter)
}

struct Export<'a> {
    config: &'a Traces,
    exporter: SpanExporter,
    broken: Broken,
    counts: &'a SpanCounts,
    /// The last batch was not taken, and that was told.
    failing: bool,
}

impl Export<'_> {
    async fn run(&mut self, mut messages: Receiver<Message>) {
        while let Some(first) = messages.recv().await {
            let mut batch = Vec::new();
            let mut waits = None;
            let until = Instant::now() + self.config.interval;
            let mut next = Some(first);
            while let Some(message) = next.take() {
                match message {
                    Message::Ended(finished) => batch.extend(spans::of(&finished)),
                    Message::Flush(done) => {
                        waits = Some(done);
                        break;
                    }
                }
                if batch.len() < self.config.batch {
                    next = timeout_at(until, messages.recv()).await.ok().flatten();
                }
            }
            self.export(batch).await;
            if let Some(done) = waits
                && done.try_send(()).is_err()
            {
                tracing::debug!("nobody waits for the spans any more");
            }
        }
    }

    async fn export(&mut self, batch: Vec<SpanData>) {
        if batch.is_empty() {
            return;
        }
        let spans = batch.len() as u64;
        // It tries again for as long as its own timeout lasts; this is the end of it whatever happens.
        let longest = self.config.timeout + Duration::from_secs(1);
        set(&self.broken, None);
        let outcome = match timeout(longest, self.exporter.export(batch)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(set(&self.broken, None).unwrap_or_else(|| error.to_string())),
            Err(_) => Err(format!("no answer within {longest:?}")),
        };
        match outcome {
            Ok(()) => {
                self.counts.exported.fetch_add(spans, Ordering::Relaxed);
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the collector takes spans again");
                }
            }
            Err(why) => {
                self.counts.unexported.fetch_add(spans, Ordering::Relaxed);
                if !std::mem::replace(&mut self.failing, true) {
                    let collector = &*self.config.collector.url;
                    tracing::warn!(
                        collector,
                        why,
                        "the collector does not take spans; they are lost until it does"
                    );
                }
            }
        }
    }
}

/// Gives what it was.
fn set(broken: &Broken, why: Option<String>) -> Option<String> {
    let mut broken = broken.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::replace(&mut broken, why)
}

/// The exporter's way out: our own client.
struct Client {
    client: outbound::Client,
    origin: Origin,
    /// For one attempt.
    timeout: Duration,
    broken: Broken,
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Client({})", self.origin)
    }
}

impl HttpClient for Client {
    fn send_bytes<'a, 'f>(
        &'a self,
        mut request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        'a: 'f,
    {
        Box::pin(async move {
            let host = request
                .uri()
                .authority()
                .map(|host| host.as_str().to_owned());
            if let Some(host) = host {
                let host = HeaderValue::try_from(host)?;
                request.headers_mut().insert(header::HOST, host);
            }
            let path = request.uri().path_and_query().cloned();
            *request.uri_mut() = path.unwrap_or(PathAndQuery::from_static("/")).into();
            let sent = self.client.send(self.origin.clone(), request, ANSWER);
            let why = match timeout(self.timeout, sent).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(
                    SendError::Connect(why) | SendError::Certificate(why) | SendError::Broken(why),
                )) => why,
                Ok(Err(SendError::TooLarge)) => "its answer is too large".to_owned(),
                Ok(Err(SendError::ConnectTimeout | SendError::FirstByteTimeout)) => {
                    "no answer in time".to_owned()
                }
                Err(_) => format!("no answer within {:?}", self.timeout),
            };
            set(&self.broken, Some(why.clone()));
            Err(why.into())
        })
    }
}
