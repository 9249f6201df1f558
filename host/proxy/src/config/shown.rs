//! A configuration as an operator may look at it: references unreplaced, secrets overwritten.

use serde_json::{Map, Value, json};
use toml::de::{DeTable, DeValue};

use super::model::Config;

/// Tables of a plugin's grants whose values may be secrets, whatever their keys are called.
const GRANTS: [[&str; 2]; 2] = [["wasi", "env"], ["wasi", "config"]];

/// What stands in place of a secret.
const HIDDEN: &str = "(not shown)";

impl Config {
    /// The file: its name, and what it says as JSON. `${…}` stands as it is written, and what is probably a secret is
    /// overwritten.
    pub fn shown(&self) -> Value {
        let text = self.location.file_text();
        let (root, _) = DeTable::parse_recoverable(text);
        let mut config = table(root.get_ref());
        hide_grants(&mut config);
        json!({"file": self.location.file(), "config": config})
    }
}

/// Whether two texts of TOML say the same, whatever their layout and comments.
pub fn means_the_same(one: &str, other: &str) -> bool {
    let ((one, errors), (other, more)) = (
        DeTable::parse_recoverable(one),
        DeTable::parse_recoverable(other),
    );
    errors.is_empty() && more.is_empty() && table(one.get_ref()) == table(other.get_ref())
}

fn hide_grants(config: &mut Value) {
    let plugins = config.get_mut("plugin").and_then(Value::as_object_mut);
    for plugin in plugins.into_iter().flat_map(Map::values_mut) {
        for [grant, key] in GRANTS {
            let values = plugin.pointer_mut(&format!("/grant/{grant}/{key}"));
            let values = values.and_then(Value::as_object_mut);
            for value in values.into_iter().flat_map(Map::values_mut) {
                let refers = |text: &str| text.starts_with("${") && text.ends_with('}');
                if !value.as_str().is_some_and(refers) {
                    *value = HIDDEN.into();
                }
            }
        }
    }
}

pub(super) fn table(table: &DeTable<'_>) -> Value {
    let entries = table.iter();
    let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
        let key: &std::borrow::Cow<'_, str> = key.get_ref();
        (key.to_string(), of(value.get_ref()))
    };
    Value::Object(entries.map(entry).collect())
}

fn of(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => without_userinfo(text).into(),
        DeValue::Integer(number) => {
            let text = number.as_str();
            match i64::from_str_radix(text, number.radix()) {
                Ok(number) => number.into(),
                Err(_) => text.into(),
            }
        }
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(number) => json!(number),
            Err(_) => number.as_str().into(),
        },
        DeValue::Boolean(value) => (*value).into(),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(items) => items.iter().map(|item| of(item.get_ref())).collect(),
        DeValue::Table(inner) => table(inner),
    }
}

/// `redis://user:password@host` without what stands before the host.
fn without_userinfo(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{HIDDEN}{}", &rest[at..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Document;
    use super::*;

    #[test]
    fn what_is_probably_a_secret_is_not_shown_and_references_stand_as_they_are() {
        let text = r#"
            [[listener]]
            name = "main"
            bind = "127.0.0.1:0"
            [[route]]
            plugins = ["p"]
            [admin]
            bind = "127.0.0.1:0"
            token = "hunter2hunter2hunter2"
            [plugin.p]
            component = "builtin:p"
            config = { tokens = [{ name = "a", value = "hunter2hunter2" }], ages = [1, 2.5, true], url = "redis://me:hunter2@10.0.0.1:6379/0" }
            grant.wasi.env = { DATABASE = "hunter2", HOME = "${env:PATH}" }
        "#;
        let document = Document::parse("a.toml", text).expect("it is TOML");
        let reader = document.reader();
        let mut root = reader.root();
        let config = Config::read(&mut root);
        root.finish();
        let (config, _) = reader.finish(config).expect("it is valid");

        let shown = config.shown();

        assert!(!shown.to_string().contains("hunter2"), "{shown}");
        assert_eq!(shown["file"], "a.toml");
        let config = &shown["config"];
        assert_eq!(config["plugin"]["p"]["config"]["tokens"][0]["name"], "a");
        assert_eq!(
            config["plugin"]["p"]["config"]["ages"],
            json!([1, 2.5, true])
        );
        assert_eq!(
            config["plugin"]["p"]["grant"]["wasi"]["env"]["HOME"],
            "${env:PATH}"
        );
        let url = &config["plugin"]["p"]["config"]["url"];
        assert_eq!(url, "redis://(not shown)@10.0.0.1:6379/0");
    }
}
