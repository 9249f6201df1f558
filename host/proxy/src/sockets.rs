//! Listening sockets: bound before anything is served, or taken over from another process.
//!
//! TCP has a socket for each worker, so that the kernel spreads connections. What was bound once, such as a Unix socket or
//! one of systemd's, all workers accept from. The process holds each socket once more beside its workers ([`Held`]), so
//! that it can hand it to the process that follows: a connection that waits in a socket's queue is lost when its last
//! holder closes it.

mod unix;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::Semaphore;

use crate::config::{Bind, Listener};
use unix::File;

/// Connections that wait in the kernel to be accepted, for each worker; the kernel caps it (`somaxconn`).
const BACKLOG: i32 = 4096;

/// What a listening socket is reached by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Of IPv4 or IPv6.
    Internet(SocketAddr),
    /// A file's path; `None` for a Unix socket without one.
    Unix(Option<Arc<Path>>),
}

impl Address {
    fn of(socket: &Socket) -> io::Result<Self> {
        let address = socket.local_addr()?;
        if let Some(address) = address.as_socket() {
            return Ok(Self::Internet(address));
        }
        match address.is_unix() {
            true => Ok(Self::Unix(address.as_pathname().map(Arc::from))),
            false => Err(io::Error::other("it is neither TCP nor a Unix socket")),
        }
    }

    /// The address, where it is one of TCP.
    pub fn internet(&self) -> Option<SocketAddr> {
        match self {
            Self::Internet(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// Whether nobody but this machine can reach it.
    pub(crate) fn is_local(&self) -> bool {
        self.internet()
            .is_none_or(|address| address.ip().is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet(address) => address.fmt(f),
            Self::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Self::Unix(None) => f.write_str("unix:"),
        }
    }
}

/// A listening socket that another process opened.
#[derive(Debug)]
pub struct InheritedSocket {
    /// The socket.
    pub socket: OwnedFd,
    /// `bind` as the other process had it, or `systemd:NAME`.
    pub bind: String,
    /// The listener whose it was; `None` for one of systemd's.
    pub listener: Option<String>,
    /// It is a Unix socket whose file goes with the listener. Those of systemd stay.
    pub owns_file: bool,
}

/// Listening sockets that other processes opened for this one, which takes those that its configuration has.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<InheritedSocket>,
    /// Of sockets that no listener took.
    files: Vec<File>,
}

impl Inherited {
    /// From these.
    pub fn new(sockets: Vec<InheritedSocket>) -> Self {
        let files = Vec::new();
        Self { sockets, files }
    }

    /// Closes what no listener took, but for what systemd opened: that may be wanted after a reload or a restart.
    pub(crate) fn keep_systemds(&mut self) {
        let is_ours = |inherited: &mut InheritedSocket| !inherited.bind.starts_with("systemd:");
        let closed = self.sockets.extract_if(.., is_ours);
        self.files.extend(closed.filter_map(|inherited| {
            let path = inherited.bind.strip_prefix("unix:")?;
            inherited
                .owns_file
                .then(|| File::of(&Path::new(path).into()))?
        }));
        for inherited in &mut self.sockets {
            inherited.listener = None;
            tracing::warn!(
                socket = inherited.bind,
                "no listener takes this socket: who connects to it waits in vain"
            );
        }
    }

    /// Removes the files of sockets that nobody listens on any more.
    pub(crate) fn remove_files(&mut self) {
        self.files.drain(..).for_each(File::remove);
    }

    /// Each of them once more.
    pub(crate) fn copies(&self) -> io::Result<Vec<InheritedSocket>> {
        let copy = |inherited: &InheritedSocket| {
            Ok(InheritedSocket {
                socket: inherited.socket.try_clone()?,
                bind: inherited.bind.clone(),
                listener: inherited.listener.clone(),
                owns_file: inherited.owns_file,
            })
        };
        self.sockets.iter().map(copy).collect()
    }

    /// What a listener of this name listens on, if it is there, and whether a file goes with it.
    fn take(&mut self, name: &str, bind: &Bind) -> io::Result<(Vec<Socket>, bool)> {
        let wanted = bind.to_string();
        let is_for = |inherited: &mut InheritedSocket| {
            let same_name = inherited.listener.as_deref().is_none_or(|was| was == name);
            match inherited.bind == wanted {
                true => same_name || !bind.is_any_port(),
                false => inherited.listener.is_none() && has_address(inherited, &wanted),
            }
        };
        let taken: Vec<_> = self.sockets.extract_if(.., is_for).collect();
        let owns_file = taken.iter().any(|inherited| inherited.owns_file);
        let sockets = taken.into_iter().map(|inherited| checked(inherited.socket));
        Ok((sockets.collect::<io::Result<_>>()?, owns_file))
    }
}

impl Inherited {
    /// Why there is no socket of a name.
    fn has_none(&self) -> io::Error {
        let names: Vec<_> = self.sockets.iter().map(|one| &*one.bind).collect();
        let why = match names.is_empty() {
            true => "this process was given no socket: a socket unit for this service has to be started (`systemctl start NAME.socket`)".into(),
            false => format!(
                "no socket of this name is left, but of {}: see `FileDescriptorName=` in the socket unit",
                names.join(", ")
            ),
        };
        io::Error::new(io::ErrorKind::InvalidInput, why)
    }
}

/// Whether one of systemd's has this address.
fn has_address(inherited: &InheritedSocket, wanted: &str) -> bool {
    let socket = socket2::SockRef::from(&inherited.socket);
    let address = socket.local_addr().ok();
    let Some(address) = address else { return false };
    match (address.as_socket(), address.as_pathname()) {
        (Some(address), _) => address.to_string() == wanted,
        (None, Some(path)) => format!("unix:{}", path.display()) == wanted,
        (None, None) => false,
    }
}

/// A socket that can be accepted from.
fn checked(socket: OwnedFd) -> io::Result<Socket> {
    let refuse = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    let socket = Socket::from(socket);
    if socket.r#type()? != Type::STREAM {
        return refuse("the socket that was inherited is no stream: `ListenStream=` makes one");
    }
    if !socket.is_listener()? {
        return refuse(
            "the socket that was inherited is a connection: write `Accept=no` in the socket unit",
        );
    }
    Address::of(&socket)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A listener's sockets, held beside the workers. Dropped, they are closed, and a Unix socket's file is removed.
#[derive(Debug)]
pub(crate) struct Held(Mutex<HeldSockets>);

#[derive(Debug, Default)]
struct HeldSockets {
    sockets: Vec<Socket>,
    file: Option<File>,
    /// The file is the process's before this one, which is about to go.
    adopts_file: bool,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, HeldSockets> {
        // Each change is whole before anything could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing more is to come in.
    pub(crate) fn close(&self) {
        let mut held = self.lock();
        if let Some(file) = held.file.take() {
            file.remove();
        }
        held.sockets.clear();
    }

    /// They are another process's now, and so is the file.
    pub(crate) fn leave(&self) {
        *self.lock() = HeldSockets::default();
    }

    /// From now on the file is this process's to remove.
    pub(crate) fn adopt(&self, bind: &Bind) {
        let mut held = self.lock();
        if let Bind::Unix(socket) = bind
            && std::mem::take(&mut held.adopts_file)
        {
            held.file = File::of(&socket.path);
            drop(held);
            self.set_mode(bind);
        }
    }

    /// Gives the file the mode and group of the configuration.
    pub(crate) fn set_mode(&self, bind: &Bind) {
        if let Bind::Unix(socket) = bind
            && self.lock().file.is_some()
            && let Err(error) = unix::set_mode(socket)
        {
            tracing::warn!(socket = %bind, %error, "the file keeps the mode and group that it had");
        }
    }

    /// Whether its file is there, and in nobody else's hands.
    pub(crate) fn owns_file(&self) -> bool {
        self.lock().file.as_ref().is_some_and(File::is_there)
    }

    /// The sockets once more, for another process.
    pub(crate) fn copies(&self) -> io::Result<Vec<OwnedFd>> {
        let held = self.lock();
        let copy = |socket: &Socket| socket.as_fd().try_clone_to_owned();
        held.sockets.iter().map(copy).collect()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.close();
    }
}

/// A listener's sockets, those of each worker, and how many connections it may still take.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) address: Address,
    pub(crate) sockets: Vec<Vec<Socket>>,
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) held: Arc<Held>,
}

impl Bound {
    /// What the next worker accepts with.
    pub(crate) fn take(&mut self) -> (Vec<Socket>, Arc<Semaphore>) {
        let sockets = self.sockets.pop();
        let sockets = sockets.expect("sockets were made for each worker");
        (sockets, self.permits.clone())
    }
}

/// Takes over or binds a listener for so many workers.
pub(crate) fn bind(
    listener: &Listener,
    workers: usize,
    inherited: &mut Inherited,
) -> io::Result<Bound> {
    open(
        &listener.name,
        &listener.bind,
        workers,
        listener.limits.connections,
        inherited,
    )
}

/// As [`bind`], for whatever listens.
pub(crate) fn open(
    name: &str,
    bind: &Bind,
    workers: usize,
    connections: usize,
    inherited: &mut Inherited,
) -> io::Result<Bound> {
    let (mut sockets, adopts_file) = inherited.take(name, bind)?;
    if let Bind::Unix(socket) = bind
        && File::of(&socket.path).is_none()
    {
        // Whoever looks for it by its path would not find it.
        sockets.clear();
    }
    // The file of one that was inherited is another process's for now: see `Held::adopt`.
    let mut file = None;
    if sockets.is_empty() {
        match bind {
            Bind::Internet(address) => sockets = internet(*address, workers)?,
            Bind::Unix(socket) => {
                let (socket, its_file) = unix::bind(socket)?;
                file = Some(its_file);
                sockets.push(socket);
            }
            Bind::Systemd(_) => return Err(inherited.has_none()),
        }
    }
    let held = Held(Mutex::new(HeldSockets {
        sockets: sockets
            .iter()
            .map(Socket::try_clone)
            .collect::<io::Result<_>>()?,
        adopts_file: adopts_file && file.is_none(),
        file,
    }));
    let first = sockets.first().ok_or(io::ErrorKind::NotFound)?;
    Ok(Bound {
        address: Address::of(first)?,
        sockets: distribute(sockets, workers)?,
        permits: Arc::new(Semaphore::new(connections)),
        held: Arc::new(held),
    })
}

/// Every socket has a worker that accepts from it, and every worker a socket of each address.
fn distribute(sockets: Vec<Socket>, workers: usize) -> io::Result<Vec<Vec<Socket>>> {
    let mut by_address: Vec<(Address, Vec<Socket>)> = Vec::new();
    for socket in sockets {
        let address = Address::of(&socket)?;
        match by_address.iter_mut().find(|(known, _)| *known == address) {
            Some((_, same)) => same.push(socket),
            None => by_address.push((address, vec![socket])),
        }
    }
    let mut shares: Vec<Vec<Socket>> = (0..workers).map(|_| Vec::new()).collect();
    for (_, same) in by_address {
        for worker in same.len()..workers {
            let shared = &same[worker % same.len()];
            shares[worker].push(shared.try_clone()?);
        }
        for (at, socket) in same.into_iter().enumerate() {
            shares[at % workers].push(socket);
        }
    }
    Ok(shares)
}

/// A socket for each worker.
fn internet(address: SocketAddr, workers: usize) -> io::Result<Vec<Socket>> {
    let shared = workers > 1;
    if shared && address.port() != 0 {
        // Sockets that share a port would share it with another process of the same user as well, and silently: a
        // socket that shares with nobody finds out first whether the port is free.
        drop(internet_socket(address, false)?);
    }
    let first = internet_socket(address, shared)?;
    let address = Address::of(&first)?.internet().unwrap_or(address);
    let mut sockets = vec![first];
    while sockets.len() < workers {
        sockets.push(internet_socket(address, shared)?);
    }
    for socket in &sockets {
        socket.listen(BACKLOG)?;
    }
    Ok(sockets)
}

fn internet_socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restart may bind while old connections are still in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // `[::]` means IPv6; who wants both families names both.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these sockets each worker has.
    fn shares(sockets: usize, workers: usize) -> Vec<usize> {
        let address = "127.0.0.1:0".parse().expect("an address");
        let sockets = internet(address, sockets).expect("a port is free");
        let shares = distribute(sockets, workers).expect("sockets can be shared");
        shares.iter().map(Vec::len).collect()
    }

    #[test]
    fn no_socket_is_without_a_worker_and_no_worker_without_a_socket() {
        assert_eq!(shares(1, 1), [1]);
        assert_eq!(shares(1, 3), [1, 1, 1]);
        assert_eq!(shares(2, 3), [1, 1, 1]);
        assert_eq!(shares(5, 2), [3, 2]);
    }
}
