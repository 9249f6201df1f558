//! A report in the XML of JUnit, which CI systems and editors read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::Ran;

/// The report: a suite for each file.
pub(crate) fn report(ran: &[Ran]) -> String {
    let mut files: BTreeMap<&Path, Vec<&Ran>> = BTreeMap::new();
    for one in ran {
        files.entry(&one.file).or_default().push(one);
    }
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for (file, ran) in files {
        suite(&mut xml, file, &ran).expect("a String takes all that is written");
    }
    xml + "</testsuites>\n"
}

fn suite(xml: &mut String, file: &Path, ran: &[&Ran]) -> std::fmt::Result {
    let file = escaped(&file.display().to_string());
    let failed = ran.iter().filter(|one| !one.outcome.failures.is_empty());
    writeln!(
        xml,
        "  <testsuite name=\"{file}\" tests=\"{}\" failures=\"{}\" errors=\"0\">",
        ran.len(),
        failed.count()
    )?;
    for one in ran {
        write!(
            xml,
            "    <testcase name=\"{}\" classname=\"{file}\" time=\"{:.6}\"",
            escaped(&one.name),
            one.took.as_secs_f64()
        )?;
        let outcome = &one.outcome;
        if outcome.failures.is_empty() {
            writeln!(xml, "/>")?;
            continue;
        }
        let first = outcome.failures[0].lines().next().unwrap_or_default();
        writeln!(xml, ">")?;
        writeln!(
            xml,
            "      <failure message=\"{}\">{}\n{}</failure>",
            escaped(first),
            escaped(&one.place),
            escaped(&outcome.failures.join("\n"))
        )?;
        if !outcome.log.is_empty() {
            let log = escaped(&outcome.log.join("\n"));
            writeln!(xml, "      <system-out>{log}</system-out>")?;
        }
        writeln!(xml, "    </testcase>")?;
    }
    writeln!(xml, "  </testsuite>")
}

/// Text as XML 1.0 takes it, in attributes as well: what that has no character for is left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(character),
            '\u{fffe}' | '\u{ffff}' => {}
            _ if character.is_control() => {}
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::run::Outcome;
    use super::*;

    #[test]
    fn tests_are_grouped_by_file_and_failures_told_in_legal_xml() {
        let ran = |name: &str, failures: Vec<String>| Ran {
            place: "a.test.toml:3".into(),
            file: "a.test.toml".into(),
            name: name.into(),
            outcome: Outcome {
                failures,
                cost: 7,
                log: vec!["INFO <here>".into()],
            },
            took: Duration::from_millis(2),
        };
        let report = report(&[
            ran("one", Vec::new()),
            ran("\"two\"", vec!["a & b\u{1}\n- c".into()]),
        ]);
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  \
            <testsuite name=\"a.test.toml\" tests=\"2\" failures=\"1\" errors=\"0\">\n    \
            <testcase name=\"one\" classname=\"a.test.toml\" time=\"0.002000\"/>\n    \
            <testcase name=\"&quot;two&quot;\" classname=\"a.test.toml\" time=\"0.002000\">\n      \
            <failure message=\"a &amp; b\">a.test.toml:3\na &amp; b\n- c</failure>\n      \
            <system-out>INFO &lt;here&gt;</system-out>\n    </testcase>\n  </testsuite>\n</testsuites>\n";
        assert_eq!(report, expected);
    }
}
