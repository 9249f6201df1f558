//! Differences as people read them.

use std::fmt::Write as _;

use http::HeaderMap;
use similar::{ChangeTag, TextDiff};

/// The lines of two texts: those of both behind two spaces, those of `expected` alone behind `-`, those of `found` alone
/// behind `+`. Ends in a newline unless both are empty.
pub fn diff(expected: &str, found: &str) -> String {
    let lines = TextDiff::from_lines(expected, found);
    let mut text = String::new();
    for change in lines.iter_all_changes() {
        let sign = match change.tag() {
            ChangeTag::Equal => ' ',
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
        };
        let line = change.value().trim_end_matches(['\n', '\r']);
        writeln!(text, "{sign} {line}").expect("a String takes all that is written");
    }
    text
}

/// A message as people read it: `GET /path`, or a status; then its header fields, by name; then its body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// The first line.
    pub first: String,
    /// Name and value of each field, in lower case and in order of the names.
    pub fields: Vec<(String, String)>,
    /// The body, when it matters.
    pub body: Option<String>,
}

impl Head {
    /// Of these header fields. What is not UTF-8 in a value is replaced.
    pub fn new(first: impl Into<String>, headers: &HeaderMap) -> Self {
        let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        };
        let mut fields: Vec<_> = headers.iter().map(field).collect();
        // Stable: values of one name keep their order.
        fields.sort_by(|(one, _), (other, _)| one.cmp(other));
        Self {
            first: first.into(),
            fields,
            body: None,
        }
    }

    /// All values of a field.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let values = self.fields.iter().filter(|(other, _)| other == name);
        values.map(|(_, value)| value.as_str()).collect()
    }

    /// Replaces all values of a field; by none, it is gone.
    pub fn set(&mut self, name: &str, values: &[String]) {
        self.fields.retain(|(other, _)| other != name);
        let at = self
            .fields
            .partition_point(|(other, _)| other.as_str() < name);
        let new = values.iter().map(|value| (name.to_owned(), value.clone()));
        self.fields.splice(at..at, new);
    }
}

impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.first)?;
        for (name, value) in &self.fields {
            writeln!(f, "{name}: {value}")?;
        }
        match self.body.as_deref() {
            None | Some("") => Ok(()),
            Some(body) => writeln!(f, "\n{}", body.trim_end_matches('\n')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_stand_once_and_others_behind_a_sign() {
        assert_eq!(diff("a\nb\n", "a\nc\n"), "  a\n- b\n+ c\n");
        assert_eq!(diff("", ""), "");
    }

    #[test]
    fn fields_are_shown_by_name_and_replaced_in_place() {
        let mut headers = HeaderMap::new();
        headers.append("x-b", "1".parse().expect("a value"));
        headers.append("x-b", "0".parse().expect("a value"));
        headers.append("a", "2".parse().expect("a value"));
        let mut head = Head::new("GET /", &headers);
        assert_eq!(head.to_string(), "GET /\na: 2\nx-b: 1\nx-b: 0\n");
        head.set("x-b", &["3".into()]);
        head.set("a", &[]);
        head.set("m", &["4".into()]);
        head.body = Some("text".into());
        assert_eq!(head.to_string(), "GET /\nm: 4\nx-b: 3\n\ntext\n");
    }
}
