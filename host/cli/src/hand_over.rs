//! A restart without losing a connection: on SIGUSR2 the program is started anew and given all listening sockets. Once it
//! serves, this process takes nothing more and ends what is under way. One that does not get that far changes nothing.
//!
//! Both talk by a pair of sockets whose one end is the new process's standard input, since that takes no file descriptor
//! that other children could inherit as well.

use std::ffi::OsString;
use std::io::{IoSlice, IoSliceMut, stdin};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::retry_on_intr;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};
use witgate_proxy::{AdminSocket, HandOver, InheritedSocket, Reload};

use crate::Ended;

/// Names the process that hands its sockets over, so that a grandchild which inherits the variable does not take it for
/// its own.
const VARIABLE: &str = "WITGATE_SOCKETS_FROM";

/// What systemd told this process alone.
const NOT_FOR_OTHERS: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// The longest message: a reason why the new process does not serve, or the name of a listener.
const LONGEST: usize = 16 * 1024;

/// How long a process may take to end once it has closed its end of the pair, and how often that is looked at.
const ENDING: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(10);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Message {
    /// A socket comes with it.
    Socket {
        bind: String,
        listener: Option<String>,
        owns_file: bool,
    },
    /// There are no more.
    End,
    /// The new process can serve, and waits for the word to.
    Ready,
    /// It cannot, for this reason.
    Failed(String),
    /// The old process takes nothing more from here on.
    Serve,
}

/// One end of the pair.
#[derive(Debug)]
struct Control(OwnedFd);

impl Control {
    fn send(&self, message: &Message, socket: Option<&OwnedFd>) -> Result<(), String> {
        let bytes = serde_json::to_vec(message).map_err(|error| error.to_string())?;
        let sockets: Vec<_> = socket.iter().map(|socket| socket.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(&sockets)) {
            return Err("there is no room for a socket".into());
        }
        let bytes = [IoSlice::new(&bytes)];
        retry_on_intr(|| sendmsg(&self.0, &bytes, &mut beside, SendFlags::NOSIGNAL))
            .map(drop)
            .map_err(|error| error.to_string())
    }

    /// `None` when the other process has ended.
    fn receive(&self) -> Result<Option<(Message, Option<OwnedFd>)>, rustix::io::Errno> {
        let mut bytes = vec![0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let came = retry_on_intr(|| {
            recvmsg(
                &self.0,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut beside,
                flags,
            )
        })?;
        let socket = beside.drain().find_map(|beside| match beside {
            RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
            _ => None,
        });
        // What cannot be read was written by another program, and so is no answer.
        let message = serde_json::from_slice(&bytes[..came.bytes]).ok();
        Ok(message.map(|message| (message, socket)))
    }
}

/// The process that hands its sockets to this one.
#[derive(Debug)]
pub(crate) struct Predecessor(Arc<Control>);

impl Predecessor {
    fn find() -> Option<Self> {
        let parent = rustix::process::getppid()?.as_raw_nonzero().to_string();
        let told = std::env::var(VARIABLE).ok()?;
        let control = stdin().as_fd().try_clone_to_owned().ok()?;
        (told == parent).then(|| Self(Arc::new(Control(control))))
    }

    fn sockets(&self) -> Result<Vec<InheritedSocket>, String> {
        let mut sockets = Vec::new();
        loop {
            match self.0.receive() {
                Ok(Some((
                    Message::Socket {
                        bind,
                        listener,
                        owns_file,
                    },
                    Some(socket),
                ))) => sockets.push(InheritedSocket {
                    socket,
                    bind,
                    listener,
                    owns_file,
                }),
                Ok(Some((Message::End, None))) => return Ok(sockets),
                Ok(_) => return Err("the process that was to hand its sockets over is gone".into()),
                Err(error) => return Err(format!("sockets cannot be taken over: {error}")),
            }
        }
    }

    /// Lets it go, and returns when it takes nothing more. Who was accepted before that would be lost if it decided
    /// otherwise, and ended this process.
    pub(crate) async fn succeed(&self) {
        if let Err(error) = self.0.send(&Message::Ready, None) {
            tracing::warn!(
                error,
                "the process before this one cannot be told that it may end"
            );
        }
        let control = self.0.clone();
        let heard = tokio::task::spawn_blocking(move || control.receive()).await;
        // One that has ended, or knows of no such word, takes nothing either.
        if !matches!(heard, Ok(Ok(Some((Message::Serve, None))))) {
            tracing::warn!("the process before this one has ended without a word");
        }
    }

    /// Tells it why it has to go on.
    pub(crate) fn tell_failed(&self, why: &Ended) {
        let why: String = why.0.chars().take(LONGEST / 8).collect();
        if let Err(error) = self.0.send(&Message::Failed(why), None) {
            tracing::debug!(error, "the process before this one has ended");
        }
    }
}

/// The sockets that this process was started with, by another witgate or by systemd. Called before there are threads,
/// because it changes the environment.
pub(crate) fn inherited() -> Result<(Vec<InheritedSocket>, Option<Predecessor>), Ended> {
    match Predecessor::find() {
        Some(predecessor) => {
            let sockets = predecessor.sockets().map_err(Ended::because)?;
            Ok((sockets, Some(predecessor)))
        }
        None => Ok((from_systemd()?, None)),
    }
}

/// As sd_listen_fds_with_names(3) has it.
fn from_systemd() -> Result<Vec<InheritedSocket>, Ended> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut given = listenfd::ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..given.len() {
        let name = names.next().filter(|name| !name.is_empty());
        let name = name.unwrap_or("unknown");
        let tcp = given
            .take_tcp_listener(index)
            .map(|it| it.map(OwnedFd::from));
        let taken = tcp.or_else(|_| {
            given
                .take_unix_listener(index)
                .map(|it| it.map(OwnedFd::from))
        });
        let socket = taken.ok().flatten().ok_or_else(|| {
            Ended::because(format!(
                "the socket `{name}` that systemd gave is neither TCP nor a Unix stream socket: the socket unit has to say `ListenStream=`"
            ))
        })?;
        sockets.push(InheritedSocket {
            socket,
            bind: format!("systemd:{name}"),
            listener: None,
            owns_file: false,
        });
    }
    Ok(sockets)
}

/// Takes SIGUSR2 from now on, which would end the process otherwise.
pub(crate) fn signals() -> Result<Signal, Ended> {
    signal(SignalKind::user_defined2())
        .map_err(|error| Ended::because(format!("signals cannot be received: {error}")))
}

/// What it takes to start the program again.
#[derive(Debug, Clone)]
pub(crate) struct Restart {
    pub(crate) server: Reload,
    pub(crate) admin: Option<AdminSocket>,
    /// Chromium is this process's child, and its profile can be in one process only.
    pub(crate) has_browser: bool,
}

impl Restart {
    /// Unix sockets that were taken over have files, which this process removes at its own end.
    pub(crate) async fn adopt_files(&self) {
        self.server.adopt_files().await;
        if let Some(admin) = &self.admin {
            admin.adopt_file();
        }
    }

    /// Starts the program anew, with the same arguments, and returns when it serves. Dropped before that, it is killed.
    ///
    /// # Errors
    ///
    /// Why it does not serve. Nothing has changed then.
    pub(crate) async fn attempt(self, limit: Duration) -> Result<Successor, String> {
        if self.has_browser {
            return Err("Chromium cannot be handed to another process: stop witgate and start it again, or give Chromium a witgate of its own".into());
        }
        if std::process::id() == 1 {
            return Err("this is the first process of its container, with which all others end: replace the container, or run witgate under an init process that stays".into());
        }
        let hand_over = self.server.hand_over().await;
        let mut sockets = hand_over.sockets().map_err(|error| error.to_string())?;
        if let Some(admin) = &self.admin {
            sockets.extend(admin.copies().map_err(|error| error.to_string())?);
        }
        let (ours, theirs) = pair(limit).map_err(|error| error.to_string())?;
        let control = Arc::new(Control(ours));
        let mut successor = Successor {
            control: control.clone(),
            child: Some(Kill(Some(spawn(theirs)?))),
            hand_over,
            admin: self.admin,
        };
        let talk = tokio::task::spawn_blocking(move || talk(&control, &sockets));
        match tokio::time::timeout(limit, talk).await {
            Ok(Ok(Ok(()))) => Ok(successor),
            Ok(Ok(Err(Unready::Said(why)))) => Err(why),
            Ok(Ok(Err(Unready::Ended))) => Err(successor.ended().await),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!(
                "it does not serve after {limit:?} (`server.restart-timeout`)"
            )),
        }
    }
}

/// Both ends. Ours gives up a little after `limit`, so that no thread waits for ever.
fn pair(limit: Duration) -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    for way in [Timeout::Send, Timeout::Recv] {
        set_socket_timeout(&ours, way, Some(limit + Duration::from_secs(1)))?;
    }
    Ok((ours, theirs))
}

/// The program under the name that it was started by, so that it is the new one if that was replaced.
fn spawn(control: OwnedFd) -> Result<Child, String> {
    let mut arguments = std::env::args_os();
    let program = arguments
        .next()
        .unwrap_or_else(|| OsString::from("witgate"));
    let mut command = Command::new(&program);
    command.args(arguments).stdin(Stdio::from(control));
    command.env(VARIABLE, std::process::id().to_string());
    for name in NOT_FOR_OTHERS {
        command.env_remove(name);
    }
    let program = program.display();
    command
        .spawn()
        .map_err(|error| format!("{program} cannot be started: {error}"))
}

/// Why the new process does not serve.
enum Unready {
    Said(String),
    Ended,
}

/// Hands the sockets over and waits for the answer.
fn talk(control: &Control, sockets: &[InheritedSocket]) -> Result<(), Unready> {
    let all = sockets.iter().map(|inherited| {
        let message = Message::Socket {
            bind: inherited.bind.clone(),
            listener: inherited.listener.clone(),
            owns_file: inherited.owns_file,
        };
        (message, Some(&inherited.socket))
    });
    for (message, socket) in all.chain([(Message::End, None)]) {
        if let Err(error) = control.send(&message, socket) {
            // It may have said why before it ended.
            tracing::debug!(error, "the new process takes no more sockets");
            break;
        }
    }
    match control.receive() {
        Ok(Some((Message::Ready, _))) => Ok(()),
        Ok(Some((Message::Failed(why), _))) => Err(Unready::Said(why)),
        Ok(_) | Err(_) => Err(Unready::Ended),
    }
}

/// The process that takes over. Dropped before [`complete`](Self::complete), it is killed.
pub(crate) struct Successor {
    control: Arc<Control>,
    child: Option<Kill>,
    hand_over: HandOver,
    admin: Option<AdminSocket>,
}

impl Successor {
    /// How it ended, once it has.
    async fn ended(&mut self) -> String {
        // Its end of the pair is closed a little before it has ended. One that goes on without is ended.
        let end = Instant::now() + ENDING;
        while Instant::now() < end && self.child.as_mut().is_some_and(Kill::is_running) {
            tokio::time::sleep(LOOK).await;
        }
        let status = self.child.take().map(|mut child| child.end());
        match status {
            Some(Ok(status)) => format!("it ended before it served: {status}"),
            Some(Err(error)) => format!("it ended before it served: {error}"),
            None => "it ended before it served".into(),
        }
    }

    /// The sockets, and their files, are its own from now on. Its process id.
    ///
    /// # Errors
    ///
    /// Why it does not serve. Nothing has changed then.
    pub(crate) fn complete(mut self) -> Result<u32, String> {
        let told = self.control.send(&Message::Serve, None);
        told.map_err(|error| format!("it ended before it served: {error}"))?;
        let id = self.child.take().map_or(0, Kill::let_go);
        if let Some(admin) = &self.admin {
            admin.leave();
        }
        self.hand_over.complete();
        Ok(id)
    }
}

/// A child that is killed when it was not let go.
struct Kill(Option<Child>);

impl Kill {
    fn is_running(&mut self) -> bool {
        let child = self.0.as_mut();
        child.is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    fn end(&mut self) -> std::io::Result<ExitStatus> {
        let mut child = self.0.take().ok_or(std::io::ErrorKind::NotFound)?;
        // One that has ended by itself tells how.
        if child.try_wait()?.is_none() {
            child.kill()?;
        }
        child.wait()
    }

    fn let_go(mut self) -> u32 {
        self.0.take().map_or(0, |child| child.id())
    }
}

impl Drop for Kill {
    fn drop(&mut self) {
        if self.0.is_some()
            && let Err(error) = self.end()
        {
            tracing::warn!(%error, "the new process cannot be ended");
        }
    }
}
