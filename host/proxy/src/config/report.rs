//! Draws problems the way rustc draws its diagnostics.

use annotate_snippets::{
    AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str,
};

use super::Location;
use super::problem::{Problem, Problems, Severity};

pub(super) fn render(problems: &Problems, color: bool) -> String {
    if problems.is_empty() {
        return String::new();
    }
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let mut sorted: Vec<&Problem> = problems.iter().collect();
    sorted.sort_by_key(|problem| problem.location.span().map(|span| span.start));
    let mut report = String::new();
    for problem in sorted {
        report.push_str(&renderer.render(&[draw(problem)]));
        report.push_str("\n\n");
    }
    report.push_str(&renderer.render(&[summary(problems)]));
    report.push('\n');
    report
}

fn draw(problem: &Problem) -> Group<'_> {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(&problem.message));
    group = match first_line(&problem.location) {
        None => group.element(Origin::path(problem.location.file())),
        Some(span) => {
            let source = problem.location.source();
            let key = (problem.key != problem.location.text())
                .then(|| normalize_untrusted_str(&problem.key));
            let mut snippet = Snippet::source(source.text.as_str())
                .path(source.name.as_str())
                .annotation(AnnotationKind::Primary.span(span).label(key));
            if let Some((location, words)) = &problem.related
                && let Some(span) = first_line(location)
            {
                let words = normalize_untrusted_str(words);
                snippet = snippet.annotation(AnnotationKind::Context.span(span).label(words));
            }
            group.element(snippet)
        }
    };
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(normalize_untrusted_str(help)));
    }
    if let Some(note) = &problem.note {
        group = group.element(Level::NOTE.message(normalize_untrusted_str(note)));
    }
    group
}

/// The part of a location's span on its first line: a caret under twenty lines of a list helps nobody.
fn first_line(location: &Location) -> Option<std::ops::Range<usize>> {
    let span = location.span()?;
    let length = location.text().find(['\r', '\n']);
    Some(span.start..length.map_or(span.end, |length| span.start + length))
}

fn summary(problems: &Problems) -> Group<'static> {
    let errors = problems.count(Severity::Error);
    let warnings = problems.count(Severity::Warning);
    let file = problems.file();
    let title = match (errors, warnings) {
        (0, _) => Level::WARNING.primary_title(format!("{} in {file}", count(warnings, "warning"))),
        (_, 0) => Level::ERROR.primary_title(format!(
            "{} in {file}; {}",
            count(errors, "problem"),
            problems.outcome()
        )),
        _ => Level::ERROR.primary_title(format!(
            "{} and {} in {file}; {}",
            count(errors, "problem"),
            count(warnings, "warning"),
            problems.outcome()
        )),
    };
    Group::with_title(title)
}

fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::location::Source;
    use super::*;

    fn two() -> Problems {
        let source = Arc::new(Source::new(
            "a.toml".into(),
            "one = 1\ntwo = [\n  2,\n]\n".into(),
        ));
        let mut problems = Problems::new("a.toml");
        let list = Location::new(&source, 14..22);
        problems.add(Problem::error(list, "two", "second").with_help("write 2"));
        let one = Location::new(&source, 6..7);
        problems.add(Problem::warning(one, "one", "first\u{1b}[31m"));
        problems
    }

    #[test]
    fn problems_are_drawn_in_file_order_with_line_and_key() {
        let report = two().render(false);
        let expected = "\
warning: first␛[31m
 --> a.toml:1:7
  |
1 | one = 1
  |       ^ one

error: second
 --> a.toml:2:7
  |
2 | two = [
  |       ^ two
  |
  = help: write 2

error: 1 problem and 1 warning in a.toml; nothing was started
";
        assert_eq!(report, expected);
    }

    #[test]
    fn colours_come_only_when_asked_for() {
        assert!(two().render(true).contains("\u{1b}["));
        assert!(!two().render(false).contains('\u{1b}'));
    }

    #[test]
    fn a_file_as_a_whole_is_named_without_a_line() {
        let mut problems = Problems::new("a.toml");
        problems.add(Problem::error(
            Location::of_file("a.toml"),
            "",
            "cannot be read",
        ));
        problems.set_outcome("the old configuration serves on");
        assert_eq!(
            problems.to_string(),
            "error: cannot be read\n--> a.toml\n\n\
             error: 1 problem in a.toml; the old configuration serves on\n"
        );
    }

    #[test]
    fn no_problem_is_an_empty_report() {
        assert_eq!(Problems::new("a.toml").render(true), "");
    }
}
