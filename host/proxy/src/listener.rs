//! A listener on a worker: accepts connections, and says what they are served with.

use std::cell::RefCell;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, Socket, TcpKeepalive};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use witgate_runtime::PeerAddress;

use crate::connection::{self, Context};
use crate::refusal::Reason;
use crate::worker::{StopRequested, Worker};

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
        sockets: Vec<Socket>,
        permits: &Arc<Semaphore>,
    ) -> Rc<Self> {
        let listener = Rc::new(Self {
            context: RefCell::new(Rc::new(Context::new(worker.clone(), index))),
            closed: watch::Sender::new(false),
        });
        for socket in sockets {
            worker
                .tasks
                .spawn(accept(listener.clone(), socket, permits.clone()));
        }
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

/// Options of every connection, either side. What a listening socket has, the connections that it accepts have too: six
/// system calls for the socket, and none for each of them.
pub(crate) fn tune<'a>(socket: impl Into<SockRef<'a>>) -> io::Result<()> {
    let socket = socket.into();
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))
}

/// Accepts from one socket, once the server serves, until a stop is asked for. An error pauses the listener and never ends
/// it.
async fn accept(listener: Rc<WorkerListener>, socket: Socket, permits: Arc<Semaphore>) {
    let name = listener.context().name.clone();
    let mut stop = listener.end_requested();
    let acceptor = match Acceptor::new(socket) {
        Ok(acceptor) => acceptor,
        Err(error) => {
            return tracing::error!(listener = &*name, %error, "the listener cannot be used");
        }
    };
    let tasks = listener.context().worker.tasks.clone();
    tasks.started().await;
    loop {
        let accepted = tokio::select! {
            accepted = acceptor.accept() => accepted,
            () = stop.requested() => return,
        };
        let (socket, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(listener = &*name, %error, "a connection could not be accepted; the listener pauses");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if let Ok(permit) = permits.clone().try_acquire_owned() {
            serve(&listener, socket, address, permit);
            continue;
        }
        // One that may not be served yet waits: one here, the others in the kernel.
        listener
            .context()
            .refusals
            .count(Reason::TooManyConnections);
        let mut waiting = pin!(permits.clone().acquire_owned());
        let permit = tokio::select! {
            permit = &mut waiting => permit,
            () = stop.requested() => {
                // Who comes now is refused. This one waits on, since nobody else can serve it any more.
                drop(acceptor);
                if let Ok(permit) = waiting.await {
                    serve(&listener, socket, address, permit);
                }
                return;
            }
        };
        let Ok(permit) = permit else {
            return tracing::debug!(listener = &*name, "the listener is gone");
        };
        serve(&listener, socket, address, permit);
    }
}

/// Begins to serve a connection.
fn serve(
    listener: &Rc<WorkerListener>,
    socket: connection::Socket,
    address: PeerAddress,
    permit: OwnedSemaphorePermit,
) {
    let connection = connection::serve(listener.clone(), address, socket, permit);
    listener.context().worker.tasks.spawn(connection);
}

/// A listening socket of whichever family.
#[derive(Debug)]
pub(crate) enum Acceptor {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Acceptor {
    /// Needs a tokio runtime.
    pub(crate) fn new(socket: Socket) -> io::Result<Self> {
        if socket.local_addr()?.is_unix() {
            let listener = tokio::net::UnixListener::from_std(socket.into())?;
            return Ok(Self::Unix(listener));
        }
        tune(&socket)?;
        Ok(Self::Tcp(tokio::net::TcpListener::from_std(socket.into())?))
    }

    pub(crate) async fn accept(&self) -> io::Result<(connection::Socket, PeerAddress)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((connection::Socket::Tcp(stream), address.into()))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((connection::Socket::Unix(stream), PeerAddress::Unix))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Type};

    use super::*;

    #[tokio::test]
    async fn an_accepted_connection_has_the_options_of_its_listener() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).expect("a port");
        socket.listen(1).expect("a listener");
        socket.set_nonblocking(true).expect("for tokio");
        let address = socket.local_addr().expect("bound").as_socket();
        let acceptor = Acceptor::new(socket).expect("an acceptor");
        let connecting = tokio::net::TcpStream::connect(address.expect("an IP address"));
        let (client, accepted) = tokio::join!(connecting, acceptor.accept());
        let _client = client.expect("connected");
        let (connection::Socket::Tcp(stream), _) = accepted.expect("accepted") else {
            unreachable!("it is no Unix socket");
        };
        let stream = SockRef::from(&stream);
        assert!(stream.tcp_nodelay().expect("an option"));
        assert!(stream.keepalive().expect("an option"));
        let idle = stream.tcp_keepalive_time().expect("an option");
        assert_eq!(idle, Duration::from_secs(15));
        let user_timeout = stream.tcp_user_timeout().expect("an option");
        assert_eq!(user_timeout, Some(UNACKNOWLEDGED));
    }
}
