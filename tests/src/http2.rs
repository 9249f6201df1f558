//! HTTP/2: a client whose requests need not be sound, and frames by hand for what no client sends.

use std::future::Future;
use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response, StatusCode};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::http::Connection;
use crate::wait::PATIENCE;

/// A client on one connection, without TLS. It moves only while the test waits for something of it, each time for at
/// most [`PATIENCE`].
pub struct Client {
    runtime: Runtime,
    sender: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// A whole response.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its content.
    pub body: Vec<u8>,
    /// What came behind the content.
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    /// The content as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    /// Connects, and waits for the server's settings.
    ///
    /// # Panics
    ///
    /// When there is no server of HTTP/2.
    #[must_use]
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        Self::open_with(address, &h2::client::Builder::new())
    }

    /// As [`open`](Self::open), with settings.
    #[must_use]
    #[track_caller]
    pub fn open_with(address: SocketAddr, builder: &h2::client::Builder) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("an event loop");
        let opened = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.expect("it listens");
            let handshake = builder.handshake(stream).await;
            let (sender, connection) = handshake.expect("it speaks HTTP/2");
            let connection = tokio::spawn(connection);
            let sender = timeout(PATIENCE, sender.ready()).await;
            let sender = sender.expect("in time").expect("it takes requests");
            (sender, connection)
        });
        Self {
            runtime,
            sender: opened.0,
            connection: opened.1,
        }
    }

    /// Waits for something of this connection.
    ///
    /// # Panics
    ///
    /// When it does not come in time.
    #[track_caller]
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        let waited = self
            .runtime
            .block_on(async { timeout(PATIENCE, future).await });
        waited.unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain"))
    }

    /// Begins a request; `ends` when it has no body.
    ///
    /// # Errors
    ///
    /// When the connection takes none.
    pub fn begin(
        &mut self,
        request: Request<()>,
        ends: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let sender = self.sender.clone();
        self.sender = self.wait(sender.ready())?;
        self.sender.send_request(request, ends)
    }

    /// Sends a request without a body, and reads the whole response.
    ///
    /// # Errors
    ///
    /// When the stream or the connection is reset.
    pub fn exchange(&mut self, request: Request<()>) -> Result<Answer, h2::Error> {
        let (response, _) = self.begin(request, true)?;
        self.wait(async { read(response.await?).await })
    }

    /// The whole response that a request gets.
    ///
    /// # Errors
    ///
    /// When the stream or the connection is reset.
    pub fn answer(&self, response: ResponseFuture) -> Result<Answer, h2::Error> {
        self.wait(async { read(response.await?).await })
    }

    /// Waits for the end of the connection, which has to be an orderly one.
    #[track_caller]
    pub fn expect_close(self) {
        let Self {
            runtime,
            sender,
            connection,
        } = self;
        drop(sender);
        let ended = runtime.block_on(async { timeout(PATIENCE, connection).await });
        let ended = ended.expect("in time").expect("it did not panic");
        ended.expect("an orderly end");
    }
}

async fn read(response: Response<RecvStream>) -> Result<Answer, h2::Error> {
    let (head, mut content) = response.into_parts();
    let mut body = Vec::new();
    while let Some(data) = content.data().await {
        let data = data?;
        content.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
        trailers: content.trailers().await?,
    })
}

/// Kinds of frames (RFC 9113 §6).
pub mod kind {
    /// Content.
    pub const DATA: u8 = 0;
    /// The beginning of a header block.
    pub const HEADERS: u8 = 1;
    /// The end of a stream by error.
    pub const RST_STREAM: u8 = 3;
    /// What a side wants of the other.
    pub const SETTINGS: u8 = 4;
    /// A question that is answered at once.
    pub const PING: u8 = 6;
    /// The end of the connection.
    pub const GOAWAY: u8 = 7;
    /// More of a header block.
    pub const CONTINUATION: u8 = 9;
}

/// It is the last of its stream.
pub const END_STREAM: u8 = 1;
/// It ends its header block; of SETTINGS and PING: it is an answer.
pub const END_HEADERS: u8 = 4;
/// Of SETTINGS and PING: it is an answer.
pub const ACK: u8 = 1;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// See [`kind`].
    pub kind: u8,
    /// Flags.
    pub flags: u8,
    /// 0: the connection.
    pub stream: u32,
    /// Behind the frame's header.
    pub payload: Vec<u8>,
}

impl Frame {
    /// As it is sent.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("a frame has at most 16 MiB");
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }
}

/// A frame of these parts, as it is sent.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let payload = payload.to_vec();
    Frame {
        kind,
        flags,
        stream,
        payload,
    }
    .bytes()
}

/// A header block: each field as a literal that is not indexed (RFC 7541 §6.2.2), at most 126 bytes each.
#[must_use]
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "this would need a longer length");
            block.push(u8::try_from(text.len()).expect("it is short"));
            block.extend(text.as_bytes());
        }
    }
    block
}

/// A GET of `/` from `example.test`.
#[must_use]
pub fn get_block() -> Vec<u8> {
    block(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "example.test"),
        (":path", "/"),
    ])
}

/// Connects and sends what a client begins with; what the server begins with is left to be read.
#[must_use]
#[track_caller]
pub fn begin(address: SocketAddr) -> Connection {
    let mut connection = Connection::open(address);
    connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    connection.send(frame(kind::SETTINGS, 0, 0, &[]));
    connection
}

/// Reads one frame.
///
/// # Errors
///
/// When the connection ends, or nothing comes in time.
pub fn try_read(connection: &mut Connection) -> std::io::Result<Frame> {
    let head = connection.try_read_exact(9)?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Ok(Frame {
        kind: head[3],
        flags: head[4],
        stream,
        payload: connection.try_read_exact(length)?,
    })
}

/// Reads up to the first frame of a kind, which has to come.
#[must_use]
#[track_caller]
pub fn read_to(connection: &mut Connection, kind: u8) -> Frame {
    loop {
        let frame = try_read(connection).unwrap_or_else(|error| panic!("no frame: {error}"));
        if frame.kind == kind {
            return frame;
        }
    }
}

/// The two directions of a WebSocket on a stream (RFC 8441).
pub struct Socket {
    sender: SendStream<Bytes>,
    receiver: RecvStream,
    came: Vec<u8>,
}

impl Client {
    /// Asks for a WebSocket at this path; the answer, and the stream if it was granted.
    #[track_caller]
    pub fn websocket(&mut self, path: &str, fields: &[(&str, &str)]) -> (Answer, Option<Socket>) {
        self.extended_connect("websocket", path, fields)
    }

    /// Asks for a protocol at this path.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    #[track_caller]
    pub fn extended_connect(
        &mut self,
        protocol: &str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> (Answer, Option<Socket>) {
        let mut request = Request::connect(format!("http://example.test{path}"))
            .extension(h2::ext::Protocol::from(protocol));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        let (response, sender) = self.begin(request, false).expect("it takes requests");
        let response = self.wait(response).expect("an answer");
        if !response.status().is_success() {
            return (self.wait(read(response)).expect("a whole answer"), None);
        }
        let (head, receiver) = response.into_parts();
        let answer = Answer {
            status: head.status,
            headers: head.headers,
            body: Vec::new(),
            trailers: None,
        };
        let socket = Socket {
            sender,
            receiver,
            came: Vec::new(),
        };
        (answer, Some(socket))
    }

    /// Sends bytes on a WebSocket's stream.
    #[track_caller]
    pub fn send(&self, socket: &mut Socket, bytes: impl Into<Bytes>) {
        let sent = socket.sender.send_data(bytes.into(), false);
        sent.expect("the stream is open");
    }

    /// Ends our side of a WebSocket's stream.
    #[track_caller]
    pub fn finish(&self, socket: &mut Socket) {
        let sent = socket.sender.send_data(Bytes::new(), true);
        sent.expect("the stream is open");
    }

    /// Reads so many bytes of a WebSocket's stream; fewer when it ends.
    #[track_caller]
    pub fn receive(&self, socket: &mut Socket, length: usize) -> Vec<u8> {
        self.wait(async {
            while socket.came.len() < length {
                let Some(data) = socket.receiver.data().await else {
                    break;
                };
                let data = data.expect("the stream was not reset");
                let released = socket.receiver.flow_control().release_capacity(data.len());
                released.expect("it came");
                socket.came.extend_from_slice(&data);
            }
        });
        let length = length.min(socket.came.len());
        socket.came.drain(..length).collect()
    }
}
