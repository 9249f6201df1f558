//! One configuration file: its text, parsed, with the place of everything in it.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;

use super::interpolate::{Interpolator, read_text};
use super::location::Source;
use super::secret;
use super::section::Reader;
use super::syntax;
use super::value::{Converter, Entry, Misreference};
use super::{Location, Problem, Problems};

/// A thousand routes take a few hundred kilobytes; what is larger is not a configuration.
const LARGEST_FILE: u64 = 8 * 1024 * 1024;

/// A parsed configuration file, with `${env:…}` and `${file:…}` replaced. May hold secrets; its `Debug` shows none.
pub struct Document {
    pub(super) source: Arc<Source>,
    pub(super) directory: PathBuf,
    pub(super) root: Vec<Entry>,
    /// References that lead nowhere; a [`Reader`] starts with them.
    pub(super) problems: Problems,
    pub(super) files: RefCell<Vec<PathBuf>>,
}

impl Document {
    /// Reads and parses a file of at most 8 MiB.
    ///
    /// # Errors
    ///
    /// The file cannot be read or is not UTF-8, or the text is not TOML: then all its syntax errors.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        let name = path.display().to_string();
        match read_text(path, LARGEST_FILE) {
            Ok(text) => Self::parse(path, &text),
            Err(error) => {
                let mut problems = Problems::new(&name);
                problems.add(
                    Problem::error(
                        Location::of_file(name),
                        "",
                        format!("cannot read the configuration: {error}"),
                    )
                    .with_help("name the file with `--config FILE`"),
                );
                Err(problems)
            }
        }
    }

    /// Parses `text` as the content of `path`, which need not exist: reports name it, and relative paths in the text
    /// start at its directory.
    ///
    /// # Errors
    ///
    /// The text is not TOML: all its syntax errors.
    pub fn parse(path: impl AsRef<Path>, text: &str) -> Result<Self, Problems> {
        Self::parse_with(path.as_ref(), text, &|name| std::env::var_os(name))
    }

    pub(super) fn parse_with(
        path: &Path,
        text: &str,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Problems> {
        let name = path.display().to_string();
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut problems = Problems::new(&name);
        if !errors.is_empty() {
            let source = Arc::new(Source::new(name, secret::overwritten_by_line(text)));
            for problem in syntax::problems(&source, &errors) {
                problems.add(problem);
            }
            return Err(problems);
        }
        let source = Arc::new(Source::new(name, secret::overwritten(text, root.get_ref())));
        let directory = path.parent().unwrap_or(Path::new("")).to_owned();
        let mut converter = Converter {
            interpolator: Interpolator {
                directory: &directory,
                environment,
                files: vec![path.to_owned()],
            },
            misreferences: Vec::new(),
        };
        let root = converter.table(root.get_ref(), "");
        let files = converter.interpolator.files;
        for misreference in converter.misreferences {
            problems.add(describe(&source, misreference));
        }
        Ok(Self {
            source,
            directory,
            root,
            problems,
            files: files.into(),
        })
    }

    /// Starts to read what the document says.
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(self)
    }

    /// The file itself and every file that `${file:…}` named, or that a [`Reader`] looked into by now: a change in any
    /// of them changes the configuration.
    pub fn files(&self) -> Vec<PathBuf> {
        self.files.borrow().clone()
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Document")
            .field("name", &self.source.name)
            .finish_non_exhaustive()
    }
}

fn describe(source: &Arc<Source>, misreference: Misreference) -> Problem {
    let Misreference { span, key, fault } = misreference;
    let whole = Location::new(source, span.clone());
    let location = match whole.text().find(&fault.reference) {
        Some(at) => {
            let start = span.start + at;
            Location::new(source, start..start + fault.reference.len())
        }
        None => whole,
    };
    Problem::error(location, key, fault.message).with_help(fault.help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_is_one_problem_that_names_it() {
        let problems =
            Document::read(Path::new("no/such.toml")).expect_err("there is no such file");
        let report = problems.to_string();
        assert!(
            report.contains(
                "cannot read the configuration: no such file or directory\n--> no/such.toml"
            ),
            "{report}"
        );
    }

    #[test]
    fn the_files_to_watch_are_the_configuration_and_those_it_refers_to() {
        let text = "a = \"${file:x}\"\nb = [\"${file:/y/z}\"]";
        let document = Document::parse("conf/a.toml", text).expect("this is TOML");
        let files = ["conf/a.toml", "conf/x", "/y/z"].map(PathBuf::from);
        assert_eq!(document.files(), files);
    }

    #[test]
    fn a_dead_reference_is_underlined_within_its_string() {
        let document =
            Document::parse_with(Path::new("a.toml"), "a = 'x ${env:A} ${env:B}'", &|_| None)
                .expect("this is TOML");
        let problems = document
            .reader()
            .finish(Some(()))
            .expect_err("neither is set");
        let places: Vec<_> = problems
            .iter()
            .map(|problem| problem.location.to_string())
            .collect();
        assert_eq!(places, ["a.toml:1:8", "a.toml:1:17"]);
    }

    #[test]
    fn a_document_does_not_show_its_secrets_when_debugged() {
        let environment = |_: &str| Some(OsString::from("s3cret"));
        let document = Document::parse_with(Path::new("a.toml"), "a = \"${env:A}\"", &environment)
            .expect("this is TOML");
        assert!(!format!("{document:?}").contains("s3cret"));
    }
}
