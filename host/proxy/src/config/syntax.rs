//! The parser's errors, in words that say what to do.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::location::Source;
use super::{Location, Problem};

/// All syntax errors, in file order, without those that only follow from another one.
///
/// An error puts the parser out of step and more follow on the same line, so one is kept per line. A table that stands
/// twice makes every key of it stand twice, so these are left out.
pub(super) fn problems(source: &Arc<Source>, errors: &[toml::de::Error]) -> Vec<Problem> {
    let mut errors: Vec<_> = errors
        .iter()
        .map(|error| {
            let location = match error.span() {
                Some(span) => Location::new(source, span),
                None => Location::whole(source),
            };
            (location, error.message())
        })
        .collect();
    errors.sort_by_key(|(location, _)| location.span().map(|span| span.start));
    let mut seen = BTreeSet::new();
    let mut repeated_table_until = 0;
    let mut problems = Vec::new();
    for (location, message) in errors {
        let line = location.line().unwrap_or(0);
        if !seen.insert(line) {
            continue;
        }
        if message == "duplicate key" {
            if line < repeated_table_until {
                continue;
            }
            if is_header(source.line(line)) {
                repeated_table_until = next_header(source, line);
            }
        }
        problems.push(describe(source, location, message));
    }
    problems
}

fn describe(source: &Arc<Source>, location: Location, message: &str) -> Problem {
    let text = location.text();
    let say =
        |message: &str, help: String| Problem::error(location.clone(), "", message).with_help(help);
    match message {
        "duplicate key" => {
            let problem = say(
                &format!("`{text}` stands twice"),
                "leave one out, or put the two together".into(),
            );
            match first_occurrence(source, &location) {
                Some(first) => problem.with_related(first, "it stands here first"),
                None => problem,
            }
        }
        "string values must be quoted, expected literal string" if text.is_empty() => say(
            "a value is missing",
            "write one behind the `=`, or take the line out".into(),
        ),
        "string values must be quoted, expected literal string" => say(
            "a string stands in quotation marks",
            format!("write \"{text}\""),
        ),
        "invalid basic string, expected `\"`" => say(
            "the string has no end on its line",
            "close it with `\"`".into(),
        ),
        "invalid literal string, expected `'`" => say(
            "the string has no end on its line",
            "close it with `'`".into(),
        ),
        _ => match message.split_once(", expected ") {
            Some((message, expected)) => say(message, format!("expected {expected}")),
            None => Problem::error(location, "", message),
        },
    }
}

fn is_header(line: &str) -> bool {
    line.trim_start().starts_with('[')
}

/// The number of the first line after `line` that holds a header, or one past the last line.
fn next_header(source: &Source, line: usize) -> usize {
    (line + 1..=source.lines())
        .find(|line| is_header(source.line(*line)))
        .unwrap_or(source.lines() + 1)
}

/// The line on which a repeated table or key stands first, going by the text: the parser does not tell.
fn first_occurrence(source: &Arc<Source>, repeated: &Location) -> Option<Location> {
    let line = repeated.line()?;
    let text = source.line(line).trim();
    let key = repeated.text();
    let earlier = if is_header(text) {
        (1..line).find(|line| source.line(*line).trim() == text)
    } else {
        (1..line)
            .rev()
            .take_while(|line| !is_header(source.line(*line)))
            .find(|line| {
                let rest = source.line(*line).trim_start().strip_prefix(key);
                rest.is_some_and(|rest| rest.trim_start().starts_with('='))
            })
    }?;
    let (start, content) = (source.line_start(earlier), source.line(earlier));
    let indent = content.len() - content.trim_start().len();
    let length = if is_header(text) {
        text.len()
    } else {
        key.len()
    };
    Some(Location::new(
        source,
        start + indent..start + indent + length,
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Document;

    fn problems(text: &str) -> Vec<String> {
        Document::parse_with(Path::new("a.toml"), text, &|_| None)
            .expect_err("the text is no TOML")
            .iter()
            .map(|problem| {
                let related = problem
                    .related
                    .as_ref()
                    .map(|(location, _)| format!(" ({location})"));
                format!(
                    "{} {}{}",
                    problem.location,
                    problem.message,
                    related.unwrap_or_default()
                )
            })
            .collect()
    }

    #[test]
    fn all_syntax_errors_are_found_at_once_and_one_is_kept_per_line() {
        assert_eq!(
            problems("a = \nb = x y\nc = 'z\nd = \"z\n"),
            [
                "a.toml:1:5 a value is missing",
                "a.toml:2:5 a string stands in quotation marks",
                "a.toml:3:7 the string has no end on its line",
                "a.toml:4:7 the string has no end on its line",
            ]
        );
    }

    #[test]
    fn a_key_that_stands_twice_is_reported_with_its_first_place() {
        assert_eq!(
            problems("b = 1\n[a]\n b = 1\nb = 2\n"),
            ["a.toml:4:1 `b` stands twice (a.toml:3:2)"]
        );
    }

    #[test]
    fn a_table_that_stands_twice_is_reported_once_and_not_for_each_of_its_keys() {
        assert_eq!(
            problems("[a]\nb = 1\n[a]\nb = 1\n[c]\nd = 1\nd = 2"),
            [
                "a.toml:3:2 `a` stands twice (a.toml:1:1)",
                "a.toml:7:1 `d` stands twice (a.toml:6:1)"
            ]
        );
    }
}
