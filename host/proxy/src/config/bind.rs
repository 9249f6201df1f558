//! Reads where a listener listens: `bind`, and `mode` and `group` of a Unix socket.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use super::listener::socket_address;
use super::shape::{Located, string};
use super::value::Value;
use super::{Item, Problem, Section};

/// What the kernel takes as a path, with the byte that ends it (unix(7)).
const LONGEST_PATH: usize = 107;

/// Its owner and its group may connect.
const MODE: u32 = 0o660;

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// `"0.0.0.0:9222"`, `"[::]:80"`; port 0 lets the kernel choose.
    Internet(SocketAddr),
    /// `"unix:/run/witgate/main.sock"`
    Unix(UnixSocket),
    /// `"systemd:NAME"`: the sockets that systemd opened under this name (`FileDescriptorName=`).
    Systemd(Arc<str>),
}

/// A Unix socket to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixSocket {
    /// An absolute path.
    pub path: Arc<Path>,
    /// `mode`: who may connect, which takes permission to write. Default `"0660"`, whatever the umask.
    pub mode: u32,
    /// `group`: a name or number. Default: the process's own.
    pub group: Option<Box<str>>,
}

impl Bind {
    /// Whether both cannot be had at once.
    pub(crate) fn is_same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Internet(one), Self::Internet(other)) => one == other && one.port() != 0,
            (Self::Unix(one), Self::Unix(other)) => one.path == other.path,
            (Self::Systemd(one), Self::Systemd(other)) => one == other,
            _ => false,
        }
    }

    /// Whether nobody but this machine can reach it, as far as the configuration tells.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Internet(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
            Self::Systemd(_) => false,
        }
    }

    /// Whether the kernel chooses the port, so that this is no address to go by.
    pub(crate) fn is_any_port(&self) -> bool {
        matches!(self, Self::Internet(address) if address.port() == 0)
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet(address) => address.fmt(f),
            Self::Unix(socket) => write!(f, "unix:{}", socket.path.display()),
            Self::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}

pub(super) fn read(item: &Item<'_>) -> Option<Bind> {
    let text = item.text("an address with its port, such as \"0.0.0.0:8080\"")?;
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(item, path);
    }
    if let Some(name) = text.strip_prefix("systemd:") {
        return systemd(item, name);
    }
    socket_address(item).map(Bind::Internet)
}

fn unix(item: &Item<'_>, path: &str) -> Option<Bind> {
    if !path.starts_with('/') || path.len() > LONGEST_PATH || path.contains('\0') {
        let message = format!("{} is no path of a socket", item.shown());
        let help = "write an absolute path of at most 107 bytes: \"unix:/run/witgate/main.sock\"";
        return item.reject(message, help);
    }
    Some(Bind::Unix(UnixSocket {
        path: Path::new(path).into(),
        mode: MODE,
        group: None,
    }))
}

/// The characters that systemd lets names have (sd_listen_fds_with_names(3)).
fn systemd(item: &Item<'_>, name: &str) -> Option<Bind> {
    let possible = |byte: u8| (b' '..0x7f).contains(&byte) && byte != b':';
    if name.is_empty() || name.len() > 255 || !name.bytes().all(possible) {
        let message = format!("{} names no socket of systemd", item.shown());
        let help = "write the `FileDescriptorName=` of the socket unit: \"systemd:web\"";
        return item.reject(message, help);
    }
    Some(Bind::Systemd(name.into()))
}

/// Adds what else is said of a Unix socket.
pub(super) fn finish(
    bind: Option<Located<Bind>>,
    section: &mut Section<'_>,
) -> Option<Located<Bind>> {
    let is_unix = matches!(&bind, Some(bind) if matches!(bind.value, Bind::Unix(_)));
    for key in ["mode", "group"] {
        if bind.is_some() && !is_unix && section.has(key) {
            let message = format!("`{key}` is that of a Unix socket, and this is none");
            let problem = Problem::error(section.location(), section.path(), message);
            let help = "write `bind = \"unix:/run/witgate/main.sock\"`, or leave it out";
            section.reader().report(problem.with_help(help));
        }
    }
    let mode = section.optional("mode", mode);
    let group = section.optional("group", string);
    let mut bind = bind?;
    if let Bind::Unix(socket) = &mut bind.value {
        socket.mode = mode.unwrap_or(MODE);
        socket.group = group.map(String::into_boxed_str);
    }
    Some(bind)
}

/// `"0660"`, as chmod(1) takes it.
fn mode(item: &Item<'_>) -> Option<u32> {
    const HELP: &str = "write three or four octal digits as text, as for chmod: \"0660\"";
    if !matches!(item.value(), Value::String(_) | Value::Unresolved) {
        return item.mismatch("octal digits as text, such as \"0660\"");
    }
    let text = item.text("octal digits, such as \"0660\"")?;
    let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_digit());
    match u32::from_str_radix(text, 8).ok().filter(|_| is_octal) {
        Some(mode) if mode <= 0o777 => Some(mode),
        _ => item.reject(format!("{} is no mode of a file", item.shown()), HELP),
    }
}
