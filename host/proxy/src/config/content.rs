//! What the parts of a file say, so that one file can be compared with the next.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use super::Section;
use super::model::{Listener, Route};
use super::value::{Node, Value};

/// A kind of part of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `[[listener]]`
    Listener,
    /// `[[route]]`
    Route,
    /// `[upstream.NAME]`
    Upstream,
    /// `[keyvalue.NAME]`
    Store,
    /// `[plugin.NAME]`
    Plugin,
    /// Any other table, by its key: `server`, `chrome`.
    Table,
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Listener => "listener",
            Self::Route => "route",
            Self::Upstream => "upstream",
            Self::Store => "keyvalue store",
            Self::Plugin => "plugin",
            Self::Table => "table",
        })
    }
}

/// What became of a part from one configuration to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It is new.
    Added,
    /// It says something else.
    Changed,
    /// It is gone.
    Removed,
}

/// What one part says, with `${…}` replaced, in whatever order and layout. May hold secrets; its `Debug` shows none.
#[derive(Clone, PartialEq, Eq)]
struct Content(Box<str>);

impl fmt::Debug for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("<redacted>")
    }
}

/// What each part of a file says, by its kind and name.
#[derive(Debug, Clone, Default)]
pub struct Contents(BTreeMap<(Part, Arc<str>), Content>);

impl Contents {
    /// `listeners` and `routes` were read from `root`, in its order: they know the names.
    pub(super) fn of(root: &Section<'_>, listeners: &[Listener], routes: &[Route]) -> Self {
        let mut contents = BTreeMap::new();
        let mut put = |part, name: Arc<str>, node: &Node| {
            contents.insert((part, name), content(node));
        };
        for (key, node) in root.nodes() {
            let (items, named): (&[Node], &[_]) = match &node.value {
                Value::Array(items) => (items, &[]),
                Value::Table(entries) => (&[], entries),
                _ => (&[], &[]),
            };
            match key {
                "listener" => std::iter::zip(listeners, items)
                    .for_each(|(listener, item)| put(Part::Listener, listener.name.clone(), item)),
                "route" => std::iter::zip(routes, items)
                    .for_each(|(route, item)| put(Part::Route, route.name.clone(), item)),
                "upstream" => named
                    .iter()
                    .for_each(|entry| put(Part::Upstream, entry.key.as_str().into(), &entry.node)),
                "keyvalue" => named
                    .iter()
                    .for_each(|entry| put(Part::Store, entry.key.as_str().into(), &entry.node)),
                "plugin" => named
                    .iter()
                    .for_each(|entry| put(Part::Plugin, entry.key.as_str().into(), &entry.node)),
                _ => put(Part::Table, key.into(), node),
            }
        }
        Self(contents)
    }

    /// Whether both say the same of a part, or both nothing.
    pub fn agree_on(&self, other: &Self, part: Part, name: &str) -> bool {
        let key = (part, Arc::from(name));
        self.0.get(&key) == other.0.get(&key)
    }

    /// What is different in `next`, by kind and name.
    pub fn changes(&self, next: &Self) -> Vec<(Part, Arc<str>, Change)> {
        let mut names: Vec<_> = self.0.keys().chain(next.0.keys()).collect();
        names.sort();
        names.dedup();
        let change = |key| match (self.0.get(key), next.0.get(key)) {
            (None, _) => Some(Change::Added),
            (_, None) => Some(Change::Removed),
            (was, is) => (was != is).then_some(Change::Changed),
        };
        names
            .into_iter()
            .filter_map(|key| Some((key.0, key.1.clone(), change(key)?)))
            .collect()
    }
}

fn content(node: &Node) -> Content {
    let mut text = String::new();
    write(node, &mut text).expect("a string takes all that is written to it");
    Content(text.into())
}

fn write(node: &Node, text: &mut String) -> fmt::Result {
    match &node.value {
        Value::String(string) => write!(text, "{string:?}"),
        // Such a file is refused, so that this is never compared.
        Value::Unresolved => text.write_char('?'),
        Value::Integer(integer) => write!(text, "{integer:?}"),
        Value::Float(float) => write!(text, "{float:?}"),
        Value::Boolean(boolean) => write!(text, "{boolean}"),
        Value::Datetime(datetime) => write!(text, "date {datetime}"),
        Value::Array(items) => {
            text.write_char('[')?;
            for item in items {
                write(item, text)?;
                text.write_char(',')?;
            }
            text.write_char(']')
        }
        Value::Table(entries) => {
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_by_key(|entry| &entry.key);
            text.write_char('{')?;
            for entry in sorted {
                write!(text, "{:?}=", entry.key)?;
                write(&entry.node, text)?;
                text.write_char(',')?;
            }
            text.write_char('}')
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Document};
    use super::*;

    const BASE: &str = "
        [[listener]]
        name = 'main'
        bind = '127.0.0.1:80'
        limits = { connections = 5, header-count = 7 }
        [[route]]
        plugins = ['token']
        upstream = 'origin'
        [upstream.origin]
        endpoints = ['http://a:1']
        [plugin.token]
        component = 'builtin:bearer-auth'
        config.tokens = [{ name = 'ada', value = 's3cret' }]";

    fn contents(text: &str) -> Contents {
        let document = Document::parse("a.toml", text).expect("it is TOML");
        let reader = document.reader();
        let config = Config::read(&mut reader.root());
        let (config, _) = reader.finish(config).expect("it is valid");
        config.contents
    }

    fn changes(from: &str, to: &str) -> Vec<String> {
        let changes = contents(from).changes(&contents(to));
        changes
            .iter()
            .map(|(part, name, change)| format!("{part} {name} {change:?}"))
            .collect()
    }

    #[test]
    fn layout_order_and_comments_are_no_change() {
        let other = BASE
            .replace(
                "connections = 5, header-count = 7",
                "header-count = 7, connections = 5",
            )
            .replace("[upstream.origin]", "# moved down\n\n[upstream.origin]")
            .replace('\'', "\"");
        assert_eq!(changes(BASE, &other), Vec::<String>::new());
    }

    #[test]
    fn each_kind_of_part_is_compared_by_name() {
        let other = BASE
            .replace("'main'", "'front'")
            .replace("[[route]]", "[[route]]\npath = '/a/*'")
            .replace("http://a:1", "http://a:2")
            .replace("s3cret", "an0ther")
            + "\n[server]\nworkers = 1";
        assert_eq!(
            changes(BASE, &other),
            [
                "listener front Added",
                "listener main Removed",
                "route route-1 Changed",
                "upstream origin Changed",
                "plugin token Changed",
                "table server Added",
            ]
        );
    }

    #[test]
    fn secrets_are_compared_and_not_shown() {
        assert!(!format!("{:?}", contents(BASE)).contains("s3cret"));
    }

    #[test]
    fn values_of_different_types_are_different() {
        let table = |value: &str| format!("{BASE}\n[server]\nx = {value}");
        let raw = |text: &str| {
            let document = Document::parse("a.toml", &table(text)).expect("it is TOML");
            let reader = document.reader();
            Contents::of(&reader.root(), &[], &[])
        };
        for (one, other) in [("1", "'1'"), ("[1]", "1"), ("true", "'true'"), ("1.0", "1")] {
            assert!(
                !raw(one).agree_on(&raw(other), Part::Table, "server"),
                "{one} {other}"
            );
        }
    }
}
