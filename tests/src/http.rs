//! A raw HTTP/1.1 peer: sends exactly the bytes it is given and reads exactly one message.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::wait::PATIENCE;

/// A TCP connection with a buffer of what was read too much. Every read is bounded by [`PATIENCE`].
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// The head of a request or a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The first line, without its line end.
    pub start_line: String,
    /// Names as sent, values without surrounding white space.
    pub headers: Vec<(String, String)>,
}

/// A whole request or response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Start line and headers.
    pub head: Head,
    /// The content, without chunked framing.
    pub body: Vec<u8>,
}

impl Head {
    fn parse(bytes: &[u8]) -> Self {
        let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
        let mut lines = text.split("\r\n");
        let start_line = lines.next().unwrap_or_default().to_owned();
        let headers = lines
            .filter(|line| !line.is_empty())
            .map(|line| line.split_once(':').unwrap_or((line, "")))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        Self {
            start_line,
            headers,
        }
    }

    /// The status code of a response.
    ///
    /// # Panics
    ///
    /// When the start line is no status line.
    #[must_use]
    #[track_caller]
    pub fn status(&self) -> u16 {
        let code = self
            .start_line
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok());
        code.unwrap_or_else(|| panic!("not a status line: {:?}", self.start_line))
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_values(name).next()
    }

    /// All values of a header, in order.
    pub fn header_values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let of_name = self
            .headers
            .iter()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name));
        of_name.map(|(_, value)| value.as_str())
    }

    /// Whether a list header (`Connection`) holds this token, in any case.
    #[must_use]
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.header_values(name)
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(token))
    }
}

impl Message {
    /// The status code of a response.
    #[must_use]
    #[track_caller]
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text.
    ///
    /// # Panics
    ///
    /// When it is not UTF-8.
    #[must_use]
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }
}

/// One exchange on a connection of its own.
#[track_caller]
pub fn exchange(address: SocketAddr, request: impl AsRef<[u8]>) -> Message {
    let mut connection = Connection::open(address);
    connection.send(request);
    connection.read_response()
}

/// `GET path` on a connection of its own, `Host` being the address.
#[track_caller]
pub fn get(address: SocketAddr, path: &str) -> Message {
    exchange(
        address,
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"),
    )
}

impl Connection {
    /// Connects.
    ///
    /// # Panics
    ///
    /// When nobody listens there.
    #[must_use]
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE);
        Self::new(stream.unwrap_or_else(|error| panic!("cannot connect to {address}: {error}")))
    }

    /// Takes over a stream, with time limits on reading and writing.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("the time limit is not zero");
        stream
            .set_write_timeout(Some(PATIENCE))
            .expect("the time limit is not zero");
        stream.set_nodelay(true).expect("TCP knows TCP_NODELAY");
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// The stream below, for what is not plain sending and reading.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends exactly these bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes)
            .unwrap_or_else(|error| panic!("cannot send: {error}"));
    }

    /// Sends exactly these bytes; the peer may have gone.
    ///
    /// # Errors
    ///
    /// When the peer does not take them.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Ends the sending direction (FIN).
    pub fn finish_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).ok();
    }

    /// Closes with RST instead of FIN, as a peer does whose process or machine died.
    pub fn reset(self) {
        rustix::net::sockopt::set_socket_linger(&self.stream, Some(std::time::Duration::ZERO))
            .expect("a TCP socket lingers");
    }

    /// Reads a head, interim responses included; `None` when the peer closed before its first byte.
    ///
    /// # Errors
    ///
    /// When the connection ends within the head or nothing comes in time.
    pub fn try_read_head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return Ok(Some(Head::parse(&head[..end])));
            }
            if !self.fill()? {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(cut_off(&self.buffer))
                };
            }
        }
    }

    /// Reads a head that has to be there.
    #[track_caller]
    pub fn read_head(&mut self) -> Head {
        match self.try_read_head() {
            Ok(Some(head)) => head,
            Ok(None) => panic!("the connection was closed where a head was expected"),
            Err(error) => panic!("cannot read a head: {error}"),
        }
    }

    /// Reads the response to a request that was not HEAD; interim responses other than 101 are passed over.
    #[track_caller]
    pub fn read_response(&mut self) -> Message {
        loop {
            let head = self.read_head();
            if (100..200).contains(&head.status()) && head.status() != 101 {
                continue;
            }
            let bodiless = matches!(head.status(), 101 | 204 | 304);
            let body = if bodiless {
                Vec::new()
            } else {
                self.read_body(&head, true)
            };
            return Message { head, body };
        }
    }

    /// Reads the response to a HEAD request: no body, whatever its headers say.
    #[track_caller]
    pub fn read_response_to_head(&mut self) -> Message {
        Message {
            head: self.read_head(),
            body: Vec::new(),
        }
    }

    /// Reads the content that `head` announces. Without framing it is all up to the close, or nothing.
    #[track_caller]
    pub fn read_body(&mut self, head: &Head, until_close: bool) -> Vec<u8> {
        self.try_read_body(head, until_close)
            .unwrap_or_else(|error| panic!("cannot read the body: {error}"))
    }

    /// As [`read_body`](Self::read_body).
    ///
    /// # Errors
    ///
    /// When the connection ends within the body, nothing comes in time, or the chunked framing is wrong.
    pub fn try_read_body(&mut self, head: &Head, until_close: bool) -> io::Result<Vec<u8>> {
        if head.has_token("transfer-encoding", "chunked") {
            return Ok(self.try_read_chunked()?.0);
        }
        match head.header("content-length").map(str::parse) {
            Some(Ok(length)) => self.try_read_exact(length),
            Some(Err(_)) => Err(io::Error::other("Content-Length is no number")),
            None if until_close => self.read_to_end(),
            None => Ok(Vec::new()),
        }
    }

    /// Reads a chunked body, and the lines of its trailers.
    ///
    /// # Errors
    ///
    /// When the connection ends before, nothing comes in time, or the framing is wrong.
    pub fn try_read_chunked(&mut self) -> io::Result<(Vec<u8>, Vec<String>)> {
        let (mut body, mut trailers) = (Vec::new(), Vec::new());
        while let Some(chunk) = self.try_read_chunk_before(&mut trailers)? {
            body.extend(chunk);
        }
        Ok((body, trailers))
    }

    /// Reads one chunk of a chunked body; `None` for the last one, with its trailers read.
    ///
    /// # Errors
    ///
    /// When the connection ends within the chunk, nothing comes in time, or the framing is wrong.
    pub fn try_read_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.try_read_chunk_before(&mut Vec::new())
    }

    fn try_read_chunk_before(&mut self, trailers: &mut Vec<String>) -> io::Result<Option<Vec<u8>>> {
        let line = self.read_line()?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16)
            .map_err(|_| io::Error::other(format!("bad chunk size {line:?}")))?;
        if size == 0 {
            loop {
                match self.read_line()? {
                    line if line.is_empty() => return Ok(None),
                    line => trailers.push(line),
                }
            }
        }
        let chunk = self.try_read_exact(size)?;
        match self.read_line()?.as_str() {
            "" => Ok(Some(chunk)),
            rest => Err(io::Error::other(format!("a chunk is followed by {rest:?}"))),
        }
    }

    /// Reads exactly so many bytes.
    #[track_caller]
    pub fn read_exact(&mut self, length: usize) -> Vec<u8> {
        self.try_read_exact(length)
            .unwrap_or_else(|error| panic!("cannot read {length} bytes: {error}"))
    }

    /// As [`read_exact`](Self::read_exact).
    ///
    /// # Errors
    ///
    /// When the connection ends before, or nothing comes in time.
    pub fn try_read_exact(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            if !self.fill()? {
                return Err(cut_off(&self.buffer));
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    /// Reads all up to the peer's close.
    ///
    /// # Errors
    ///
    /// When it does not close in time, or resets.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? {}
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Waits for the peer's close, by FIN or RST.
    ///
    /// # Panics
    ///
    /// When more bytes come, or no close in time.
    #[track_caller]
    pub fn expect_close(&mut self) {
        let ended = match self.fill() {
            Ok(more) => !more,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        };
        assert!(
            ended && self.buffer.is_empty(),
            "not closed; more bytes: {:?}",
            String::from_utf8_lossy(&self.buffer)
        );
    }

    fn read_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.fill()? {
                return Err(cut_off(&self.buffer));
            }
        }
    }

    /// Takes what has arrived; false at the peer's close.
    fn fill(&mut self) -> io::Result<bool> {
        let mut piece = [0; 16 * 1024];
        let read = loop {
            match self.stream.read(&mut piece) {
                Ok(read) => break read,
                // As when the whole machine was stopped for a moment.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let why = format!("nothing came for {PATIENCE:?}");
                    return Err(io::Error::new(ErrorKind::TimedOut, why));
                }
                Err(error) => return Err(error),
            }
        };
        self.buffer.extend_from_slice(&piece[..read]);
        Ok(read > 0)
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

fn cut_off(so_far: &[u8]) -> io::Error {
    let so_far = String::from_utf8_lossy(so_far).into_owned();
    io::Error::new(
        ErrorKind::UnexpectedEof,
        format!("the connection was closed early, after {so_far:?}"),
    )
}
