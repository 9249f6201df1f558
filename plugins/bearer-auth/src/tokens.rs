//! The tokens that are configured, and the comparison with one that was presented.

use std::fmt;

use serde::Deserialize;
use subtle::{Choice, ConstantTimeEq};
use witgate_plugin::{ConfigErrors, ConfigSchema};

use crate::credentials::is_token68;

/// One entry of `tokens`.
#[derive(Deserialize, ConfigSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenConfig {
    /// What it is called in the log.
    name: String,
    /// The token itself.
    value: String,
}

impl fmt::Debug for TokenConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenConfig")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The tokens that let a request pass. Each is kept in as much room as the longest one takes, so that a comparison tells
/// nothing of a token's length.
pub(crate) struct Tokens {
    list: Vec<Token>,
    /// Words of each.
    room: usize,
}

struct Token {
    name: String,
    value: Padded,
}

/// A token in words of eight bytes, zeros behind it: what differs, differs in all of them at once.
struct Padded {
    words: Vec<u64>,
    length: u64,
}

/// The room is a multiple of so many words, so that how long a comparison takes tells little of the longest token either.
const WORDS: usize = 8;

impl Padded {
    /// What does not fit is left out, and its length tells it from all that do.
    fn new(token: &str, room: usize) -> Self {
        let mut words = vec![0; room];
        for (word, bytes) in words.iter_mut().zip(token.as_bytes().chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(padded);
        }
        Self {
            words,
            length: token.len() as u64,
        }
    }
}

impl ConstantTimeEq for Padded {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.words.ct_eq(&other.words) & self.length.ct_eq(&other.length)
    }
}

impl Tokens {
    /// Checks the list. An entry with an empty value is left out: a variable that is not set must not let in a client
    /// that sends nothing.
    pub(crate) fn new(config: Vec<TokenConfig>) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let mut names: Vec<&str> = Vec::new();
        let mut values: Vec<Option<&str>> = Vec::new();
        for (i, TokenConfig { name, value }) in config.iter().enumerate() {
            if !is_name(name) {
                errors.push(
                    format!("tokens.{i}.name"),
                    "must be 1 to 64 letters, digits, `-`, `_` or `.`",
                );
            }
            if let Some(first) = names.iter().position(|earlier| earlier == name) {
                errors.push(
                    format!("tokens.{i}.name"),
                    format!("is the name of `tokens.{first}` too"),
                );
            }
            names.push(name);
            // Files that hold a secret mostly end in a line break.
            let value = value.trim_end_matches(['\r', '\n']);
            if !value.is_empty() && !is_token68(value) {
                errors.push(format!("tokens.{i}.value"), NOT_TOKEN68);
            }
            let value = Some(value).filter(|value| !value.is_empty());
            if let Some(first) = values
                .iter()
                .position(|earlier| value.is_some() && *earlier == value)
            {
                errors.push(
                    format!("tokens.{i}.value"),
                    format!("is the value of `tokens.{first}` too"),
                );
            }
            values.push(value);
        }
        let longest = values.iter().flatten().map(|value| value.len()).max();
        let room = longest.unwrap_or(0).div_ceil(8).next_multiple_of(WORDS);
        let tokens = names.iter().zip(&values).filter_map(|(name, value)| {
            Some(Token {
                name: (*name).to_owned(),
                value: Padded::new((*value)?, room),
            })
        });
        let list = tokens.collect();
        errors.into_result(Self { list, room })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The name of the token that was presented. Takes as long whether and wherever one matches.
    pub(crate) fn name_of(&self, presented: &str) -> Option<&str> {
        let presented = Padded::new(presented, self.room);
        let mut name = None;
        for token in &self.list {
            if bool::from(token.value.ct_eq(&presented)) {
                name = Some(token.name.as_str());
            }
        }
        name
    }
}

/// The remedy, without the value.
const NOT_TOKEN68: &str = "holds a character that no bearer token has: only letters, digits and `-._~+/` may stand in \
                           it, and `=` at its end";

fn is_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(entries: &[(&str, &str)]) -> Result<Tokens, ConfigErrors> {
        let entry = |(name, value): &(&str, &str)| TokenConfig {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
        };
        Tokens::new(entries.iter().map(entry).collect())
    }

    fn mistakes(entries: &[(&str, &str)]) -> Vec<(String, String)> {
        let errors = tokens(entries).err().expect("the list is wrong");
        errors
            .iter()
            .map(|(path, message)| (path.to_owned(), message.to_owned()))
            .collect()
    }

    #[test]
    fn each_token_is_known_by_its_name() {
        let tokens =
            tokens(&[("old", "aaaa"), ("new", "bbbb\n"), ("unset", "")]).expect("a good list");
        assert_eq!(tokens.name_of("aaaa"), Some("old"));
        assert_eq!(tokens.name_of("bbbb"), Some("new"));
        // The last ones do not fit into the room of the others.
        let long = format!("aaaa{}", "a".repeat(8 * WORDS));
        for wrong in ["aaa", "aaaaa", "AAAA", "", "cccc", "aaaa\0", &long] {
            assert_eq!(tokens.name_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn empty_values_are_no_tokens() {
        assert!(
            tokens(&[("a", ""), ("b", "\n")])
                .expect("a good list")
                .is_empty()
        );
    }

    #[test]
    fn names_and_values_are_unique_and_no_message_holds_a_value() {
        let mistakes = mistakes(&[
            ("a", "secret1"),
            ("a", "secret2"),
            ("b", "secret1"),
            ("c d", "sec ret"),
        ]);
        let paths: Vec<&str> = mistakes.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "tokens.1.name",
                "tokens.2.value",
                "tokens.3.name",
                "tokens.3.value"
            ]
        );
        assert!(
            mistakes.iter().all(|(_, message)| !message.contains("sec")),
            "{mistakes:?}"
        );
    }
}
