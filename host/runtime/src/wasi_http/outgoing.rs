//! Requests that a standard component sends itself: what it may send, and where to.
//!
//! This crate knows no socket. It checks a request against the grant, bounds it, and hands it to the
//! [`OutgoingClient`] that the grant came with.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, Uri, header};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep, timeout};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::exchange::Scheme;
use crate::http_client::SendError;
use crate::origin::Origin;

/// Opens requests over a network. One for all workers; a call runs on the worker whose exchange it is for.
pub trait OutgoingClient: fmt::Debug + Send + Sync {
    /// Sends a request to this origin and waits for the head of the response. The URI is in absolute form, `Host` is
    /// there, the framing is up to the client. Dropping the future ends the request at once.
    ///
    /// There is no limit on the bodies: the caller has one.
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    fn open(&self, origin: Origin, request: Request<WasiBody>, waits: Waits) -> Opening;
}

/// How long a request may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// For a connection, by TLS where the origin has it.
    pub connect: Duration,
    /// From then on for the head of the response.
    pub first_byte: Duration,
}

/// A request under way.
pub type Opening = Pin<Box<dyn Future<Output = Result<Opened, SendError>> + Send>>;

/// A response that has begun.
pub struct Opened {
    /// Its head, and the body as it comes.
    pub response: Response<WasiBody>,
    /// The connection: it has to be polled for the bodies to move, and ends with them.
    pub connection: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("status", &self.response.status())
            .finish_non_exhaustive()
    }
}

/// `grant.http-client`, as a standard component has it.
#[derive(Debug, Clone)]
pub struct OutgoingGrant {
    /// What sends the requests.
    pub client: Arc<dyn OutgoingClient>,
    /// Where to; a request to any other origin is refused.
    pub origins: Vec<Origin>,
    /// From one request to the head of its response, the connection included. The component may want less of either.
    pub timeout: Duration,
    /// Bytes of a request's and of a response's body.
    pub body_size: usize,
    /// Requests of one component on one worker that are under way at once; one more is refused.
    pub concurrency: usize,
}

/// More than a worker has use for, and few enough to be counted.
const MAX_CONCURRENCY: usize = 65_536;

/// The grant as the instances of one worker have it.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    grant: Option<Arc<OutgoingGrant>>,
    turns: Arc<Semaphore>,
}

type Sent = (
    Response<WasiBody>,
    Box<dyn Future<Output = Result<(), Error>> + Send>,
);

impl Outgoing {
    pub(crate) fn new(grant: Option<&OutgoingGrant>) -> Self {
        let turns = grant.map_or(0, |grant| grant.concurrency.min(MAX_CONCURRENCY));
        Self {
            grant: grant.cloned().map(Arc::new),
            turns: Arc::new(Semaphore::new(turns)),
        }
    }

    /// Nothing that is refused has reached the network, not even its resolver.
    async fn send(
        self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<Sent, Error> {
        let (grant, origin) = origin(request.uri())
            .and_then(|origin| Some((self.grant.filter(|g| g.origins.contains(&origin))?, origin)))
            .ok_or(Error::HttpRequestDenied)?;
        let turn = (self.turns.try_acquire_owned()).map_err(|_| Error::ConnectionLimitReached)?;
        let wanted = options.unwrap_or_default();
        let within =
            |wanted: Option<Duration>| wanted.map_or(grant.timeout, |w| w.min(grant.timeout));
        let waits = Waits {
            connect: within(wanted.connect_timeout),
            first_byte: within(wanted.first_byte_timeout),
        };
        let too_large = Error::HttpRequestBodySize(Some(grant.body_size as u64));
        let is_sent = has_body(&request);
        let (head, body) = request.into_parts();
        let mut body = bounded(body, grant.body_size, too_large);
        if !is_sent {
            let unsent = std::mem::replace(&mut body, no_body());
            tokio::spawn(read_to_end(unsent));
        }
        let request = Request::from_parts(head, body);
        let opened = match timeout(grant.timeout, grant.client.open(origin, request, waits)).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(SendError::Connect(why))) => {
                return Err(Error::Connect(std::io::Error::other(why)));
            }
            Ok(Err(SendError::ConnectTimeout)) => return Err(Error::ConnectionTimeout),
            Ok(Err(SendError::FirstByteTimeout)) => return Err(Error::HttpResponseTimeout),
            Ok(Err(SendError::Certificate(_))) => return Err(Error::TlsCertificateError),
            Ok(Err(SendError::Broken(_) | SendError::TooLarge)) => {
                return Err(Error::HttpProtocolError);
            }
            Err(_) => return Err(Error::HttpResponseTimeout),
        };
        let response = opened.response.map(|body| {
            let too_large = Error::HttpResponseBodySize(Some(grant.body_size as u64));
            let body = bounded(body, grant.body_size, too_large);
            received(body, turn, wanted.between_bytes_timeout)
        });
        let connection = opened.connection;
        let driver = async move {
            connection.await;
            Ok(())
        };
        Ok((response, Box::new(driver)))
    }
}

fn origin(uri: &Uri) -> Option<Origin> {
    let scheme = Scheme::parse(uri.scheme_str()?)?;
    Origin::parse(scheme, uri.authority()?.as_str())
}

/// Whether what the component gives as the body is sent. Requests of these methods have none (RFC 9110 §9.3) unless their
/// head says so.
fn has_body(request: &Request<WasiBody>) -> bool {
    let says_so = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
    !matches!(*request.method(), Method::GET | Method::HEAD)
        || says_so
            .iter()
            .any(|name| request.headers().contains_key(name))
}

fn no_body() -> WasiBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Reads what is not sent. A component that has not said yet that there is nothing would otherwise find its stream closed,
/// and take that for a broken connection.
async fn read_to_end(mut body: WasiBody) {
    while let Some(Ok(_)) = body.frame().await {}
}

/// The same body, which fails with `too_large` once it is.
fn bounded(body: WasiBody, limit: usize, too_large: Error) -> WasiBody {
    Bounded {
        body: Limited::new(body, limit),
        too_large: Some(too_large),
    }
    .boxed_unsync()
}

struct Bounded {
    body: Limited<WasiBody>,
    too_large: Option<Error>,
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        Pin::new(&mut this.body).poll_frame(cx).map_err(|error| {
            let too_large = error.is::<LengthLimitError>();
            match error.downcast::<Error>() {
                Ok(error) => *error,
                Err(_) if too_large => this.too_large.take().unwrap_or(Error::HttpProtocolError),
                Err(_) => Error::HttpProtocolError,
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body, which keeps `turn` as long as it lives and fails when nothing of it comes for `pause`. Without, it is
/// bounded by what bounds the component: its client's patience, and that of the listener.
fn received(body: WasiBody, turn: OwnedSemaphorePermit, pause: Option<Duration>) -> WasiBody {
    Received {
        body,
        pause,
        timer: None,
        _turn: turn,
    }
    .boxed_unsync()
}

struct Received {
    body: WasiBody,
    pause: Option<Duration>,
    /// Runs while something is waited for.
    timer: Option<Pin<Box<Sleep>>>,
    _turn: OwnedSemaphorePermit,
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.timer = None;
            return Poll::Ready(frame);
        }
        let Some(pause) = this.pause else {
            return Poll::Pending;
        };
        let timer = (this.timer).get_or_insert_with(|| Box::pin(sleep(pause)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What the engine's own implementation of `wasi:http` asks of its host.
#[derive(Debug)]
pub(crate) struct Hooks {
    outgoing: Outgoing,
}

/// Bytes that are taken from a guest's body at once; few of them are underway, so this bounds what a slow reader costs.
const CHUNK: usize = 64 << 10;

impl Hooks {
    pub(crate) fn new(outgoing: Outgoing) -> Self {
        Self { outgoing }
    }
}

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        Box::new(self.outgoing.clone().send(request, options))
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body;
    use tokio::sync::mpsc;

    use super::*;

    /// Gives every request up at once.
    #[derive(Debug)]
    struct Impatient;

    impl OutgoingClient for Impatient {
        fn open(&self, _: Origin, _: Request<WasiBody>, _: Waits) -> Opening {
            Box::pin(async { Err(SendError::FirstByteTimeout) })
        }
    }

    /// A body that a component writes.
    struct Written(mpsc::Receiver<Bytes>);

    impl Body for Written {
        type Data = Bytes;
        type Error = Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
            let written = self.0.poll_recv(cx);
            written.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
        }
    }

    /// A request whose body is written to by what comes with it, once it has been given up.
    async fn given_up(method: Method) -> mpsc::Sender<Bytes> {
        let origin = Origin::parse(Scheme::Http, "a.example").expect("an origin");
        let outgoing = Outgoing::new(Some(&OutgoingGrant {
            client: Arc::new(Impatient),
            origins: vec![origin],
            timeout: Duration::from_secs(60),
            body_size: 100,
            concurrency: 1,
        }));
        let (written, writes) = mpsc::channel(1);
        let request = Request::builder()
            .method(method)
            .uri("http://a.example/")
            .body(Written(writes).boxed_unsync())
            .expect("a request");
        let sent = outgoing.send(request, None).await;
        assert!(matches!(sent, Err(Error::HttpResponseTimeout)));
        written
    }

    #[test]
    fn a_component_may_end_a_body_that_is_not_sent_when_it_likes() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("an event loop");
        runtime.block_on(async {
            for method in [Method::GET, Method::HEAD] {
                let written = given_up(method).await;
                for _ in 0..3 {
                    let bytes = Bytes::from("ignored");
                    written.send(bytes).await.expect("it is read");
                }
                let bytes = Bytes::from(vec![0; 100]);
                written.send(bytes).await.expect("it is read");
                // It was more than the grant allows.
                written.closed().await;
            }
            assert!(given_up(Method::POST).await.is_closed());
        });
    }
}
