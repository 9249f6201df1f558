//! Listening sockets: bound before anything is served, one per worker, so that the kernel spreads connections.

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use crate::config::Listener;
use crate::connection::{self, Context};
use crate::refusal::Reason;
use crate::worker::{StopRequested, Worker};

/// Connections that wait in the kernel to be accepted, for each worker; the kernel caps it (`somaxconn`).
const BACKLOG: i32 = 4096;

/// How long accepting pauses after an error such as having no file descriptors left (EMFILE).
const PAUSE: Duration = Duration::from_millis(100);

/// A peer that answers nothing is taken for dead 30 s after its last sign of life: 15 s, then 3 probes 5 s apart.
/// Shorter than usual, because a dead DevTools client that stays attached holds up the browser for everybody.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(15))
    .with_interval(Duration::from_secs(5))
    .with_retries(3);

/// How long sent bytes may stay unacknowledged before the connection counts as broken.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// A listener's sockets, one for each worker, and how many connections it may still take.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) address: SocketAddr,
    pub(crate) sockets: Vec<TcpListener>,
    pub(crate) permits: Arc<Semaphore>,
}

impl Bound {
    /// What the next worker accepts with.
    pub(crate) fn take(&mut self) -> (TcpListener, Arc<Semaphore>) {
        let socket = self
            .sockets
            .pop()
            .expect("a socket was bound for each worker");
        (socket, self.permits.clone())
    }
}

/// Binds a listener for so many workers.
pub(crate) fn bind(listener: &Listener, workers: usize) -> io::Result<Bound> {
    let shared = workers > 1;
    if shared && listener.bind.port() != 0 {
        // Sockets that share a port would share it with another process of the same user as well, and silently: a
        // socket that shares with nobody finds out first whether the port is free.
        drop(socket(listener.bind, false)?);
    }
    let first = TcpListener::from(socket(listener.bind, shared)?);
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    while sockets.len() < workers {
        sockets.push(socket(address, shared)?.into());
    }
    for socket in &sockets {
        SockRef::from(socket).listen(BACKLOG)?;
    }
    let permits = Arc::new(Semaphore::new(listener.limits.connections));
    Ok(Bound {
        address,
        sockets,
        permits,
    })
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
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

/// A listener on this worker, and what its connections are served with now.
#[derive(Debug)]
pub(crate) struct WorkerListener {
    /// Of the newest generation that has this listener.
    context: RefCell<Rc<Context>>,
    closed: watch::Sender<bool>,
}

impl WorkerListener {
    /// Begins to accept.
    pub(crate) fn open(
        worker: &Rc<Worker>,
        index: usize,
        socket: TcpListener,
        permits: Arc<Semaphore>,
    ) -> Rc<Self> {
        let listener = Rc::new(Self {
            context: RefCell::new(Rc::new(Context::new(worker.clone(), index))),
            closed: watch::Sender::new(false),
        });
        worker
            .tasks
            .spawn(accept(listener.clone(), socket, permits));
        listener
    }

    /// Serves the requests that come from now on with another generation.
    pub(crate) fn serve_with(&self, worker: Rc<Worker>, index: usize) {
        self.context.replace(Rc::new(Context::new(worker, index)));
    }

    /// Accepts nothing more. Idle connections are closed, the others when their exchange has ended.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// For a request that has come now.
    pub(crate) fn context(&self) -> Rc<Context> {
        self.context.borrow().clone()
    }

    /// Tells when the listener closes or the server stops.
    pub(crate) fn end_requested(&self) -> EndRequested {
        EndRequested {
            stop: self.context().worker.tasks.stop_requested(),
            closed: self.closed.subscribe(),
        }
    }
}

/// Tells a listener's tasks when to come to an end.
pub(crate) struct EndRequested {
    stop: StopRequested,
    closed: watch::Receiver<bool>,
}

impl EndRequested {
    pub(crate) async fn requested(&mut self) {
        tokio::select! {
            () = self.stop.requested() => {}
            // An error would mean that the listener is gone, which is as good as closed.
            _ = self.closed.wait_for(|closed| *closed) => {}
        }
    }
}

/// Options of every connection, either side.
pub(crate) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))
}

/// Accepts until a stop is asked for. An error pauses the listener and never ends it.
pub(crate) async fn accept(
    listener: Rc<WorkerListener>,
    socket: TcpListener,
    permits: Arc<Semaphore>,
) {
    let name = listener.context().name.clone();
    let mut stop = listener.end_requested();
    let socket = match tokio::net::TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => {
            return tracing::error!(listener = &*name, %error, "the listener cannot be used");
        }
    };
    loop {
        let accepted = tokio::select! {
            accepted = next(&listener, &socket, &permits) => accepted,
            () = stop.requested() => return,
        };
        let (stream, address, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(listener = &*name, %error, "a connection could not be accepted; the listener pauses");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if let Err(error) = tune(&stream) {
            tracing::debug!(listener = &*name, client = %address, %error, "the client was gone before it was served");
            continue;
        }
        let connection = connection::serve(
            listener.clone(),
            address,
            connection::Socket::Tcp(stream),
            permit,
        );
        listener.context().worker.tasks.spawn(connection);
    }
}

/// A connection that may not be served yet waits: one here, the others in the kernel.
async fn next(
    listener: &WorkerListener,
    socket: &tokio::net::TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let (stream, address) = socket.accept().await?;
    let permit = match permits.clone().try_acquire_owned() {
        Ok(permit) => permit,
        Err(_) => {
            listener
                .context()
                .refusals
                .count(Reason::TooManyConnections);
            let permit = permits.clone().acquire_owned().await;
            permit.map_err(io::Error::other)?
        }
    };
    Ok((stream, address, permit))
}
