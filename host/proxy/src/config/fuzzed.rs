//! Any text is a configuration, or a report that shows where it is none.

use std::ffi::OsString;
use std::path::Path;

use super::{Config, Document, Location, Problems};

/// What every variable of the environment holds here.
pub(super) const SECRET: &str = "correct-horse";

/// Reads any bytes as a configuration. One that names files is left alone: they would be read.
pub fn config(data: &[u8]) {
    match std::str::from_utf8(data) {
        Ok(text) if !text.contains("/dev") && !text.contains("/proc") => drop(survives(text)),
        _ => {}
    }
}

pub(super) fn read(text: &str) -> Result<(Config, Problems), Problems> {
    let environment = |_: &str| Some(OsString::from(SECRET));
    let document = Document::parse_with(Path::new("a.toml"), text, &environment)?;
    let reader = document.reader();
    let mut root = reader.root();
    let config = Config::read(&mut root);
    root.finish();
    reader.finish(config)
}

/// Reads the text, renders the report and looks for the secret in it; gives whether the text was valid.
pub(super) fn survives(text: &str) -> bool {
    let (valid, problems) = match read(text) {
        Ok((config, warnings)) => {
            // Elsewhere a variable holds an address or a name, which is no secret.
            assert!(!format!("{:?}", config.plugins).contains(SECRET) || text.contains(SECRET));
            (true, warnings)
        }
        Err(problems) => {
            assert!(problems.has_errors(), "a refusal without a reason:\n{text}");
            (false, problems)
        }
    };
    for problem in problems.iter() {
        is_within(&problem.location, text);
        if let Some((location, _)) = &problem.related {
            is_within(location, text);
        }
    }
    for color in [false, true] {
        let report = problems.render(color);
        assert!(
            !report.contains(SECRET) || text.contains(SECRET),
            "{problems}"
        );
    }
    valid
}

fn is_within(location: &Location, text: &str) {
    let Some(span) = location.span() else {
        return;
    };
    assert!(
        text.get(span.clone()).is_some(),
        "{span:?} is not in:\n{text}"
    );
    let line = location.line().expect("what has a span has a line");
    let line = text
        .split('\n')
        .nth(line - 1)
        .expect("the line is in the file");
    let column = location.column().expect("what has a span has a column");
    assert!(
        column <= line.chars().count() + 1,
        "column {column} of {line:?}"
    );
}
