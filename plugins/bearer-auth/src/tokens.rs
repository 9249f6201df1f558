//! The tokens that are configured, and the comparison with one that was presented.

use std::fmt;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
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

/// The tokens that let a request pass. Only digests are kept: they are of one length, so a comparison tells nothing of
/// a token's length, and the tokens themselves do not stay in memory.
pub(crate) struct Tokens(Vec<Token>);

struct Token {
    name: String,
    digest: [u8; 32],
}

impl Tokens {
    /// Checks the list. An entry with an empty value is left out: a variable that is not set must not let in a client
    /// that sends nothing.
    pub(crate) fn new(config: Vec<TokenConfig>) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let mut names: Vec<&str> = Vec::new();
        let mut digests: Vec<Option<[u8; 32]>> = Vec::new();
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
            let digest = (!value.is_empty()).then(|| digest(value));
            if let Some(first) = digests
                .iter()
                .position(|earlier| digest.is_some() && *earlier == digest)
            {
                errors.push(
                    format!("tokens.{i}.value"),
                    format!("is the value of `tokens.{first}` too"),
                );
            }
            digests.push(digest);
        }
        let tokens = config
            .iter()
            .zip(digests)
            .filter_map(|(TokenConfig { name, .. }, digest)| {
                Some(Token {
                    name: name.clone(),
                    digest: digest?,
                })
            });
        errors.into_result(Self(tokens.collect()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name of the token that was presented. Takes as long whether and wherever one matches.
    pub(crate) fn name_of(&self, presented: &str) -> Option<&str> {
        let presented = digest(presented);
        let mut name = None;
        for token in &self.0 {
            if bool::from(token.digest.ct_eq(&presented)) {
                name = Some(token.name.as_str());
            }
        }
        name
    }
}

/// The remedy, without the value.
const NOT_TOKEN68: &str = "holds a character that no bearer token has: only letters, digits and `-._~+/` may stand in \
                           it, and `=` at its end";

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

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
        for wrong in ["aaa", "aaaaa", "AAAA", "", "cccc"] {
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
