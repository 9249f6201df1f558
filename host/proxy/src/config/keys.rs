//! Every key of the file: what it takes, its default and what it means.
//!
//! `witgate schema` and the tables of `docs/configuration.md` are made of this. What is asked of a value beyond its kind,
//! its reader says. A test compares the keys with those that are read, both ways.

mod plugin;
mod route;
mod server;
mod telemetry;
mod upstream;

/// One key of a table.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What holds when it is left out.
    pub default: Default,
    /// What it means, in Markdown for a page in `docs/`. A table whose keys say it all has none.
    pub about: &'static str,
}

/// A key and what is known of it.
pub const fn key(name: &'static str, kind: Kind, default: Default, about: &'static str) -> Key {
    Key {
        name,
        kind,
        default,
        about,
    }
}

/// What holds when a key is left out.
#[derive(Debug, Clone, Copy)]
pub enum Default {
    /// It cannot be.
    Required,
    /// A value, as it would be written in TOML.
    Is(&'static str),
    /// What no value says: `cores`. Empty when there is nothing to be said.
    Means(&'static str),
}

/// What a value looks like.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Any text.
    Text,
    /// Text that is matched by a regular expression.
    Pattern(&'static str),
    /// One of these words.
    Words(&'static [&'static str]),
    /// See [`shape::name`](super::shape::name).
    Name,
    /// `true` or `false`.
    Boolean,
    /// `false`
    False,
    /// A number from the first to the second.
    Integer(i64, i64),
    /// A number, whole or not, from the first to the second.
    Number(i64, i64),
    /// A length of time with its unit.
    Duration,
    /// A number of bytes with its unit.
    Size,
    /// `"50%"`
    Percent,
    /// One of several kinds.
    Either(&'static [Kind]),
    /// Any number of one kind.
    List(&'static Kind),
    /// These keys and no others.
    Table(&'static [Key]),
    /// Keys that the operator chooses, each with a value of one kind.
    Named(&'static Kind),
    /// What a plugin takes.
    Config,
}

/// The path of a file or directory.
pub const PATH: Kind = Kind::Text;

/// A list of texts, or one without brackets.
pub(super) const ONE_OR_MANY: Kind = Kind::Either(&[Kind::Text, Kind::List(&Kind::Text)]);

/// An address with its port.
pub(super) const ADDRESS: Kind = Kind::Pattern(r"^(\[[0-9A-Fa-f:.]+\]|[0-9.]+):[0-9]+$");

/// An address with its port, a Unix socket or one of systemd's.
pub(super) const BIND: Kind =
    Kind::Pattern(r"^((\[[0-9A-Fa-f:.]+\]|[0-9.]+):[0-9]+|unix:/.+|systemd:.+)$");

/// The tables of this crate. Those of others come beside them.
pub const KEYS: &[Key] = &[
    key(
        "server",
        Kind::Table(server::SERVER),
        Default::Means("none"),
        "What holds for the whole process.",
    ),
    key(
        "admin",
        Kind::Table(server::ADMIN),
        Default::Means("none"),
        "What the process shows of itself, and to whom. Without this table there is no admin listener.",
    ),
    key(
        "log",
        Kind::Table(telemetry::LOG),
        Default::Means("none"),
        "Where the lines of exchanges go.",
    ),
    key(
        "telemetry",
        Kind::Table(telemetry::TELEMETRY),
        Default::Means("none"),
        "What is sent to a collector.",
    ),
    key(
        "listener",
        Kind::List(&Kind::Table(server::LISTENER)),
        Default::Required,
        "An address that connections are accepted on.",
    ),
    key(
        "route",
        Kind::List(&Kind::Table(route::ROUTE)),
        Default::Is("[]"),
        "What becomes of requests of a certain kind: the plugins that they pass, and who answers.",
    ),
    key(
        "upstream",
        Kind::Named(&Kind::Table(upstream::UPSTREAM)),
        Default::Means("none"),
        "Servers that answer, by name.",
    ),
    key(
        "plugin",
        Kind::Named(&Kind::Table(plugin::PLUGIN)),
        Default::Means("none"),
        "Components with their configurations, grants and limits, by name.",
    ),
    key(
        "keyvalue",
        Kind::Named(&Kind::Table(plugin::KEYVALUE)),
        Default::Means("`default`, in memory"),
        "Where plugins keep what outlives their instances, by name.",
    ),
];
