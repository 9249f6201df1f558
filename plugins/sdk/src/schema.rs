use std::collections::{BTreeMap, HashMap};

pub use witgate_plugin_macros::ConfigSchema;

/// A type that configurations are made of, and says which values it takes, in JSON Schema (draft 2020-12).
///
/// ```
/// use serde::Deserialize;
/// use witgate_plugin::{ConfigSchema, schema_of};
///
/// /// Who is let in.
/// #[derive(Deserialize, ConfigSchema)]
/// #[serde(rename_all = "kebab-case", deny_unknown_fields)]
/// struct Config {
///     /// Names of tokens.
///     #[serde(default)]
///     token_names: Vec<String>,
///     limit: u8,
/// }
///
/// # let schema =
/// schema_of::<Config>()
/// # ;
/// # assert_eq!(schema, concat!(
/// #     r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","description":"Who is let in.","type":"object","#,
/// #     r#""properties":{"token-names":{"description":"Names of tokens.","type":"array","items":{"type":"string"}},"#,
/// #     r#""limit":{"type":"integer","minimum":0,"maximum":255}},"required":["limit"],"additionalProperties":false}"#,
/// # ));
/// ```
///
/// Derived, it says what serde's attributes say, and doc comments become descriptions. It is put together while the plugin
/// is compiled, and costs the component a few texts.
pub trait ConfigSchema {
    /// What it is for; empty for nothing to say.
    const DESCRIPTION: &'static str = "";

    /// Writes the members of the JSON object that is its schema: what stands between the braces.
    fn members(to: &mut String);
}

/// The schema of a configuration, for [`Plugin::config_schema`](crate::Plugin::config_schema).
pub fn schema_of<T: ConfigSchema>() -> String {
    let mut schema = String::from("{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",");
    if !T::DESCRIPTION.is_empty() {
        schema.push_str("\"description\":\"");
        push_escaped(&mut schema, T::DESCRIPTION);
        schema.push_str("\",");
    }
    T::members(&mut schema);
    schema.push('}');
    schema
}

fn push_escaped(to: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '"' | '\\' => to.extend(['\\', character]),
            '\n' => to.push_str("\\n"),
            character if character.is_control() => {}
            character => to.push(character),
        }
    }
}

/// The members of a schema that takes everything: one that says nothing.
#[doc(hidden)]
pub fn any(to: &mut String) {
    to.push_str("\"type\":[\"string\",\"integer\",\"number\",\"boolean\",\"array\",\"object\"]");
}

macro_rules! simple {
    ($($type:ty: $members:expr;)+) => {
        $(impl ConfigSchema for $type {
            fn members(to: &mut String) {
                to.push_str($members);
            }
        })+
    };
}

simple! {
    String: r#""type":"string""#;
    bool: r#""type":"boolean""#;
    f32: r#""type":"number""#;
    f64: r#""type":"number""#;
    u8: r#""type":"integer","minimum":0,"maximum":255"#;
    u16: r#""type":"integer","minimum":0,"maximum":65535"#;
    u32: r#""type":"integer","minimum":0,"maximum":4294967295"#;
    u64: r#""type":"integer","minimum":0"#;
    usize: r#""type":"integer","minimum":0"#;
    i8: r#""type":"integer","minimum":-128,"maximum":127"#;
    i16: r#""type":"integer","minimum":-32768,"maximum":32767"#;
    i32: r#""type":"integer","minimum":-2147483648,"maximum":2147483647"#;
    i64: r#""type":"integer""#;
}

impl<T: ConfigSchema> ConfigSchema for Option<T> {
    fn members(to: &mut String) {
        T::members(to);
    }
}

impl<T: ConfigSchema> ConfigSchema for Box<T> {
    fn members(to: &mut String) {
        T::members(to);
    }
}

impl<T: ConfigSchema> ConfigSchema for Vec<T> {
    fn members(to: &mut String) {
        to.push_str("\"type\":\"array\",\"items\":{");
        T::members(to);
        to.push('}');
    }
}

fn map<T: ConfigSchema>(to: &mut String) {
    to.push_str("\"type\":\"object\",\"additionalProperties\":{");
    T::members(to);
    to.push('}');
}

impl<T: ConfigSchema> ConfigSchema for BTreeMap<String, T> {
    fn members(to: &mut String) {
        map::<T>(to);
    }
}

impl<T: ConfigSchema, S> ConfigSchema for HashMap<String, T, S> {
    fn members(to: &mut String) {
        map::<T>(to);
    }
}

impl ConfigSchema for crate::NoConfig {
    fn members(to: &mut String) {
        to.push_str("\"type\":\"object\",\"properties\":{},\"additionalProperties\":false");
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, ConfigSchema)]
    #[serde(rename_all = "kebab-case", default)]
    #[derive(Default)]
    struct Table {
        /// Of "several"
        /// lines.
        ///
        /// And a second paragraph.
        names_of: BTreeMap<String, i8>,
        #[serde(rename = "Type")]
        kind: Option<Kind>,
        #[serde(deserialize_with = "otherwise")]
        other: u8,
        #[serde(skip)]
        hidden: u8,
    }

    fn otherwise<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
        u8::deserialize(deserializer)
    }

    #[derive(Deserialize, ConfigSchema)]
    #[serde(rename_all = "kebab-case")]
    #[expect(dead_code, reason = "only its schema matters")]
    enum Kind {
        Plain,
        VeryPlain,
        Level(Wrapped),
        Range { from: f64, to: bool },
    }

    #[derive(Deserialize, ConfigSchema)]
    #[expect(dead_code, reason = "only its schema matters")]
    struct Wrapped(Vec<Words>);

    #[derive(Deserialize, ConfigSchema)]
    #[serde(rename_all = "UPPERCASE")]
    enum Words {
        One,
        Two,
    }

    #[test]
    fn every_shape_that_a_configuration_has_is_described() {
        let expected = concat!(
            r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{"#,
            r#""names-of":{"description":"Of \"several\" lines.\n\nAnd a second paragraph.","#,
            r#""type":"object","additionalProperties":{"type":"integer","minimum":-128,"maximum":127}},"#,
            r#""Type":{"oneOf":[{"enum":["plain","very-plain"]},"#,
            r#"{"type":"object","properties":{"level":{"type":"array","items":{"enum":["ONE","TWO"]}}},"required":["level"],"additionalProperties":false},"#,
            r#"{"type":"object","properties":{"range":{"type":"object","properties":{"from":{"type":"number"},"to":{"type":"boolean"}},"required":["from","to"]}},"required":["range"],"additionalProperties":false}]},"#,
            r#""other":{"type":["string","integer","number","boolean","array","object"]}}}"#,
        );
        assert_eq!(schema_of::<Table>(), expected);
    }

    #[test]
    fn no_configuration_is_an_empty_table() {
        assert!(
            schema_of::<crate::NoConfig>()
                .ends_with(r#""properties":{},"additionalProperties":false}"#)
        );
    }
}
