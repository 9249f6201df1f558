//! Keeps secrets that stand in the configuration file itself out of reports, which end up in logs.
//!
//! A report shows the line that a problem is on. A value written there instead of `${env:…}` or `${file:…}` would be
//! shown with it, so the strings of keys that by their name hold secrets are overwritten first.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::interpolate::{Kind, pieces};

/// A key that holds one of these holds a secret, and so does all below it.
const SECRET_WORDS: [&str; 9] = [
    "api-key",
    "authorization",
    "cookie",
    "credential",
    "passphrase",
    "password",
    "private-key",
    "secret",
    "token",
];

/// A key that ends so says where a secret is, or whose, and not what it is.
const HARMLESS_ENDINGS: [&str; 4] = ["name", "file", "path", "header"];

/// Tables whose keys are names that the operator chose.
const TABLES_OF_NAMES: [&str; 3] = ["keyvalue", "plugin", "upstream"];

/// The text, equally long in bytes and in characters, with each secret in it overwritten; references and quotation marks
/// stay.
pub(super) fn overwritten(text: &str, root: &DeTable<'_>) -> String {
    let mut secrets = Vec::new();
    for (key, value) in root {
        match value.get_ref() {
            DeValue::Table(named) if TABLES_OF_NAMES.contains(&key.get_ref().as_ref()) => {
                for value in named.values() {
                    collect(value.get_ref(), value.span(), false, &mut secrets);
                }
            }
            value_below => {
                let secret = is_secret(key.get_ref());
                collect(value_below, value.span(), secret, &mut secrets);
            }
        }
    }
    let mut bytes = text.as_bytes().to_vec();
    for span in secrets {
        overwrite(&mut bytes, text, span);
    }
    String::from_utf8(bytes).expect("whole characters were replaced by some as long")
}

/// The same for text that is no TOML and so has no keys to go by: on each line that seems to hold a secret, everything
/// from the first quotation mark on is overwritten.
pub(super) fn overwritten_by_line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let suspicious = is_secret(line) || line.contains("value");
        let start = match line.find(['"', '\'']) {
            Some(quotation) if suspicious && !line.trim_start().starts_with('#') => quotation,
            _ => line.len(),
        };
        shown.push_str(&line[..start]);
        for character in line[start..].chars() {
            match character {
                '\n' | '\r' | '"' | '\'' | ' ' | ',' | '=' | '{' | '}' | '[' | ']' => {
                    shown.push(character)
                }
                _ => shown.push(mask(character)),
            }
        }
    }
    shown
}

fn collect(value: &DeValue<'_>, span: Range<usize>, secret: bool, secrets: &mut Vec<Range<usize>>) {
    match value {
        DeValue::String(_) if secret => secrets.push(span),
        DeValue::Array(items) => {
            for item in items.iter() {
                collect(item.get_ref(), item.span(), secret, secrets);
            }
        }
        DeValue::Table(table) => {
            for (key, value) in table {
                let key = key.get_ref().to_lowercase();
                let harmless = HARMLESS_ENDINGS.iter().any(|ending| key.ends_with(ending));
                let secret = !harmless && (secret || is_secret(&key));
                collect(value.get_ref(), value.span(), secret, secrets);
            }
        }
        _ => {}
    }
}

pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase().replace('_', "-");
    SECRET_WORDS.iter().any(|word| key.contains(word))
}

fn overwrite(bytes: &mut [u8], text: &str, span: Range<usize>) {
    let Some(literal) = text.get(span.clone()) else {
        return;
    };
    let marks = |mark: char| mark == '"' || mark == '\'';
    let inner_start = span.start + (literal.len() - literal.trim_start_matches(marks).len());
    let inner = literal.trim_matches(marks);
    let pieces = pieces(inner);
    // A string that is nothing but a reference of an unknown kind was meant as one.
    let alone = pieces.len() == 1;
    for piece in pieces {
        let hidden = match piece.kind {
            Kind::Malformed if alone => continue,
            Kind::Text(_) | Kind::Unclosed | Kind::Malformed => piece.range,
            Kind::Environment {
                default: Some(default),
                ..
            } => piece.range.end - 1 - default.len()..piece.range.end - 1,
            Kind::Environment { default: None, .. } | Kind::File(_) => continue,
        };
        let start = inner_start + hidden.start;
        for (at, character) in text[start..inner_start + hidden.end].char_indices() {
            if character != '\n' && character != '\r' {
                mask(character).encode_utf8(&mut bytes[start + at..]);
            }
        }
    }
}

/// Takes as many bytes as what it hides, so that everything behind it keeps its place.
fn mask(hidden: char) -> char {
    match hidden.len_utf8() {
        1 => '*',
        2 => '·',
        3 => '•',
        _ => '🞶',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let (root, errors) = DeTable::parse_recoverable(text);
        assert!(errors.is_empty(), "{errors:?}");
        overwritten(text, root.get_ref())
    }

    #[test]
    fn a_secret_written_into_the_file_is_overwritten_and_its_name_is_not() {
        assert_eq!(
            shown("[plugin.a]\nconfig.tokens = [{ name = \"box\", value = \"gehéim\" }]"),
            "[plugin.a]\nconfig.tokens = [{ name = \"box\", value = \"***·**\" }]"
        );
        assert_eq!(
            shown("[[route]]\nheaders = { Authorization = 'Bearer x' }"),
            "[[route]]\nheaders = { Authorization = '********' }"
        );
        assert_eq!(
            shown("password = \"\"\"a\nb\"\"\""),
            "password = \"\"\"*\n*\"\"\""
        );
    }

    #[test]
    fn references_stay_readable_and_their_defaults_do_not() {
        assert_eq!(
            shown("token = \"x${env:TOKEN:-abc}${file:secret}\""),
            "token = \"*${env:TOKEN:-***}${file:secret}\""
        );
        assert_eq!(shown("token = '${vault:x}'"), "token = '${vault:x}'");
        assert_eq!(shown("token = 'a${vault:x}'"), "token = '***********'");
    }

    #[test]
    fn what_stands_behind_a_secret_keeps_its_place_in_bytes_and_in_characters() {
        let hidden = "token = \"*·•🞶\" x";
        let text = "token = \"aäあ😀\" x";
        assert_eq!(overwritten_by_line(text), "token = \"*·•🞶\" *");
        assert_eq!(shown("token = \"aäあ😀\""), hidden[..hidden.len() - 2]);
    }

    #[test]
    fn lines_that_are_no_toml_are_overwritten_when_they_seem_to_hold_a_secret() {
        let text = "a = 'b\n{ name = \"x\", value = \"sé\" \ntoken = [\n# token \"x\"\n";
        let expected = "a = 'b\n{ name = \"*\", ***** = \"*·\" \ntoken = [\n# token \"x\"\n";
        assert_eq!(overwritten_by_line(text), expected);
    }

    #[test]
    fn other_values_and_plugins_named_after_secrets_stay() {
        for text in [
            "[plugin.token]\ncomponent = \"builtin:bearer-auth\"",
            "[chrome]\ntoken-file = \"state/token\"",
            "[upstream.cookie]\nendpoints = [\"http://a\"]",
            "tokens = 3",
        ] {
            assert_eq!(shown(text), text);
        }
    }
}
