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
    pub(crate) methods: Vec<String>,
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

/// A command that carries another one.
#[derive(Deserialize)]
struct Carrier<'a> {
    #[serde(borrow)]
    params: Carried<'a>,
}

/// Its parameters; what else they hold is of no importance.
#[derive(Deserialize)]
struct Carried<'a> {
    #[serde(borrow)]
    message: Cow<'a, str>,
}

/// Methods whose parameter `message` is a command for somebody else.
const CARRIERS: [&str; 2] = [
    "Target.sendMessageToTarget",
    "NodeWorker.sendMessageToWorker",
];

/// Commands within commands. A target within a target takes two.
const MAX_DEPTH: usize = 4;

/// Bytes of a command that carries another: each depth takes a copy of what is within, and the memory is one for all
/// clients.
const MAX_CARRIER: usize = 1 << 20;

/// Bytes of a method, a session or a member's name. Chromium's longest have about fifty.
const MAX_NAME: usize = 1024;

/// Why something is no command.
#[derive(Debug)]
pub(crate) enum NoCommand {
    NotAnObject,
    LongName,
    LongCarrier,
    Json(serde_json::Error),
    TooDeep,
}

impl fmt::Display for NoCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject => f.write_str("it is no JSON object"),
            Self::LongName => write!(f, "it has a string over {MAX_NAME} bytes outside `params`"),
            Self::LongCarrier => {
                write!(f, "it carries a command and is over {MAX_CARRIER} bytes")
            }
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
        let mut methods = Vec::new();
        carried(&outside.method, text, &mut methods)?;
        Ok(Self {
            id: outside.id,
            session: outside.session_id,
            methods,
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

/// Collects the method of a command, and those of the commands that it carries.
fn carried(method: &str, text: &str, methods: &mut Vec<String>) -> Result<(), NoCommand> {
    if methods.len() == MAX_DEPTH {
        return Err(NoCommand::TooDeep);
    }
    methods.push(method.to_owned());
    if !CARRIERS.contains(&method) {
        return Ok(());
    }
    if text.len() > MAX_CARRIER {
        return Err(NoCommand::LongCarrier);
    }
    let carrier: Carrier<'_> = serde_json::from_str(text).map_err(NoCommand::Json)?;
    let within = carrier.params.message;
    carried(&Outside::read(&within)?.method, &within, methods)
}
