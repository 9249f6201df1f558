//! `${env:NAME}` and `${file:PATH}` in strings.

use std::ffi::OsString;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A secret is short; a longer file was named by mistake, and a device file would never end.
const LARGEST_FILE: u64 = 64 * 1024;

/// One part of a string.
pub(super) struct Piece<'t> {
    pub(super) kind: Kind<'t>,
    /// Bytes of the string that this part was read from.
    pub(super) range: Range<usize>,
}

/// What a part stands for.
#[derive(Debug, PartialEq)]
pub(super) enum Kind<'t> {
    /// Itself; for `$${` this is `${`.
    Text(&'t str),
    /// `${env:NAME}` or `${env:NAME:-default}`
    Environment {
        name: &'t str,
        default: Option<&'t str>,
    },
    /// `${file:PATH}`
    File(&'t str),
    /// `${` and something else.
    Malformed,
    /// `${` without `}`.
    Unclosed,
}

/// Takes a string apart. The parts cover it from end to end.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    while let Some(found) = text[start..].find("${") {
        let open = start + found;
        let escaped = open > start && text.as_bytes()[open - 1] == b'$';
        let text_end = if escaped { open - 1 } else { open };
        if text_end > start {
            pieces.push(plain(text, start..text_end));
        }
        let (kind, end) = if escaped {
            (Kind::Text(&text[open..open + 2]), open + 2)
        } else if let Some(length) = text[open..].find('}') {
            let close = open + length;
            (reference(&text[open + 2..close]), close + 1)
        } else {
            (Kind::Unclosed, text.len())
        };
        pieces.push(Piece {
            kind,
            range: text_end..end,
        });
        start = end;
    }
    if start < text.len() {
        pieces.push(plain(text, start..text.len()));
    }
    pieces
}

fn plain(text: &str, range: Range<usize>) -> Piece<'_> {
    Piece {
        kind: Kind::Text(&text[range.clone()]),
        range,
    }
}

fn reference(inner: &str) -> Kind<'_> {
    match inner.split_once(':') {
        Some(("env", rest)) => {
            let (name, default) = match rest.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (rest, None),
            };
            if is_variable_name(name) {
                Kind::Environment { name, default }
            } else {
                Kind::Malformed
            }
        }
        Some(("file", path)) if !path.is_empty() => Kind::File(path),
        _ => Kind::Malformed,
    }
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A reference that leads nowhere. Holds no value of any variable or file.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    /// The reference as it stands in the string: `${env:NAME}`.
    pub(super) reference: String,
    pub(super) message: String,
    pub(super) help: String,
}

/// Replaces references by what they stand for.
pub(super) struct Interpolator<'a> {
    /// Where relative paths start.
    pub(super) directory: &'a Path,
    /// Looks up a variable.
    pub(super) environment: &'a dyn Fn(&str) -> Option<OsString>,
    /// Every file that was asked for, so that it can be watched.
    pub(super) files: Vec<PathBuf>,
}

impl Interpolator<'_> {
    /// The string with every reference replaced, or everything that is wrong with the references.
    pub(super) fn interpolate(&mut self, text: &str) -> Result<String, Vec<Fault>> {
        let mut result = String::new();
        let mut faults = Vec::new();
        for piece in pieces(text) {
            let resolved = match piece.kind {
                Kind::Text(text) => Ok(text.to_owned()),
                Kind::Environment { name, default } => self.variable(name, default),
                Kind::File(path) => self.file(path),
                Kind::Malformed => Err((
                    "this is no reference that witgate knows".into(),
                    "write `${env:NAME}`, `${env:NAME:-default}` or `${file:PATH}`, or `$${` for a literal `${`"
                        .into(),
                )),
                Kind::Unclosed => Err((
                    "`${` without a `}`".into(),
                    "close it, or write `$${` for a literal `${`".into(),
                )),
            };
            match resolved {
                Ok(text) => result.push_str(&text),
                Err((message, help)) => faults.push(Fault {
                    reference: text[piece.range].to_owned(),
                    message,
                    help,
                }),
            }
        }
        if faults.is_empty() {
            Ok(result)
        } else {
            Err(faults)
        }
    }

    fn variable(&self, name: &str, default: Option<&str>) -> Result<String, (String, String)> {
        match ((self.environment)(name), default) {
            (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
            (Some(value), _) => value.into_string().map_err(|_| {
                (
                    format!("the environment variable `{name}` is not UTF-8"),
                    "set it to text".into(),
                )
            }),
            (None, Some(default)) => Ok(default.to_owned()),
            (None, None) => Err((
                format!("the environment variable `{name}` is not set"),
                format!(
                    "set it before witgate starts, or give a default: `${{env:{name}:-default}}`"
                ),
            )),
        }
    }

    fn file(&mut self, path: &str) -> Result<String, (String, String)> {
        let full = self.directory.join(path);
        let read = read_text(&full, LARGEST_FILE);
        let looked_at = looked_at(&full);
        self.files.push(full);
        match read {
            Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => Err((format!("cannot read the file `{path}`: {error}"), looked_at)),
        }
    }
}

/// Why a text file could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("{}", describe(.0))]
    Io(std::io::Error),
    #[error("it holds more than {0} bytes")]
    TooLarge(u64),
    #[error("it is not UTF-8 from byte {0} on")]
    NotText(usize),
}

/// The system's words for an error, without the number that Rust adds.
pub(super) fn describe(error: &std::io::Error) -> String {
    let text = error.to_string().to_lowercase();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// Says where a path of the configuration led.
pub(super) fn looked_at(path: &Path) -> String {
    let path = path.display();
    format!("looked at {path}; a relative path starts at the configuration file's directory")
}

/// The text of a file of at most `limit` bytes.
pub(super) fn read_text(path: &Path, limit: u64) -> Result<String, ReadError> {
    let file = std::fs::File::open(path).map_err(ReadError::Io)?;
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(ReadError::Io)?;
    if bytes.len() as u64 > limit {
        return Err(ReadError::TooLarge(limit));
    }
    String::from_utf8(bytes).map_err(|error| ReadError::NotText(error.utf8_error().valid_up_to()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interpolate(directory: &Path, text: &str) -> Result<String, Vec<Fault>> {
        let environment = |name: &str| match name {
            "USER" => Some("ada".into()),
            "EMPTY" => Some(OsString::new()),
            _ => None,
        };
        Interpolator {
            directory,
            environment: &environment,
            files: Vec::new(),
        }
        .interpolate(text)
    }

    fn here(text: &str) -> Result<String, Vec<Fault>> {
        interpolate(Path::new("."), text)
    }

    fn one_fault(text: &str) -> Fault {
        let mut faults = here(text).expect_err("the text is faulty");
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults.remove(0)
    }

    #[test]
    fn a_variable_is_replaced_wherever_it_stands() {
        assert_eq!(
            here("a ${env:USER} b ${env:USER}").as_deref(),
            Ok("a ada b ada")
        );
        assert_eq!(
            here("no reference, $5, {}").as_deref(),
            Ok("no reference, $5, {}")
        );
    }

    #[test]
    fn a_default_serves_when_the_variable_is_unset_or_empty() {
        assert_eq!(here("${env:NONE:-x:-y}").as_deref(), Ok("x:-y"));
        assert_eq!(here("${env:EMPTY:-x}").as_deref(), Ok("x"));
        assert_eq!(here("${env:USER:-x}").as_deref(), Ok("ada"));
        assert_eq!(here("${env:NONE:-}").as_deref(), Ok(""));
        assert_eq!(here("${env:EMPTY}").as_deref(), Ok(""));
    }

    #[test]
    fn a_doubled_dollar_stands_for_one() {
        assert_eq!(
            here("$${env:USER} ${env:USER}").as_deref(),
            Ok("${env:USER} ada")
        );
    }

    #[test]
    fn a_file_is_read_beside_the_configuration_without_its_last_newline() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        std::fs::write(directory.path().join("token"), "s3 cret\n").expect("a written file");
        assert_eq!(
            interpolate(directory.path(), "Bearer ${file:token}").as_deref(),
            Ok("Bearer s3 cret")
        );
    }

    #[test]
    fn a_file_that_is_too_large_or_not_text_is_refused_without_a_word_of_it() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        std::fs::write(directory.path().join("large"), vec![b'x'; 65_537]).expect("a written file");
        std::fs::write(directory.path().join("binary"), b"s3cret\xff").expect("a written file");
        for (name, reason) in [
            ("large", "it holds more than 65536 bytes"),
            ("binary", "it is not UTF-8 from byte 6 on"),
        ] {
            let faults = interpolate(directory.path(), &format!("${{file:{name}}}"))
                .expect_err("the file is refused");
            assert_eq!(
                faults[0].message,
                format!("cannot read the file `{name}`: {reason}")
            );
            assert!(!format!("{faults:?}").contains("s3cret"));
        }
    }

    #[test]
    fn every_fault_of_a_string_is_reported_with_its_reference() {
        let faults = here("${env:A} ${env:B}").expect_err("neither is set");
        let references: Vec<_> = faults
            .iter()
            .map(|fault| fault.reference.as_str())
            .collect();
        assert_eq!(references, ["${env:A}", "${env:B}"]);
        assert_eq!(faults[1].message, "the environment variable `B` is not set");
    }

    #[test]
    fn anything_else_in_braces_is_refused() {
        for text in [
            "${}",
            "${HOME}",
            "${env:}",
            "${env:A-B}",
            "${env:1}",
            "${file:}",
            "${vault:x}",
        ] {
            assert_eq!(
                one_fault(text).message,
                "this is no reference that witgate knows",
                "{text}"
            );
        }
        assert_eq!(one_fault("a ${env:USER").reference, "${env:USER");
    }

    #[test]
    fn a_missing_file_is_named_with_the_path_that_was_tried() {
        let fault = one_fault("${file:missing/token}");
        assert_eq!(
            fault.message,
            "cannot read the file `missing/token`: no such file or directory"
        );
        assert!(
            fault.help.starts_with("looked at ./missing/token;"),
            "{fault:?}"
        );
    }
}
