//! Requests that plugins send themselves: the sockets behind the contract's `http-client`.
//!
//! A connection whose response was read to the end is kept for the next request to the same origin on the same worker.
//! It is driven by the call that waits for a response, so that dropping the call leaves nothing behind, and by nobody
//! while it is not in use: whether the other side has closed it meanwhile shows when it is taken up again, before anything
//! is sent.

mod idle;
mod tls;

use std::error::Error;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use witgate_runtime::wasi_http::{Opened, Opening, OutgoingClient, Waits, WasiBody};
use witgate_runtime::{HttpClient, Origin, Scheme, SendError, Sending};

use self::tls::Trust;
pub(crate) use self::tls::system_roots;
use crate::config::{Authorities, HttpClientGrant};
use crate::head::remove_hop_by_hop;
use crate::listener;

/// Sends on the event loop of whichever worker calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    /// Who vouches for the servers of `https` origins; none where there are no such.
    trust: Option<Trust>,
}

impl Client {
    /// For a grant. Reads the system's certificates when they are needed for the first time.
    ///
    /// # Errors
    ///
    /// When nobody would vouch for an `https` origin, in words.
    pub(crate) fn new(grant: &HttpClientGrant) -> Result<Self, String> {
        let is_https = |origin: &Origin| origin.scheme() == Scheme::Https;
        let trust = match &grant.ca {
            _ if !grant.origins.iter().any(is_https) => None,
            Some(authorities) => Some(Trust::only(authorities)),
            None => Some(Trust::system()?),
        };
        Ok(Self { trust })
    }
}

impl Client {
    /// For one origin, which these vouch for or those that the system trusts.
    ///
    /// # Errors
    ///
    /// When nobody would vouch for it, in words.
    pub(crate) fn to(origin: &Origin, ca: Option<&Authorities>) -> Result<Self, String> {
        let trust = match (origin.scheme(), ca) {
            (Scheme::Http, _) => None,
            (Scheme::Https, Some(authorities)) => Some(Trust::only(authorities)),
            (Scheme::Https, None) => Some(Trust::system()?),
        };
        Ok(Self { trust })
    }
}

/// Bytes of a response's head that are read before it is given up, to within one more read, and its fields.
const HEAD_SIZE: usize = 64 << 10;
const HEADERS: usize = 100;

type Connected<B> = (http1::SendRequest<B>, http1::Connection<Io, B>);

/// A connection, by TLS or not.
type Io = TokioIo<Pin<Box<dyn Stream>>>;

trait Stream: AsyncRead + AsyncWrite + Send {}

impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

impl HttpClient for Client {
    fn send(&self, origin: Origin, request: Request<Bytes>, body_size: usize) -> Sending {
        Box::pin(send(self.clone(), origin, request, body_size))
    }
}

impl OutgoingClient for Client {
    fn open(&self, origin: Origin, request: Request<WasiBody>, waits: Waits) -> Opening {
        Box::pin(open(self.clone(), origin, request, waits))
    }
}

/// The connection is driven by whoever has the response, from when that is there.
async fn open(
    client: Client,
    origin: Origin,
    mut request: Request<WasiBody>,
    waits: Waits,
) -> Result<Opened, SendError> {
    let connecting = timeout(waits.connect, client.connect(&origin)).await;
    let (mut sender, connection) = connecting.map_err(|_| SendError::ConnectTimeout)??;
    // What an origin server, unlike a proxy, is asked for.
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.unwrap_or(PathAndQuery::from_static("/")).into();
    let mut connection = Box::pin(async {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection of a component broke");
        }
    });
    let mut response = std::pin::pin!(sender.send_request(request));
    let answered = timeout(waits.first_byte, async {
        let (response, connection): (_, Pin<Box<dyn Future<Output = ()> + Send>>) = tokio::select! {
            response = response.as_mut() => (response, connection),
            () = connection.as_mut() => (response.await, Box::pin(async {})),
        };
        (response, connection)
    });
    let (response, connection) = answered.await.map_err(|_| SendError::FirstByteTimeout)?;
    let mut response = response.map_err(|error| broken(&error))?;
    remove_hop_by_hop(response.headers_mut());
    Ok(Opened {
        response: response.map(|body| body.map_err(Into::into).boxed_unsync()),
        connection,
    })
}

async fn send(
    client: Client,
    origin: Origin,
    request: Request<Bytes>,
    body_size: usize,
) -> Result<Response<Bytes>, SendError> {
    let mut request = request.map(Full::new);
    // One that is there already, as long as nothing of the request has left.
    while let Some(mut kept) = idle::take(&client, &origin) {
        if !kept.is_ready().await {
            continue;
        }
        match exchange(kept, (&client, &origin), request, body_size).await {
            Ok(response) => return Ok(response),
            Err(Attempt::Unsent(whole)) => request = *whole,
            Err(Attempt::Failed(error)) => return Err(error),
        }
    }
    let new = Connection::new(client.connect(&origin).await?);
    match exchange(new, (&client, &origin), request, body_size).await {
        Ok(response) => Ok(response),
        Err(Attempt::Failed(error)) => Err(error),
        Err(Attempt::Unsent(_)) => Err(SendError::Broken(format!(
            "{origin} closed the new connection at once"
        ))),
    }
}

/// How one attempt failed.
enum Attempt {
    /// Nothing of it was sent, so that it may go by another connection.
    Unsent(Box<Request<Full<Bytes>>>),
    /// It was sent, or may have been.
    Failed(SendError),
}

/// Sends a request by this connection, and keeps it if it can be used again.
async fn exchange(
    mut by: Connection,
    (client, origin): (&Client, &Origin),
    request: Request<Full<Bytes>>,
    body_size: usize,
) -> Result<Response<Bytes>, Attempt> {
    let outcome = {
        let Connection { sender, driver } = &mut by;
        let exchange = async {
            match sender.try_send_request(request).await {
                Ok(response) => receive(response, body_size).await.map_err(Attempt::Failed),
                Err(mut error) => Err(match error.take_message() {
                    Some(request) => Attempt::Unsent(Box::new(request)),
                    None => Attempt::Failed(broken(error.error())),
                }),
            }
        };
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            response = exchange.as_mut() => response,
            // What is wrong with the connection, the exchange says as well, and what had been read before it.
            _ended = driver.as_mut() => return exchange.await,
        }
    };
    if outcome.is_ok() && by.is_ready().await {
        idle::put(client, origin, by);
    }
    outcome
}

/// A connection and what drives it.
struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Driver,
}

/// Nothing happens on a connection but while this is polled.
type Driver = Pin<Box<http1::Connection<Io, Full<Bytes>>>>;

impl Connection {
    fn new((sender, driver): Connected<Full<Bytes>>) -> Self {
        let driver = Box::pin(driver);
        Self { sender, driver }
    }

    /// Whether it would take another request right now: it is open, and the last exchange is over for both sides.
    async fn is_ready(&mut self) -> bool {
        poll_fn(|cx| {
            let ended = self.driver.as_mut().poll(cx).is_ready();
            let ready = matches!(self.sender.poll_ready(cx), Poll::Ready(Ok(())));
            Poll::Ready(!ended && ready)
        })
        .await
    }
}

impl Client {
    async fn connect<B>(&self, origin: &Origin) -> Result<Connected<B>, SendError>
    where
        B: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
    {
        let stream = dial(origin)
            .await
            .map_err(|error| SendError::Connect(format!("{origin}: {error}")))?;
        let stream: Pin<Box<dyn Stream>> = match (origin.scheme(), &self.trust) {
            (Scheme::Http, _) => Box::pin(stream),
            (Scheme::Https, Some(trust)) => Box::pin(trust.handshake(origin, stream).await?),
            (Scheme::Https, None) => {
                let why = format!("{origin}: nobody vouches for its server");
                return Err(SendError::Connect(why));
            }
        };
        http1::Builder::new()
            .max_headers(HEADERS)
            .max_buf_size(HEAD_SIZE)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))
    }
}

async fn receive(
    response: Response<hyper::body::Incoming>,
    body_size: usize,
) -> Result<Response<Bytes>, SendError> {
    let (mut head, body) = response.into_parts();
    if head.status.is_informational() {
        let status = head.status.as_u16();
        return Err(SendError::Broken(format!("a {status} is no answer")));
    }
    remove_hop_by_hop(&mut head.headers);
    let body = match Limited::new(body, body_size).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(SendError::TooLarge),
        Err(error) => return Err(SendError::Broken(error.to_string())),
    };
    Ok(Response::from_parts(head, body))
}

/// An address is used as it stands, a name is resolved each time.
async fn dial(origin: &Origin) -> std::io::Result<TcpStream> {
    let stream = match origin.host().parse::<IpAddr>() {
        Ok(address) => TcpStream::connect((address, origin.port())).await?,
        Err(_) => TcpStream::connect((origin.host(), origin.port())).await?,
    };
    listener::tune(&stream)?;
    Ok(stream)
}

fn broken(error: &hyper::Error) -> SendError {
    SendError::Broken(match Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    })
}
