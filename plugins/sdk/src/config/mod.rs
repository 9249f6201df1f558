mod de;
mod duration;
mod json;

pub use duration::ConfigDuration;

use serde::de::DeserializeOwned;

use crate::bindings::exports::witgate::plugin::lifecycle;

/// Mistakes in a plugin's configuration, each at its key.
///
/// ```
/// # use witgate_plugin::ConfigErrors;
/// # fn new(names: Vec<String>) -> Result<Vec<String>, ConfigErrors> {
/// let mut errors = ConfigErrors::default();
/// for (i, name) in names.iter().enumerate() {
///     if name.is_empty() {
///         errors.push(format!("names.{i}"), "must not be empty");
///     }
/// }
/// errors.into_result(names)
/// # }
/// # assert!(new(vec!["a".into()]).is_ok());
/// # assert_eq!(new(vec!["a".into(), "".into()]).unwrap_err().iter().next(), Some(("names.1", "must not be empty")));
/// ```
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<(String, String)>);

impl ConfigErrors {
    /// One mistake. See [`push`](Self::push).
    pub fn at(path: impl Into<String>, message: impl Into<String>) -> Self {
        let mut errors = Self::default();
        errors.push(path, message);
        errors
    }

    /// Adds a mistake.
    ///
    /// `path` is the key, dotted from the `config` table, list items by index: `tokens.0.value`; empty when the table as
    /// a whole is wrong. `message` says what is wrong and what would be right: lower case, one sentence, no secrets.
    pub fn push(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push((path.into(), message.into()));
    }

    /// Whether no mistake was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Path and message of each mistake.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(path, message)| (path.as_str(), message.as_str()))
    }

    /// The value if no mistake was found, else the mistakes.
    ///
    /// # Errors
    ///
    /// These errors, if there are any.
    pub fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() {
            Ok(value)
        } else {
            Err(self)
        }
    }

    pub(crate) fn into_wit(self) -> Vec<lifecycle::ConfigError> {
        self.0
            .into_iter()
            .map(|(path, message)| lifecycle::ConfigError { path, message })
            .collect()
    }
}

/// Reads the configuration that the host hands over as JSON.
pub(crate) fn parse<T: DeserializeOwned>(config: &str) -> Result<T, ConfigErrors> {
    de::from_json(config).map_err(|mistake| {
        let (path, message) = mistake.into_parts();
        ConfigErrors::at(path, message)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    struct Config {
        tokens: Vec<Token>,
        #[serde(default)]
        mode: Mode,
        ratio: Option<f64>,
        #[serde(default)]
        labels: BTreeMap<String, i8>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Token {
        name: String,
        lifetime: u8,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "kebab-case")]
    enum Mode {
        #[default]
        Plain,
        Level(u8),
        Range {
            from: u8,
            to: u8,
        },
    }

    fn mistake(config: &str) -> (String, String) {
        let errors = parse::<Config>(config).expect_err("the configuration is wrong");
        let (path, message) = errors.iter().next().expect("one mistake");
        (path.to_owned(), message.to_owned())
    }

    fn at(path: &str, message: &str) -> (String, String) {
        (path.to_owned(), message.to_owned())
    }

    #[test]
    fn every_shape_that_a_configuration_has_is_read() {
        let text = r#" { "tokens" : [ {"name":"\u0061\n","lifetime":255} ],
            "ratio": -1.5e2, "labels": {"a":-128,"b":1}, "mode": {"range":{"from":1,"to":2}} } "#;
        let expected = Config {
            tokens: vec![Token {
                name: "a\n".to_owned(),
                lifetime: 255,
            }],
            mode: Mode::Range { from: 1, to: 2 },
            ratio: Some(-150.0),
            labels: BTreeMap::from([("a".to_owned(), -128), ("b".to_owned(), 1)]),
        };
        assert_eq!(parse::<Config>(text), Ok(expected));
        for (mode, expected) in [
            (r#""plain""#, Mode::Plain),
            (r#"{"level":3}"#, Mode::Level(3)),
        ] {
            let text = format!(r#"{{"tokens":[],"ratio":null,"mode":{mode}}}"#);
            assert_eq!(
                parse::<Config>(&text).map(|config| config.mode),
                Ok(expected)
            );
        }
    }

    #[test]
    fn a_mistake_is_reported_at_its_key() {
        assert_eq!(
            mistake(r#"{"tokens":[{"name":"a","lifetime":1},{"name":2,"lifetime":1}]}"#),
            at("tokens.1.name", "expected a string, found an integer")
        );
        assert_eq!(
            mistake(r#"{"tokens":[],"mode":{"range":{"from":1,"to":[]}}}"#),
            at("mode.range.to", "expected u8, found a list")
        );
    }

    #[test]
    fn an_unknown_key_is_reported_at_itself_with_those_that_there_are() {
        assert_eq!(
            mistake(r#"{"tokens":[{"name":"a","nmae":"b","lifetime":1}]}"#),
            at("tokens.0.nmae", "unknown key; there is `name`, `lifetime`")
        );
    }

    #[test]
    fn a_missing_key_is_reported_at_its_table() {
        assert_eq!(mistake("{}"), at("", "the key `tokens` is missing"));
        assert_eq!(
            mistake(r#"{"tokens":[{"name":"a"}]}"#),
            at("tokens.0", "the key `lifetime` is missing")
        );
    }

    #[test]
    fn an_unknown_variant_is_reported_with_those_that_there_are() {
        assert_eq!(
            mistake(r#"{"tokens":[],"mode":"fast"}"#),
            at(
                "mode",
                "unknown variant `fast`, expected one of `plain`, `level`, `range`"
            )
        );
        assert_eq!(
            mistake(r#"{"tokens":[],"mode":"level"}"#),
            at(
                "mode",
                "expected a table with the key `level`, found a string"
            )
        );
    }

    #[test]
    fn a_wrong_value_is_not_repeated_as_it_may_be_a_secret() {
        for (value, found) in [
            (r#""hunter2""#, "a string"),
            ("7777", "an integer"),
            (r#"{"hunter2":1}"#, "a table"),
            ("null", "nothing"),
        ] {
            let config = format!(r#"{{"tokens":{value}}}"#);
            assert_eq!(
                mistake(&config),
                at("tokens", &format!("expected a list, found {found}"))
            );
        }
        assert_eq!(
            mistake(r#"{"tokens":[{"name":"a","lifetime":7777}]}"#),
            at("tokens.0.lifetime", "expected u8")
        );
        assert_eq!(
            mistake(r#"{"tokens":[{"name":"a","lifetime":1.5}]}"#),
            at("tokens.0.lifetime", "expected u8, found a float")
        );
    }

    #[test]
    fn what_is_no_json_is_the_hosts_mistake() {
        for text in [
            "",
            "{",
            r#"{"tokens":[]"#,
            r#"{"tokens":[]}}"#,
            r#"{"tokens":[1 2]}"#,
            r#"{"tokens" []}"#,
        ] {
            let errors = parse::<BTreeMap<String, Vec<u8>>>(text).expect_err("no JSON");
            let found: Vec<_> = errors.iter().collect();
            assert_eq!(
                found[0].1, "the host handed over a configuration that is no JSON",
                "{text}"
            );
        }
    }
}
