//! A scripted HTTP/1.1 server: raw bytes in and out, so that it can misbehave, and a record of what it received.

use std::any::Any;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::http::{Connection, Message};

/// The server. Each connection is served by its own thread. Dropping it ends the listening; a panic on a
/// connection's thread (a failed assertion of the script) is then raised again in the test.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    received: Mutex<Vec<Received>>,
    failure: Mutex<Option<String>>,
    accepted: AtomicUsize,
    ended: AtomicUsize,
    stopping: AtomicBool,
}

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Which connection it came on, from 1 in the order of accepting.
    pub connection: usize,
    /// The request; the body is empty when the script did not read it.
    pub request: Message,
}

/// The server's end of one connection, in a script's hands.
#[derive(Debug)]
pub struct Peer {
    connection: Connection,
    number: usize,
    shared: Arc<Shared>,
}

impl Upstream {
    /// Listens on a free loopback port and runs `script` for every connection; it is closed when the script returns.
    #[must_use]
    pub fn start(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
        Self::on(listener, script)
    }

    /// As [`start`](Self::start), on a socket that listens already.
    #[must_use]
    pub fn on(listener: TcpListener, script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        let shared = Arc::new(Shared::default());
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            let script = Arc::new(script);
            move || accept(&listener, &shared, &script)
        });
        Self {
            address,
            shared,
            accepting: Some(accepting),
        }
    }

    /// Answers every request on every connection with what `answer` makes of it, keeping connections open.
    #[must_use]
    pub fn answering(answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start(move |peer| peer.answer(&answer))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request received up to now.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }

    /// The only request received up to now.
    ///
    /// # Panics
    ///
    /// When there was none, or more than one.
    #[must_use]
    #[track_caller]
    pub fn only_request(&self) -> Message {
        let received = self.received();
        assert_eq!(received.len(), 1, "the upstream received {received:#?}");
        received.into_iter().next().expect("there is one").request
    }

    /// How many connections were accepted up to now.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many scripts still run.
    #[must_use]
    pub fn open(&self) -> usize {
        let ended = self.shared.ended.load(Ordering::SeqCst);
        self.accepted() - ended
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the accept call; when even this fails, there is nobody to be woken.
        TcpStream::connect(self.address).ok();
        if let Some(accepting) = self.accepting.take() {
            accepting.join().ok();
        }
        let failure = lock(&self.shared.failure).take();
        if let Some(failure) = failure
            && !thread::panicking()
        {
            panic!("the upstream's script failed: {failure}");
        }
    }
}

impl Peer {
    /// Answers every request with what `answer` makes of it, until the proxy closes.
    pub fn answer(&mut self, answer: impl Fn(&Message) -> Vec<u8>) {
        while let Some(request) = self.next_request() {
            if self.try_send(answer(&request)).is_err() {
                return;
            }
        }
    }

    /// Reads the next request and its body; `None` when the proxy closed the connection instead, before it or within
    /// its body, as it does when its client or a plugin broke off.
    ///
    /// # Panics
    ///
    /// When the head is cut off, the framing is wrong, or nothing comes in time.
    pub fn next_request(&mut self) -> Option<Message> {
        let index = self.next_head()?;
        let head = lock(&self.shared.received)[index].request.head.clone();
        let body = match self.connection.try_read_body(&head, false) {
            Ok(body) => body,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
                ) =>
            {
                return None;
            }
            Err(error) => panic!("cannot read the body: {error}"),
        };
        let mut received = lock(&self.shared.received);
        received[index].request.body = body;
        Some(received[index].request.clone())
    }

    /// Reads the head of the next request and leaves its body to the script; `None` when the proxy closed instead.
    pub fn next_request_head(&mut self) -> Option<Message> {
        let index = self.next_head()?;
        Some(lock(&self.shared.received)[index].request.clone())
    }

    fn next_head(&mut self) -> Option<usize> {
        let head = match self.connection.try_read_head() {
            Ok(head) => head?,
            // A proxy that is killed, or that gives an unused connection up, may do so by RST; and an idle pooled
            // connection may outlive the patience of a script.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::TimedOut
                ) =>
            {
                return None;
            }
            Err(error) => panic!("cannot read a request: {error}"),
        };
        let mut received = lock(&self.shared.received);
        let request = Message {
            head,
            body: Vec::new(),
        };
        received.push(Received {
            connection: self.number,
            request,
        });
        Some(received.len() - 1)
    }

    /// Which connection this is, from 1 in the order of accepting.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }
}

impl Deref for Peer {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Peer {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

/// A response with this status (`200 OK`), these header lines and a body, `Content-Length` included.
#[must_use]
pub fn response(status: &str, headers: &[&str], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len()).into_bytes();
    for header in headers {
        bytes.extend(format!("{header}\r\n").into_bytes());
    }
    bytes.extend(b"\r\n");
    bytes.extend(body);
    bytes
}

fn accept(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    script: &Arc<impl Fn(&mut Peer) + Send + Sync + 'static>,
) {
    loop {
        let accepted = listener.accept();
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok((stream, _)) = accepted else { continue };
        let number = shared.accepted.fetch_add(1, Ordering::SeqCst) + 1;
        let mut peer = Peer {
            connection: Connection::new(stream),
            number,
            shared: Arc::clone(shared),
        };
        let script = Arc::clone(script);
        // Detached: a script that waits for a proxy which is not stopped yet ends with the proxy.
        thread::spawn(move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| script(&mut peer))) {
                *lock(&peer.shared.failure) = Some(panic_message(panic.as_ref()));
            }
            let shared = Arc::clone(&peer.shared);
            drop(peer); // closed before it counts as ended
            shared.ended.fetch_add(1, Ordering::SeqCst);
        });
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("panicked")
        .to_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A record of what happened is of use even when the thread that kept it panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
