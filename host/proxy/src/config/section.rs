//! Walks a document's tables, remembers which keys were asked for, and collects what is wrong.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use super::suggest::{closest, did_you_mean, enumerate};
use super::value::{Entry, Node, Value, join};
use super::{Document, Location, Problem, Problems};

/// One pass over a [`Document`], which collects every problem on the way.
pub struct Reader<'d> {
    document: &'d Document,
    problems: RefCell<Problems>,
    /// The dotted path of every key that was asked for, without indices and names.
    #[cfg(test)]
    asked: RefCell<std::collections::BTreeSet<String>>,
}

impl<'d> Reader<'d> {
    pub(super) fn new(document: &'d Document) -> Self {
        Self {
            document,
            problems: RefCell::new(document.problems.clone()),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    /// The table of everything. Every crate that owns a part of the file reads it from the same root; the last one
    /// calls [`Section::finish`].
    pub fn root(&self) -> Section<'_> {
        Section {
            reader: self,
            entries: &self.document.root,
            location: Location::whole(&self.document.source),
            path: String::new(),
            known: Vec::new(),
        }
    }

    /// Every key that was asked for, whether it is there or not.
    #[cfg(test)]
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.borrow().iter().cloned().collect()
    }

    /// Adds a problem.
    pub fn report(&self, problem: Problem) {
        self.problems.borrow_mut().add(problem);
    }

    /// Whether anything found so far keeps the configuration from being taken up.
    pub fn has_errors(&self) -> bool {
        self.problems.borrow().has_errors()
    }

    /// What was read, with the warnings.
    ///
    /// # Errors
    ///
    /// All problems, when there is an error among them; also when `value` is `None`, which no reader should give
    /// without having reported why.
    pub fn finish<T>(self, value: Option<T>) -> Result<(T, Problems), Problems> {
        let problems = self.problems.into_inner();
        match value {
            Some(value) if !problems.has_errors() => Ok((value, problems)),
            _ => Err(problems),
        }
    }

    /// What is read.
    pub(super) fn document(&self) -> &'d Document {
        self.document
    }

    /// What this file holds is part of the configuration.
    pub(super) fn watch(&self, file: PathBuf) {
        self.document.files.borrow_mut().push(file);
    }

    /// Where relative paths of the file start.
    pub(super) fn directory(&self) -> &'d Path {
        &self.document.directory
    }
}

/// One table, read key by key.
///
/// Each getter takes a *shape* (see [`shape`](super::shape)) that turns the value into what is wanted, or reports why
/// it cannot. Getters go on after a problem: [`Reader::finish`] throws the result away when there was any error, so
/// what they return then only has to let the reading continue.
pub struct Section<'r> {
    reader: &'r Reader<'r>,
    entries: &'r [Entry],
    location: Location,
    path: String,
    known: Vec<String>,
}

impl<'r> Section<'r> {
    /// The value of `key`; a missing one is an error whose help shows `example`, a TOML value.
    pub fn required<T>(
        &mut self,
        key: &str,
        example: &str,
        mut shape: impl FnMut(&Item<'r>) -> Option<T>,
    ) -> Option<T> {
        match self.item(key) {
            Some(item) => shape(&item),
            None => {
                let problem = Problem::error(
                    self.location(),
                    join(&self.path, key),
                    format!("`{key}` is missing in {}", self.title()),
                );
                self.reader
                    .report(problem.with_help(format!("add `{key} = {example}`")));
                None
            }
        }
    }

    /// The value of `key`, if it is there.
    pub fn optional<T>(
        &mut self,
        key: &str,
        mut shape: impl FnMut(&Item<'r>) -> Option<T>,
    ) -> Option<T> {
        self.item(key).and_then(|item| shape(&item))
    }

    /// The value of `key`, or `default` when it is not there.
    pub fn default<T>(
        &mut self,
        key: &str,
        default: T,
        shape: impl FnMut(&Item<'r>) -> Option<T>,
    ) -> T {
        self.optional(key, shape).unwrap_or(default)
    }

    /// The raw value of `key`, if it is there; from then on the key counts as known.
    pub fn item(&mut self, key: &str) -> Option<Item<'r>> {
        if !self.known.iter().any(|known| known == key) {
            self.known.push(key.to_owned());
        }
        #[cfg(test)]
        self.reader.asked.borrow_mut().insert(join(&self.path, key));
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(self.entry(entry))
    }

    /// Whether `key` is there, whatever its value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// Every key with its value, for a table whose keys are names; all count as known.
    pub fn items(&mut self) -> Vec<Item<'r>> {
        self.known
            .extend(self.entries.iter().map(|entry| entry.key.clone()));
        self.entries.iter().map(|entry| self.entry(entry)).collect()
    }

    /// Every key with its value, none of which counts as known for it.
    pub(super) fn entries(&self) -> Vec<Item<'r>> {
        self.entries.iter().map(|entry| self.entry(entry)).collect()
    }

    fn entry(&self, entry: &'r Entry) -> Item<'r> {
        Item {
            reader: self.reader,
            node: &entry.node,
            name: &entry.key,
            name_location: Location::new(&self.reader.document.source, entry.key_span.clone()),
            path: join(&self.path, &entry.key),
        }
    }

    /// Reports every key that no getter asked for.
    pub fn finish(self) {
        for entry in self.entries {
            if self.known.contains(&entry.key) {
                continue;
            }
            let known = || self.known.iter().map(String::as_str);
            let message = match self.path.is_empty() {
                true => format!("unknown {} `{}`", self.entry(entry).noun(), entry.key),
                false => format!("unknown key `{}` in {}", entry.key, self.title()),
            };
            let problem = Problem::error(
                self.entry(entry).name_location,
                join(&self.path, &entry.key),
                message,
            );
            let known_here = format!("known here: {}", enumerate(known()));
            self.reader.report(match did_you_mean(&entry.key, known()) {
                Some(suggestion) => problem.with_help(suggestion).with_note(known_here),
                None => problem.with_help(known_here),
            });
        }
    }

    /// Every key with its value, none of which counts as known for it.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&'r str, &'r Node)> {
        self.entries
            .iter()
            .map(|entry| (entry.key.as_str(), &entry.node))
    }

    /// Whether a key that is there was probably meant to be `key`.
    pub(super) fn has_misspelt(&self, key: &str) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.key != key && closest(&entry.key, [key]).is_some())
    }

    /// The table's header, or what stands in its place; the file as a whole for the root.
    pub fn location(&self) -> Location {
        self.location.clone()
    }

    /// The table's dotted path; empty for the root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The reader that this section belongs to.
    pub fn reader(&self) -> &'r Reader<'r> {
        self.reader
    }

    /// How the table is called in a report: its header when it has one.
    fn title(&self) -> String {
        let text = self.location.text();
        if self.path.is_empty() {
            "the file".into()
        } else if text.starts_with('[') {
            format!("`{text}`")
        } else {
            format!("`{}`", self.path)
        }
    }
}

/// One value of a document, and where it stands.
pub struct Item<'r> {
    reader: &'r Reader<'r>,
    node: &'r Node,
    name: &'r str,
    name_location: Location,
    path: String,
}

impl<'r> Item<'r> {
    /// The value's place; of a table with a header the header's.
    pub fn location(&self) -> Location {
        Location::new(&self.reader.document.source, self.node.span.clone())
    }

    /// The key. Items of a list have the list's.
    pub fn name(&self) -> &'r str {
        self.name
    }

    /// The key's place.
    pub fn name_location(&self) -> Location {
        self.name_location.clone()
    }

    /// The dotted path from the top of the file, list items by index.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether `${…}` was replaced in it, so that it may be a secret and must not be shown.
    pub fn is_interpolated(&self) -> bool {
        self.node.interpolated
    }

    /// The reader that this item belongs to.
    pub fn reader(&self) -> &'r Reader<'r> {
        self.reader
    }

    /// Reports that the value is wrong, and what would be right. Gives `None` for the caller to return.
    pub fn reject<T>(&self, message: impl Into<String>, help: impl Into<String>) -> Option<T> {
        self.reader.report(self.problem(message).with_help(help));
        None
    }

    /// A problem with this value, for the caller to complete and [`Reader::report`].
    pub fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::error(self.location(), &self.path, message)
    }

    /// Reports that the value has another type than `expected`, a noun with its article.
    pub fn mismatch<T>(&self, expected: &str) -> Option<T> {
        if !matches!(self.node.value, Value::Unresolved) {
            self.reader
                .report(self.problem(format!("expected {expected}; found {}", self.found())));
        }
        None
    }

    /// The value as a report may show it: as it stands in the file, references unreplaced and secrets overwritten.
    pub fn shown(&self) -> String {
        self.location().text().to_owned()
    }

    /// What to call its key.
    fn noun(&self) -> &'static str {
        match &self.node.value {
            Value::Table(_) => "table",
            Value::Array(nodes)
                if nodes
                    .iter()
                    .all(|node| matches!(node.value, Value::Table(_))) =>
            {
                "table"
            }
            _ => "key",
        }
    }

    /// The value with its type: `the integer 30`, `a list`.
    fn found(&self) -> String {
        let kind = self.node.value.kind();
        let shown = self.shown();
        let long = shown.len() > 40 || shown.contains('\n');
        match &self.node.value {
            Value::Array(_) | Value::Table(_) => format!("a {kind}"),
            Value::Boolean(_) => shown,
            Value::Integer(_) if long => "an integer".into(),
            _ if long => format!("a {kind}"),
            _ => format!("the {kind} {shown}"),
        }
    }

    /// The text of a string; another type is reported as a mismatch with `expected`.
    pub fn text(&self, expected: &str) -> Option<&'r str> {
        match &self.node.value {
            Value::String(text) => Some(text),
            _ => self.mismatch(expected),
        }
    }

    /// The items of a list; another type is reported as a mismatch with `expected`.
    pub fn elements(&self, expected: &str) -> Option<Vec<Item<'r>>> {
        let nodes = match &self.node.value {
            Value::Array(nodes) => nodes,
            Value::String(_) => {
                let message = format!("expected {expected}; found {}", self.found());
                return self.reject(message, format!("put it in brackets: [{}]", self.shown()));
            }
            _ => return self.mismatch(expected),
        };
        let items = nodes.iter().enumerate().map(|(index, node)| Item {
            reader: self.reader,
            node,
            name: self.name,
            name_location: self.name_location.clone(),
            path: join(&self.path, &index.to_string()),
        });
        Some(items.collect())
    }

    /// The value as a table; another type is reported as a mismatch with `expected`.
    pub fn section(&self, expected: &str) -> Option<Section<'r>> {
        let Value::Table(entries) = &self.node.value else {
            return self.mismatch(expected);
        };
        Some(Section {
            reader: self.reader,
            entries,
            location: self.location(),
            path: self.path.clone(),
            known: Vec::new(),
        })
    }

    /// The text, if it is one.
    pub(super) fn as_text(&self) -> Option<&'r str> {
        match &self.node.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is a table.
    pub fn is_table(&self) -> bool {
        matches!(self.node.value, Value::Table(_))
    }

    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        matches!(self.node.value, Value::Array(_))
    }

    pub(super) fn value(&self) -> &'r Value {
        &self.node.value
    }
}

#[cfg(test)]
mod tests {
    use super::super::shape;
    use super::*;

    fn report(text: &str, read: impl FnOnce(&mut Section<'_>)) -> Vec<String> {
        let document = Document::parse("a.toml", text).expect("this is TOML");
        let reader = document.reader();
        let mut root = reader.root();
        read(&mut root);
        root.finish();
        match reader.finish(Some(())) {
            Ok(((), problems)) | Err(problems) => problems
                .iter()
                .map(|problem| {
                    let help = problem.help.as_deref().unwrap_or("-");
                    format!(
                        "{} {}: {} ({help})",
                        problem.location, problem.key, problem.message
                    )
                })
                .collect(),
        }
    }

    #[test]
    fn a_key_that_nobody_asked_for_is_unknown_and_gets_a_suggestion() {
        let problems = report("[server]\nworker = 1\nx = 1\n", |root| {
            root.optional(
                "server",
                shape::table(|server| server.optional("workers", shape::integer::<u8>(1..=9))),
            );
        });
        assert_eq!(
            problems,
            [
                "a.toml:2:1 server.worker: unknown key `worker` in `[server]` (did you mean `workers`?)",
                "a.toml:3:1 server.x: unknown key `x` in `[server]` (known here: `workers`)",
            ]
        );
    }

    #[test]
    fn a_missing_key_is_reported_at_its_table_with_an_example() {
        let problems = report("[[listener]]\n", |root| {
            root.optional(
                "listener",
                shape::tables("listener", |listener| {
                    listener.required("name", "\"main\"", shape::name)
                }),
            );
        });
        assert_eq!(
            problems,
            [
                "a.toml:1:1 listener.0.name: `name` is missing in `[[listener]]` (add `name = \"main\"`)"
            ]
        );
    }

    #[test]
    fn a_value_of_another_type_is_shown_as_it_stands() {
        let problems = report("a = 1\nb = true\nc = [1]\nd = {}\ne = 2020-01-01", |root| {
            for key in ["a", "b", "c", "d", "e"] {
                root.optional(key, shape::string);
            }
        });
        let messages: Vec<_> = problems
            .iter()
            .map(|problem| problem.split_once("found ").expect("a mismatch").1)
            .collect();
        assert_eq!(
            messages,
            [
                "the integer 1 (-)",
                "true (-)",
                "a list (-)",
                "a table (-)",
                "the date 2020-01-01 (-)"
            ]
        );
    }

    #[test]
    fn a_string_with_a_dead_reference_is_reported_once() {
        let problems = report("a = \"${env:WITGATE_TEST_UNSET}\"", |root| {
            root.required("a", "1", shape::integer::<u8>(0..=1));
        });
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("`WITGATE_TEST_UNSET` is not set"));
    }
}
