//! The keys of a file as JSON Schema (2020-12), for editors that complete and check as one types.
//!
//! It refuses nothing that a reader takes. `${…}` stands in the place of any text, number, `true` and `false`, so where a
//! value is bounded, a reference is let through.

use serde_json::{Map, Value, json};

use super::keys::{Default, KEYS, Key, Kind};

/// Where links of the documentation lead from an editor.
const DOCUMENTATION: &str = "https://github.com/witgate/witgate/blob/main/docs/";

/// A built-in plugin, and the schema of its configuration.
pub struct PluginSchema {
    /// As in `component = "builtin:NAME"`.
    pub name: String,
    /// What `config-schema` gives.
    pub schema: Value,
}

/// The schema of a file: the tables of this crate, `others`, and what the built-in plugins take.
pub fn schema(others: &[Key], plugins: &[PluginSchema]) -> Value {
    let keys: Vec<Key> = KEYS.iter().chain(others).copied().collect();
    let mut schema = table(&keys);
    let document = schema.as_object_mut().expect("a table is an object");
    document.insert(
        "$schema".into(),
        "https://json-schema.org/draft/2020-12/schema".into(),
    );
    document.insert("title".into(), "The configuration of witgate".into());
    document.insert("$defs".into(), definitions(plugins));
    let plugin = "/properties/plugin/additionalProperties";
    let plugin = schema.pointer_mut(plugin).and_then(Value::as_object_mut);
    let plugin = plugin.expect("plugins are tables under names");
    plugin.insert("allOf".into(), plugins.iter().map(condition).collect());
    schema
}

fn definitions(plugins: &[PluginSchema]) -> Value {
    let reference = r"\$\{(env|file):[^}]+\}";
    let quantity = |units: &str| json!({"type": "string", "pattern": format!("^[0-9]+ *({units})$|{reference}")});
    let mut definitions = json!({
        "reference": {"type": "string", "pattern": reference},
        "name": {"type": "string", "pattern": format!("^[A-Za-z0-9_-]{{1,64}}$|{reference}")},
        "duration": quantity("us|ms|s|m|h|d"),
        "size": quantity("B|kB|MB|GB|KiB|MiB|GiB"),
        "percent": {"type": "string", "pattern": format!("^[0-9]+ *%$|{reference}")},
    });
    for plugin in plugins {
        definitions[definition(&plugin.name)] = with_references(&plugin.schema);
    }
    definitions
}

fn definition(plugin: &str) -> String {
    format!("builtin-{plugin}")
}

/// What follows for `config` from the component.
fn condition(plugin: &PluginSchema) -> Value {
    let definition = definition(&plugin.name);
    let mut then = json!({"properties": {"config": {"$ref": format!("#/$defs/{definition}")}}});
    let needs = plugin.schema["required"].as_array();
    if needs.is_some_and(|keys| !keys.is_empty()) {
        then["required"] = json!(["config"]);
    }
    let component = json!({"const": format!("builtin:{}", plugin.name)});
    json!({
        "if": {"properties": {"component": component}, "required": ["component"]},
        "then": then,
    })
}

fn table(keys: &[Key]) -> Value {
    let required = keys
        .iter()
        .filter(|key| matches!(key.default, Default::Required));
    let required: Value = required.map(|key| key.name).collect();
    let properties = keys.iter().map(|key| (key.name.to_owned(), property(key)));
    json!({
        "type": "object",
        "properties": properties.collect::<Map<_, _>>(),
        "required": required,
        "additionalProperties": false,
        // No word of JSON Schema, as `x-default` is none: the order in which people are told of the keys.
        "x-order": keys.iter().map(|key| key.name).collect::<Vec<_>>(),
    })
}

/// What a key takes, with what it means.
fn property(key: &Key) -> Value {
    let mut property = of(key.kind);
    let object = property.as_object_mut().expect("every kind is an object");
    if !key.about.is_empty() {
        object.insert("description".into(), with_links(key.about).into());
    }
    match key.default {
        Default::Required | Default::Means("") => {}
        Default::Is(toml) => {
            object.insert("default".into(), value(toml));
        }
        // No word of JSON Schema: what no value says.
        Default::Means(words) => {
            object.insert("x-default".into(), with_links(words).into());
        }
    }
    property
}

fn of(kind: Kind) -> Value {
    let referred = json!({"$ref": "#/$defs/reference"});
    let defined = |name: &str| json!({"$ref": format!("#/$defs/{name}")});
    match kind {
        Kind::Text => json!({"type": "string"}),
        Kind::Pattern(pattern) => {
            json!({"anyOf": [{"type": "string", "pattern": pattern}, referred]})
        }
        Kind::Words(words) => json!({"anyOf": [{"enum": words}, referred]}),
        Kind::Name => defined("name"),
        Kind::Boolean => json!({"anyOf": [{"type": "boolean"}, referred]}),
        Kind::False => json!({"const": false}),
        Kind::Integer(from, i64::MAX) => {
            json!({"anyOf": [{"type": "integer", "minimum": from}, referred]})
        }
        Kind::Integer(from, to) => {
            json!({"anyOf": [{"type": "integer", "minimum": from, "maximum": to}, referred]})
        }
        Kind::Number(from, to) => {
            json!({"anyOf": [{"type": "number", "minimum": from, "maximum": to}, referred]})
        }
        Kind::Duration => defined("duration"),
        Kind::Size => defined("size"),
        Kind::Percent => defined("percent"),
        Kind::Either(kinds) => {
            json!({"anyOf": kinds.iter().copied().map(of).collect::<Vec<_>>()})
        }
        Kind::List(items) => json!({"type": "array", "items": of(*items)}),
        Kind::Table(keys) => table(keys),
        Kind::Named(each) => json!({"type": "object", "additionalProperties": of(*each)}),
        Kind::Config => json!({"type": "object"}),
    }
}

/// A default as it stands in the tables.
fn value(toml: &str) -> Value {
    use toml::de::DeTable;
    let text = format!("a = {toml}");
    let (table, errors) = DeTable::parse_recoverable(&text);
    debug_assert!(errors.is_empty(), "{toml} is no TOML: {errors:?}");
    let mut table = super::shown::table(table.get_ref());
    table["a"].take()
}

/// Markdown for a page in `docs/` as it can be read elsewhere.
fn with_links(text: &str) -> String {
    let mut parts = text.split("](");
    let mut linked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let page = match part.starts_with('#') {
            true => "configuration.md",
            false => "",
        };
        linked.push_str("](");
        linked.push_str(DOCUMENTATION);
        linked.push_str(page);
        linked.push_str(part);
    }
    linked
}

/// The same schema, which takes `${…}` wherever it bounds a text.
fn with_references(schema: &Value) -> Value {
    match schema {
        Value::Array(items) => items.iter().map(with_references).collect(),
        Value::Object(object) if bounds_text(object) => {
            let mut outside = Map::new();
            let mut inside = object.clone();
            for key in ["title", "description", "default"] {
                outside.extend(inside.remove(key).map(|value| (key.to_owned(), value)));
            }
            outside.insert(
                "anyOf".into(),
                json!([inside, {"$ref": "#/$defs/reference"}]),
            );
            outside.into()
        }
        Value::Object(object) => {
            let entries = object.iter();
            let entry = |(key, value): (&String, &Value)| match key.as_str() {
                "default" | "examples" => (key.clone(), value.clone()),
                _ => (key.clone(), with_references(value)),
            };
            Value::Object(entries.map(entry).collect())
        }
        other => other.clone(),
    }
}

fn bounds_text(schema: &Map<String, Value>) -> bool {
    let is_text = schema.get("type").is_some_and(|kind| kind == "string");
    let words = schema.get("enum").and_then(Value::as_array);
    let bounds = ["pattern", "minLength", "maxLength", "format", "const"];
    words.is_some_and(|words| words.iter().any(Value::is_string))
        || is_text && bounds.iter().any(|bound| schema.contains_key(*bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plugin_bounds_may_be_a_reference() {
        let schema = json!({
            "type": "object",
            "required": ["value"],
            "properties": {"value": {"type": "string", "minLength": 16, "description": "A token."}},
        });
        let plugin = PluginSchema {
            name: "a".into(),
            schema,
        };
        let schema = super::schema(&[], &[plugin]);
        let value = &schema["$defs"]["builtin-a"]["properties"]["value"];
        assert_eq!(value["description"], "A token.");
        assert_eq!(
            value["anyOf"],
            json!([{"type": "string", "minLength": 16}, {"$ref": "#/$defs/reference"}])
        );
        let plugin = &schema["properties"]["plugin"]["additionalProperties"];
        assert_eq!(plugin["allOf"][0]["then"]["required"], json!(["config"]));
    }

    #[test]
    fn defaults_are_values_and_links_lead_somewhere_from_anywhere() {
        let schema = schema(&[], &[]);
        let listener = &schema["properties"]["listener"]["items"]["properties"];
        assert_eq!(
            listener["limits"]["properties"]["streams"]["default"],
            json!(100)
        );
        let protocols = listener["protocols"]["description"].as_str();
        let protocols = protocols.expect("it is described");
        assert!(
            protocols.contains("/blob/main/docs/configuration.md#http2"),
            "{protocols}"
        );
    }
}
