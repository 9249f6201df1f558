//! The file of a Unix socket: made with its mode, never in place of what is no abandoned socket, and removed at the end.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Gid, Mode, chown, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};

use super::BACKLOG;
use crate::config::UnixSocket;

/// The file that a socket is reached by.
#[derive(Debug)]
pub(super) struct File {
    path: Arc<Path>,
    /// Device and inode, since somebody may have put another in its place.
    is: (u64, u64),
}

impl File {
    /// The socket at this path, if there is one.
    pub(super) fn of(path: &Arc<Path>) -> Option<Self> {
        let found = fs::symlink_metadata(path).ok()?;
        found.file_type().is_socket().then(|| Self {
            path: path.clone(),
            is: (found.dev(), found.ino()),
        })
    }

    /// Whether it is still the same.
    pub(super) fn is_there(&self) -> bool {
        Self::of(&self.path).is_some_and(|found| found.is == self.is)
    }

    /// Removes it, if it is still the same.
    pub(super) fn remove(self) {
        if self.is_there()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the socket's file stays behind");
        }
    }
}

/// Makes the socket and its file.
pub(super) fn bind(wanted: &UnixSocket) -> io::Result<(Socket, File)> {
    let group = wanted.group.as_deref().map(group).transpose()?;
    make_room(&wanted.path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // The file that `bind` makes has the mode that the socket has, less the umask (unix(7)), so that at no time more may
    // connect than in the end.
    fchmod(&socket, Mode::from_raw_mode(wanted.mode & 0o700))?;
    socket.bind(&SockAddr::unix(&wanted.path)?)?;
    let file = File::of(&wanted.path).ok_or_else(|| {
        io::Error::other(
            "its file was gone as soon as it was made; does another process remove it?",
        )
    })?;
    let listening = owned_by(wanted, group).and_then(|()| socket.listen(BACKLOG));
    match listening {
        Ok(()) => Ok((socket, file)),
        Err(error) => {
            file.remove();
            Err(error)
        }
    }
}

/// Gives the file its mode and group.
pub(super) fn set_mode(wanted: &UnixSocket) -> io::Result<()> {
    let group = wanted.group.as_deref().map(group).transpose()?;
    owned_by(wanted, group)
}

fn owned_by(wanted: &UnixSocket, group: Option<Gid>) -> io::Result<()> {
    if let Some(group) = group {
        chown(&*wanted.path, None, Some(group))?;
    }
    fs::set_permissions(&wanted.path, fs::Permissions::from_mode(wanted.mode))
}

/// Removes the socket that a process left which is no more.
fn make_room(path: &Path) -> io::Result<()> {
    let refuse = |what: String| Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return refuse("what is there is no socket, and is left alone".into());
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A full queue must not hold us up.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => refuse(
            "a socket is there that this process may not connect to, so that nobody knows whether it is in use"
                .into(),
        ),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            refuse("another process listens on it".into())
        }
        Err(error) => Err(error),
        Ok(()) => refuse(format!("{} listens on it: stop that, or choose another path", who(&probe))),
    }
}

/// The process at the other end.
fn who(connected: &Socket) -> String {
    let Ok(peer) = rustix::net::sockopt::socket_peercred(connected) else {
        return "another process".into();
    };
    let id = peer.pid.as_raw_nonzero();
    match fs::read_to_string(format!("/proc/{id}/comm")) {
        Ok(name) => format!("process {id} ({})", name.trim_end()),
        Err(_) => format!("process {id}"),
    }
}

/// A group by its number, or by its name in `/etc/group`.
fn group(named: &str) -> io::Result<Gid> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|id| *id != u32::MAX);
    if let Some(id) = number(named) {
        return Ok(Gid::from_raw(id));
    }
    let groups = fs::read_to_string("/etc/group")?;
    let id = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == named)
            .then(|| fields.nth(1))??
            .parse()
            .ok()
    });
    let missing = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("there is no group `{named}`"),
        )
    };
    id.map(Gid::from_raw).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(path: &Path, mode: u32) -> UnixSocket {
        UnixSocket {
            path: path.into(),
            mode,
            group: None,
        }
    }

    #[test]
    fn the_file_has_its_mode_and_is_removed_unless_it_is_anothers() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.sock");
        let (_socket, file) = bind(&socket(&path, 0o606)).expect("it is free");
        let mode = fs::metadata(&path).expect("it is there").mode();
        assert_eq!(mode & 0o777, 0o606);
        fs::remove_file(&path).expect("it is there");
        let (_other, other) = bind(&socket(&path, 0o600)).expect("it is free");
        file.remove();
        assert!(path.exists());
        other.remove();
        assert!(!path.exists());
    }

    #[test]
    fn an_abandoned_socket_is_replaced_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.sock");
        drop(bind(&socket(&path, 0o600)).expect("it is free"));
        assert!(path.exists());
        let (_live, _file) = bind(&socket(&path, 0o600)).expect("nobody listens");
        let error = bind(&socket(&path, 0o600)).expect_err("somebody listens");
        let own = format!("process {} (", std::process::id());
        assert!(error.to_string().contains(&own), "{error}");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        let plain = directory.path().join("plain");
        fs::write(&plain, "kept").expect("a file");
        for path in [&link, &plain] {
            let error = bind(&socket(path, 0o600)).expect_err("it is no socket");
            assert!(error.to_string().contains("no socket"), "{error}");
        }
        assert_eq!(fs::read_to_string(&plain).expect("it is there"), "kept");
    }

    #[test]
    fn a_group_is_named_or_numbered() {
        assert_eq!(group("0").expect("a number"), Gid::from_raw(0));
        assert_eq!(group("root").expect("everybody has it"), Gid::from_raw(0));
        let error = group("no-such-group").expect_err("nobody has it");
        assert!(error.to_string().contains("`no-such-group`"), "{error}");
    }
}
