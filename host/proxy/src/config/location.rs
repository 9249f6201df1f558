//! Where something stands in a configuration file.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A configuration file as reports show it.
pub(super) struct Source {
    /// The path as the operator gave it.
    pub(super) name: String,
    /// The text, as long as the original, with every secret written into it overwritten by asterisks.
    pub(super) text: String,
    /// Byte offset of each line's first character.
    line_starts: Vec<usize>,
}

impl Source {
    pub(super) fn new(name: String, text: String) -> Self {
        let line_starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self {
            name,
            text,
            line_starts,
        }
    }

    /// How many lines there are; a newline at the end starts an empty one.
    pub(super) fn lines(&self) -> usize {
        self.line_starts.len()
    }

    /// Byte offset of a line, counted from 1. The line has to exist.
    pub(super) fn line_start(&self, line: usize) -> usize {
        self.line_starts[line - 1]
    }

    /// The text of a line, counted from 1; empty when there is none.
    pub(super) fn line(&self, line: usize) -> &str {
        self.text
            .split('\n')
            .nth(line.wrapping_sub(1))
            .unwrap_or_default()
    }

    /// Line and column of a byte offset, both from 1, the column in characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let line_start = self.line_starts[line - 1];
        let column = self
            .text
            .get(line_start..offset)
            .map_or(offset - line_start, |before| before.chars().count());
        (line, column + 1)
    }
}

/// A place in a configuration file: the file, and mostly a span of its text. Cheap to clone.
///
/// Displays as `witgate.toml:12:3`, or as the file's name alone.
#[derive(Clone)]
pub struct Location {
    source: Arc<Source>,
    span: Option<Range<usize>>,
}

impl Location {
    /// The file as a whole, for what has no line: a file that cannot be read, a table that is not there.
    pub fn of_file(name: impl Into<String>) -> Self {
        Self::whole(&Arc::new(Source::new(name.into(), String::new())))
    }

    /// The text of the file, secrets that are written into it overwritten.
    pub(super) fn file_text(&self) -> &str {
        &self.source.text
    }

    pub(super) fn whole(source: &Arc<Source>) -> Self {
        Self {
            source: source.clone(),
            span: None,
        }
    }

    /// `span` is clamped to the text.
    pub(super) fn new(source: &Arc<Source>, span: Range<usize>) -> Self {
        let end = span.end.min(source.text.len());
        Self {
            source: source.clone(),
            span: Some(span.start.min(end)..end),
        }
    }

    /// The file's path, as the operator gave it.
    pub fn file(&self) -> &str {
        &self.source.name
    }

    /// From 1; `None` for the file as a whole.
    pub fn line(&self) -> Option<usize> {
        Some(self.source.position(self.span.as_ref()?.start).0)
    }

    /// From 1, in characters; `None` for the file as a whole.
    pub fn column(&self) -> Option<usize> {
        Some(self.source.position(self.span.as_ref()?.start).1)
    }

    /// Bytes of the file's text; `None` for the file as a whole.
    pub fn span(&self) -> Option<Range<usize>> {
        self.span.clone()
    }

    pub(super) fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// The text at this place, secrets overwritten. Empty for the file as a whole.
    pub(super) fn text(&self) -> &str {
        self.span
            .clone()
            .and_then(|span| self.source.text.get(span))
            .unwrap_or_default()
    }
}

/// Two locations are equal when they are the same span of a file of the same name.
impl PartialEq for Location {
    fn eq(&self, other: &Self) -> bool {
        self.source.name == other.source.name && self.span == other.span
    }
}

impl Eq for Location {}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.file())?;
        if let (Some(line), Some(column)) = (self.line(), self.column()) {
            write!(formatter, ":{line}:{column}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, offset: usize) -> String {
        let source = Arc::new(Source::new("a.toml".into(), text.into()));
        Location::new(&source, offset..offset).to_string()
    }

    #[test]
    fn lines_and_columns_count_from_one() {
        assert_eq!(at("ab\ncd\n", 0), "a.toml:1:1");
        assert_eq!(at("ab\ncd\n", 4), "a.toml:2:2");
    }

    #[test]
    fn columns_count_characters_and_not_bytes() {
        assert_eq!(at("\n\"ä\" = 1", 5), "a.toml:2:4");
    }

    #[test]
    fn a_span_beyond_the_end_is_clamped_to_it() {
        assert_eq!(at("ab\n", 99), "a.toml:2:1");
        assert_eq!(at("", 0), "a.toml:1:1");
    }

    #[test]
    fn a_file_as_a_whole_has_no_line() {
        let location = Location::of_file("a.toml");
        assert_eq!(location.to_string(), "a.toml");
        assert_eq!(location.line(), None);
    }
}
