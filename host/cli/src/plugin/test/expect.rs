//! What became of an exchange, beside what was expected of it.

use witgate_testkit::{ConfigError, Exchange, Head};

use super::case::{Expect, Expected};
use super::run::{Became, difference, fate, sender, shown_message};

/// How the body of a reply is shown that is a file.
pub(super) fn file(path: &str) -> String {
    format!("(the file {path})")
}

/// How a body is shown: text as it is, and what is none in hex, 32 bytes on a line.
pub(super) fn body(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let lines = bytes.chunks(32).map(|line| format!("{}\n", hex(line)));
            let lines: String = lines.collect();
            format!("({} bytes, in hex)\n{lines}", bytes.len())
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Everything that is other than expected, but for what the plugin logged and used up.
pub(super) fn differences(expect: &Expect, became: &Became, exchange: &Exchange) -> Vec<String> {
    let mut found = Vec::new();
    match (&expect.failure, &became.failure) {
        (None, None) => {}
        (None, Some(failure)) => return vec![failure.clone()],
        (Some(part), Some(failure)) if failure.contains(part.as_str()) => {}
        (Some(part), Some(failure)) => {
            found.push(format!(
                "expected a failure with {part:?}; found: {failure}"
            ));
        }
        (Some(part), None) => found.push(format!(
            "expected a failure with {part:?}; the plugin did not fail"
        )),
    }
    if let Some(expected) = &expect.request {
        found.extend(verdict("request", expected, became.request_verdict));
        let overlaid = overlaid(expected, &became.request, true);
        found.extend(heads(
            "the request as the upstream gets it",
            &overlaid,
            &became.request,
        ));
    }
    match (&expect.reply, &became.reply) {
        (None, None) => {}
        (Some(expected), Some(reply)) => {
            found.extend(heads("the reply", &overlaid(expected, reply, false), reply));
        }
        (Some(_), None) => {
            found.push("expected a reply of the plugin; it let the exchange pass".into());
        }
        (None, Some(reply)) => found.push(format!(
            "the plugin answered itself, which the test does not expect (`expect.reply`):\n{}",
            indented(&reply.to_string())
        )),
    }
    if let (Some(expected), Some(response)) = (&expect.response, &became.response) {
        found.extend(verdict("response", expected, became.response_verdict));
        let overlaid = overlaid(expected, response, false);
        found.extend(heads(
            "the response as the client gets it",
            &overlaid,
            response,
        ));
    }
    for (sent, became) in &became.messages {
        let expected = sent.expect.as_ref().map_or(became.clone(), fate);
        let what = format!(
            "a message of the {}, {},",
            sender(sent.direction),
            shown_message(&sent.message)
        );
        found.extend(difference(&what, &expected, became));
    }
    let attributes: Vec<_> = expect
        .attributes
        .iter()
        .map(|(name, _)| (name.clone(), exchange.attribute(name)))
        .collect();
    found.extend(pairs("the attributes", &expect.attributes, &attributes));
    found
}

fn verdict(phase: &str, expected: &Expected, found: &str) -> Option<String> {
    let expected = expected.verdict.filter(|expected| *expected != found)?;
    Some(format!(
        "expected the verdict {expected} of the {phase}; found {found}"
    ))
}

/// What is expected, in a message that is otherwise the one that was found.
fn overlaid(expected: &Expected, found: &Head, is_request: bool) -> Head {
    let mut head = found.clone();
    if let Some(path) = &expected.path {
        let method = head.first.split(' ').next().unwrap_or_default();
        head.first = format!("{method} {path}");
    }
    if let (Some(status), false) = (expected.status, is_request) {
        head.first = status.as_str().to_owned();
    }
    if let Some(authority) = &expected.authority {
        head.set("host", std::slice::from_ref(authority));
    }
    for (name, values) in &expected.headers {
        head.set(name, values);
    }
    if let Some(bytes) = &expected.body {
        head.body = Some(body(bytes));
    }
    if let Some(path) = &expected.file {
        head.body = Some(file(path));
    }
    head
}

fn heads(what: &str, expected: &Head, found: &Head) -> Option<String> {
    if expected == found {
        return None;
    }
    let shown = difference(what, &expected.to_string(), &found.to_string());
    // Bodies that differ in how they end look the same.
    Some(shown.unwrap_or_else(|| {
        format!(
            "{what} is not as expected: its body is {:?}, and {:?} was expected",
            found.body.as_deref().unwrap_or_default(),
            expected.body.as_deref().unwrap_or_default()
        )
    }))
}

/// Names and values, `None` for what is not there.
pub(super) fn pairs(
    what: &str,
    expected: &[(String, Option<String>)],
    found: &[(String, Option<String>)],
) -> Vec<String> {
    let lines = |pairs: &[(String, Option<String>)]| -> String {
        let there = pairs
            .iter()
            .filter_map(|(name, value)| Some(format!("{name} = {:?}\n", value.as_ref()?)));
        there.collect()
    };
    let sentence = difference(what, &lines(expected), &lines(found));
    sentence.into_iter().collect()
}

/// Words that no line holds.
pub(super) fn log(expected: &[String], lines: &[String]) -> Vec<String> {
    let missing = expected
        .iter()
        .filter(|words| !lines.iter().any(|line| line.contains(words.as_str())));
    missing
        .map(|words| format!("no line of the log holds {words:?}"))
        .collect()
}

pub(super) fn cost(most: Option<u64>, cost: u64) -> Option<String> {
    let most = most.filter(|most| cost > *most)?;
    Some(format!(
        "its hooks cost {cost} of fuel, and `expect.cost` allows {most}"
    ))
}

/// Mistakes in a configuration: each expected one has to be found, and no other.
pub(super) fn mistakes(expected: &[(String, String)], found: &[ConfigError]) -> Vec<String> {
    let is_of = |mistake: &ConfigError, (path, words): &(String, String)| {
        mistake.path == *path && mistake.message.contains(words.as_str())
    };
    let missing = expected
        .iter()
        .filter(|expected| !found.iter().any(|mistake| is_of(mistake, expected)))
        .map(|(path, words)| format!("- {path}: {words}\n"));
    let more = found
        .iter()
        .filter(|mistake| !expected.iter().any(|expected| is_of(mistake, expected)))
        .map(|mistake| format!("+ {}: {}\n", mistake.path, mistake.message));
    let lines: String = missing.chain(more).collect();
    match lines.is_empty() {
        true => Vec::new(),
        false => vec![format!(
            "what the plugin has against the configuration is not as expected:\n{lines}"
        )],
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
