//! The page of the built-in plugins, made of what `witgate plugin inspect` says of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

/// The page, of one such answer for each plugin.
pub(crate) fn page(plugins: &[Value]) -> String {
    let mut page = String::from(
        "# The plugins that come with it\n\n\
         `component = \"builtin:NAME\"` is one of these. This page is made of what they say of themselves, as `witgate plugin inspect\n\
         builtin:NAME` shows it; each has a page of its own with examples and all that is to be known.\n\n\
         | plugin | what it does |\n|---|---|\n",
    );
    for plugin in plugins {
        let name = text(&plugin["name"]);
        line(
            &mut page,
            &format!("| [`{name}`](#{name}) | {} |", purpose(plugin)),
        );
    }
    for plugin in plugins {
        describe(&mut page, plugin);
    }
    page
}

fn describe(page: &mut String, plugin: &Value) {
    let name = text(&plugin["name"]);
    line(
        page,
        &format!(
            "\n## {name}\n\nA plugin that {}. [More](../plugins/{name}/README.md).\n",
            purpose(plugin)
        ),
    );
    let mut hooks: Vec<_> = list(&plugin["hooks"]).iter().map(text).collect();
    hooks.sort();
    let mut grants: Vec<_> = list(&plugin["imports"])
        .iter()
        .filter_map(|import| import["grant"].as_str())
        .map(|grant| format!("`grant.{grant}`"))
        .collect();
    grants.sort();
    grants.dedup();
    let needs = match grants.is_empty() {
        true => String::new(),
        false => format!(" Of use with {}.", grants.join(" and ")),
    };
    line(page, &format!("Hooks: {}.{needs}\n", hooks.join(", ")));
    let mut rows = Vec::new();
    keys(&plugin["config-schema"], "", &mut rows);
    if rows.is_empty() {
        line(page, "There is nothing to configure.");
        return;
    }
    line(page, "| key | type | meaning |\n|---|---|---|");
    for row in rows {
        line(page, &row);
    }
}

/// A row for each key, those of tables within behind a dot.
fn keys(schema: &Value, path: &str, rows: &mut Vec<String>) {
    let required: Vec<_> = list(&schema["required"]).iter().map(text).collect();
    let properties = schema["properties"].as_object().into_iter().flatten();
    let sorted: BTreeMap<_, _> = properties.collect();
    for (key, of) in sorted {
        let path = format!("{path}{key}");
        let needed = if required.contains(key) {
            ", required"
        } else {
            ""
        };
        let words = one_line(&text(&of["description"]));
        rows.push(format!("| `{path}` | {}{needed} | {words} |", kind(of)));
        match of["type"].as_str() {
            Some("object") => {
                keys(of, &format!("{path}."), rows);
                keys(&of["additionalProperties"], &format!("{path}.NAME."), rows);
            }
            Some("array") => keys(&of["items"], &format!("{path}.N."), rows),
            _ => {}
        }
    }
}

fn kind(schema: &Value) -> String {
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<_> = words
            .iter()
            .map(|word| format!("`{}`", text(word)))
            .collect();
        return words.join(", ");
    }
    if let Some(alternatives) = schema["oneOf"].as_array() {
        let kinds: Vec<_> = alternatives.iter().map(kind).collect();
        return kinds.join(" or ");
    }
    match &schema["type"] {
        Value::String(kind) => match kind.as_str() {
            "array" => format!("list of {}", plural(&self::kind(&schema["items"]))),
            "object" if schema["properties"].is_object() => match only_key(schema) {
                Some(key) => format!("`{{ {key} = … }}`"),
                None => "table".to_owned(),
            },
            "object" => "table of names".to_owned(),
            "string" if schema["pattern"].is_string() => "duration".to_owned(),
            kind => kind.to_owned(),
        },
        _ => "any".to_owned(),
    }
}

/// Of a table that is one of several shapes.
fn only_key(schema: &Value) -> Option<&String> {
    let properties = schema["properties"].as_object()?;
    let mut keys = properties.keys();
    let first = keys.next()?;
    (keys.next().is_none()
        && schema["additionalProperties"] == false
        && schema.get("description").is_none()
        && list(&schema["required"]).len() == 1)
        .then_some(first)
}

fn plural(kind: &str) -> String {
    match kind {
        "string" | "integer" | "table" | "number" | "boolean" => format!("{kind}s"),
        kind => kind.to_owned(),
    }
}

/// The package's description without "a witgate plugin that".
fn purpose(plugin: &Value) -> String {
    let description = text(&plugin["description"]);
    description
        .strip_prefix("a witgate plugin that ")
        .unwrap_or(&description)
        .to_owned()
}

/// In a table's cell.
fn one_line(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn line(page: &mut String, text: &str) {
    writeln!(page, "{text}").expect("a String takes all that is written");
}
