//! A name server that says what a test wants: addresses, a failure, hundreds, something else each time.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What a name stands for.
#[derive(Debug, Clone)]
pub enum Answer {
    /// These addresses, for so many seconds.
    Addresses(Vec<Ipv4Addr>, u32),
    /// SERVFAIL.
    Failure,
}

/// Answers by UDP on a free loopback port. Names that it was not told of do not exist.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    answers: Mutex<HashMap<String, Answer>>,
    asked: Mutex<HashMap<String, usize>>,
    stopping: AtomicBool,
}

impl NameServer {
    /// Starts one that knows no name.
    ///
    /// # Panics
    ///
    /// When the loopback has no free port.
    #[must_use]
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("the loopback has a free port");
        let address = socket.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let serving = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || serve(&socket, &shared)
        });
        Self {
            address,
            shared,
            serving: Some(serving),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on this name stands for that.
    pub fn set(&self, name: &str, answer: Answer) {
        lock(&self.shared.answers).insert(name.to_owned(), answer);
    }

    /// How often the addresses (A) of a name were asked for.
    #[must_use]
    pub fn asked(&self, name: &str) -> usize {
        lock(&self.shared.asked).get(name).copied().unwrap_or(0)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the thread; when even this fails, there is nobody to be woken.
        let waker = UdpSocket::bind("127.0.0.1:0");
        waker
            .and_then(|socket| socket.send_to(&[], self.address))
            .ok();
        if let Some(serving) = self.serving.take() {
            serving.join().ok();
        }
    }
}

fn serve(socket: &UdpSocket, shared: &Shared) {
    let mut query = [0; 512];
    loop {
        let received = socket.recv_from(&mut query);
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok((length, from)) = received else {
            continue;
        };
        if let Some(reply) = reply(&query[..length], shared) {
            // Whoever asked may have gone.
            socket.send_to(&reply, from).ok();
        }
    }
}

/// RFC 1035 §4.1: the header, the one question as it came, and what answers it.
fn reply(query: &[u8], shared: &Shared) -> Option<Vec<u8>> {
    const A: u16 = 1;
    let (name, end) = name(query)?;
    let kind = u16::from_be_bytes(query.get(end..end + 2)?.try_into().ok()?);
    let answer = lock(&shared.answers).get(&name).cloned();
    if kind == A {
        *lock(&shared.asked).entry(name).or_default() += 1;
    }
    let (code, addresses, seconds) = match answer {
        None => (3, Vec::new(), 0),
        Some(Answer::Failure) => (2, Vec::new(), 0),
        Some(Answer::Addresses(addresses, seconds)) if kind == A => (0, addresses, seconds),
        Some(Answer::Addresses(..)) => (0, Vec::new(), 0),
    };
    // What does not fit into a datagram of EDNS is not sent: 16 bytes for each address.
    let addresses: Vec<_> = addresses.into_iter().take(250).collect();
    let count = u16::try_from(addresses.len()).ok()?;
    let mut reply = query.get(..2)?.to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1]);
    reply.extend(count.to_be_bytes());
    reply.extend([0, 0, 0, 0]);
    reply.extend(query.get(12..end + 4)?);
    for address in addresses {
        reply.extend([0xc0, 12, 0, 1, 0, 1]);
        reply.extend(seconds.to_be_bytes());
        reply.extend([0, 4]);
        reply.extend(address.octets());
    }
    Some(reply)
}

/// The name of the question in lower case, and where it ends.
fn name(query: &[u8]) -> Option<(String, usize)> {
    let (mut labels, mut at) = (Vec::new(), 12);
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = query.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
