//! Reads `grant.wasi`.

use witgate_runtime::WasiDirectory;

use super::model::WasiGrant;
use super::plugin::{directory, mount};
use super::shape::{boolean, list, located, string, table};
use super::{Item, Problem, Section};

pub(super) fn read(section: &mut Section<'_>) -> Option<WasiGrant> {
    let environment = section.default("env", Vec::new(), strings(variable));
    let config = section.default("config", Vec::new(), strings(string));
    let granted = section.default("directories", Vec::new(), list(table(read_directory)));
    let mut directories: Vec<WasiDirectory> = Vec::new();
    for (directory, mount) in granted {
        if directories.iter().any(|other| other.mount == mount.value) {
            let message = format!("`{}` is there twice", mount.value);
            let problem = Problem::error(mount.location, mount.path, message);
            section
                .reader()
                .report(problem.with_help("give each directory a path of its own"));
        } else {
            directories.push(directory);
        }
    }
    Some(WasiGrant {
        environment,
        directories,
        config,
    })
}

/// A table of strings under names that the operator chooses.
fn strings<'r>(
    shape: impl Fn(&Item<'r>) -> Option<String>,
) -> impl FnMut(&Item<'r>) -> Option<Vec<(String, String)>> {
    move |item| {
        let mut section = item.section("a table of strings")?;
        let entries = section.items().into_iter();
        let pairs = entries.filter_map(|entry| Some((entry.name().to_owned(), shape(&entry)?)));
        Some(pairs.collect())
    }
}

/// What can be in an environment.
fn variable(item: &Item<'_>) -> Option<String> {
    let value = item.text("a string")?;
    if item.name().is_empty() || item.name().contains(['=', '\0']) {
        let problem = Problem::error(
            item.name_location(),
            item.path(),
            format!(
                "`{}` cannot be the name of a variable",
                item.name().escape_debug()
            ),
        );
        item.reader()
            .report(problem.with_help("a name is not empty and has no `=` in it"));
        return None;
    }
    if value.contains('\0') {
        return item.reject("the value has a NUL in it", "no variable can hold one");
    }
    Some(value.to_owned())
}

type Directory = (WasiDirectory, super::shape::Located<String>);

fn read_directory(section: &mut Section<'_>) -> Option<Directory> {
    let path = section.required("path", "\"data\"", directory);
    let mount = section.required("as", "\"/data\"", located(mount));
    let write = section.default("write", false, boolean);
    let (path, mount) = path.zip(mount)?;
    let directory = WasiDirectory {
        path,
        mount: mount.value.clone(),
        write,
    };
    Some((directory, mount))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Document;
    use super::*;

    fn grant_at(directory: &Path, text: &str) -> Result<WasiGrant, String> {
        let document = Document::parse(directory.join("a.toml"), text).expect("this is TOML");
        let reader = document.reader();
        let mut root = reader.root();
        let grant = read(&mut root);
        root.finish();
        reader
            .finish(grant)
            .map(|(grant, _)| grant)
            .map_err(|problems| problems.to_string())
    }

    fn grant(text: &str) -> Result<WasiGrant, String> {
        grant_at(Path::new(""), text)
    }

    #[test]
    fn variables_and_strings_are_named_and_not_shown() {
        let found = grant("env = { LANG = 'C', TOKEN = 's3cret' }\nconfig = { 'a b' = 's3cret' }");
        let found = found.expect("valid");
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        assert_eq!(
            found.environment,
            [("LANG", "C"), ("TOKEN", "s3cret")].map(pair)
        );
        assert_eq!(found.config, [("a b", "s3cret")].map(pair));
        let debug = format!("{found:?}");
        assert!(
            debug.contains("TOKEN") && !debug.contains("s3cret"),
            "{debug}"
        );
    }

    #[test]
    fn a_directory_is_read_only_unless_said_otherwise() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let text =
            "directories = [{ path = '.', as = '/a' }, { path = '.', as = '/b', write = true }]";
        let found = grant_at(directory.path(), text).expect("valid").directories;
        let seen: Vec<_> = found.iter().map(|d| (&*d.mount, d.write)).collect();
        assert_eq!(seen, [("/a", false), ("/b", true)]);
    }

    #[test]
    fn what_cannot_be_granted_is_refused() {
        for (text, message) in [
            ("env = { A = 1 }", "expected a string"),
            ("env = { '' = 'x' }", "cannot be the name of a variable"),
            ("env = { 'A=B' = 'x' }", "cannot be the name of a variable"),
            ("env.A = \"a\\u0000b\"", "has a NUL in it"),
            ("env = 'A=B'", "expected a table of strings"),
            ("config = { a = {} }", "expected a string"),
            (
                "directories = [{ path = 'no-such', as = '/a' }]",
                "cannot use 'no-such'",
            ),
            (
                "directories = [{ path = '/', as = 'a' }]",
                "'a' is no absolute path",
            ),
            (
                "directories = [{ path = '/', as = '/a' }, { path = '/', as = '/a' }]",
                "`/a` is there twice",
            ),
            ("network = true", "unknown key `network`"),
        ] {
            let report = grant(text).expect_err(text);
            assert!(report.contains(message), "{text}: {report}");
        }
    }
}
