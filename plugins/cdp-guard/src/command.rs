//! A command, as strictly as Chromium reads it or stricter: what has two readings has none here.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// One command, with those that it carries within.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Command<'a> {
    pub(crate) id: i64,
    pub(crate) session: Option<Cow<'a, str>>,
    /// The outermost first.
    pub(crate) calls: Vec<Call>,
}

/// What a command asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) method: String,
    /// Where to, of a method that navigates.
    pub(crate) url: Option<String>,
}

/// The members that a command may have. A second one of a name is refused, since readers differ in which they take.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Outside<'a> {
    id: i64,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    session_id: Option<Cow<'a, str>>,
    #[serde(rename = "params")]
    _params: Option<IgnoredAny>,
}

/// A command of which a parameter matters.
#[derive(Deserialize)]
struct With<P> {
    params: P,
}

/// The parameters of one that carries another; what else they hold is of no importance. A second `message` is refused.
#[derive(Deserialize)]
struct Carried<'a> {
    #[serde(borrow)]
    message: Cow<'a, str>,
}

/// The parameters of one that navigates, as strictly.
#[derive(Deserialize)]
struct Navigated {
    url: String,
}

/// Methods whose parameter `message` is a command for somebody else.
const CARRIERS: [&str; 2] = [
    "Target.sendMessageToTarget",
    "NodeWorker.sendMessageToWorker",
];

/// Methods that open the page which their parameter `url` names, with the rights of who types it into the address bar.
const NAVIGATING: [&str; 2] = ["Page.navigate", "Target.createTarget"];

/// Commands within commands. A target within a target takes two.
const MAX_DEPTH: usize = 4;

/// Bytes of a command of which a parameter is read: each depth takes a copy of what is within, and the memory is one for
/// all clients.
const MAX_READ: usize = 1 << 20;

/// Bytes of a method, a session or a member's name. Chromium's longest have about fifty.
const MAX_NAME: usize = 1024;

/// Why something is no command.
#[derive(Debug)]
pub(crate) enum NoCommand {
    NotAnObject,
    LongName,
    LongParameter(&'static str),
    Parameter(&'static str),
    Json(serde_json::Error),
    TooDeep,
}

impl fmt::Display for NoCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject => f.write_str("it is no JSON object"),
            Self::LongName => write!(f, "it has a string over {MAX_NAME} bytes outside `params`"),
            Self::LongParameter(name) => {
                write!(
                    f,
                    "its parameter `{name}` is read and it is over {MAX_READ} bytes"
                )
            }
            Self::Parameter(name) => write!(f, "it has not one parameter `{name}`, a string"),
            // The words of serde_json may quote what was sent; kind and place do not.
            Self::Json(error) if error.is_data() => write!(
                f,
                "it has other members than one each of `id`, `method`, `params` and `sessionId`, or of other types, at column {}",
                error.column()
            ),
            Self::Json(error) => write!(f, "it is no JSON at column {}", error.column()),
            Self::TooDeep => write!(f, "it carries more than {MAX_DEPTH} commands in each other"),
        }
    }
}

impl<'a> Command<'a> {
    pub(crate) fn read(text: &'a str) -> Result<Self, NoCommand> {
        let outside = Outside::read(text)?;
        let mut calls = Vec::new();
        collect(&outside.method, text, &mut calls)?;
        Ok(Self {
            id: outside.id,
            session: outside.session_id,
            calls,
        })
    }
}

impl<'a> Outside<'a> {
    fn read(text: &'a str) -> Result<Self, NoCommand> {
        // A list would pass for an object with serde.
        let start = text.trim_start_matches([' ', '\t', '\r', '\n']);
        if !start.starts_with('{') {
            return Err(NoCommand::NotAnObject);
        }
        if has_long_name(text) {
            return Err(NoCommand::LongName);
        }
        serde_json::from_str(text).map_err(NoCommand::Json)
    }
}

/// Whether a string of the outermost object is over [`MAX_NAME`]. Asked before anything is read, because to read such a
/// string takes several times its length; strings within `params` are passed over without being read.
fn has_long_name(text: &str) -> bool {
    let (mut depth, mut length, mut is_escaped) = (0_usize, None, false);
    for byte in text.bytes() {
        match (&mut length, byte) {
            (Some(_), b'"') if !is_escaped => length = None,
            (Some(length), _) if depth < 2 && *length == MAX_NAME => return true,
            (Some(length), _) => {
                *length += 1;
                is_escaped = byte == b'\\' && !is_escaped;
            }
            (None, b'"') => length = Some(0),
            (None, b'{' | b'[') => depth += 1,
            (None, b'}' | b']') => depth = depth.saturating_sub(1),
            (None, _) => {}
        }
    }
    false
}

/// Collects what a command asks for, and what the commands do that it carries.
fn collect(method: &str, text: &str, calls: &mut Vec<Call>) -> Result<(), NoCommand> {
    if calls.len() == MAX_DEPTH {
        return Err(NoCommand::TooDeep);
    }
    let url = if NAVIGATING.contains(&method) {
        Some(parameters::<Navigated>(text, "url")?.url)
    } else {
        None
    };
    calls.push(Call {
        method: method.to_owned(),
        url,
    });
    if !CARRIERS.contains(&method) {
        return Ok(());
    }
    let within = parameters::<Carried<'_>>(text, "message")?.message;
    collect(&Outside::read(&within)?.method, &within, calls)
}

/// Reads `params` for the one that matters.
fn parameters<'a, P: Deserialize<'a>>(text: &'a str, name: &'static str) -> Result<P, NoCommand> {
    if text.len() > MAX_READ {
        return Err(NoCommand::LongParameter(name));
    }
    let command: With<P> = serde_json::from_str(text).map_err(|_| NoCommand::Parameter(name))?;
    Ok(command.params)
}
