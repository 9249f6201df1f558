//! The tables of keys on the page of the configuration, made of what `witgate schema` prints.

use serde_json::Value;

/// Where the links of the schema lead.
const DOCUMENTATION: &str = "https://github.com/witgate/witgate/blob/main/docs/";

const START: &str = "<!-- keys of ";
const END: &str = "<!-- end of keys -->";

/// The page with each table between `<!-- keys of TABLE -->` and `<!-- end of keys -->` made anew. A table that has such
/// a place of its own is one row of the table that it lies in.
pub(crate) fn page(written: &str, schema: &Value) -> String {
    let mut parts = written.split(START);
    let mut page = parts.next().unwrap_or_default().to_owned();
    let names: Vec<_> = parts.clone().map(name).collect();
    for part in parts {
        let name = name(part);
        let (_, rest) = part.split_once(END).expect("a table of keys has an end");
        let mut rows = Vec::new();
        let table = resolve(schema, name).unwrap_or_else(|| panic!("there is no table `{name}`"));
        let own: Vec<_> = names
            .iter()
            .filter_map(|other| other.strip_prefix(name)?.strip_prefix('.'))
            .collect();
        keys(table, "", &own, &mut rows);
        page.push_str(&format!(
            "{START}{name} -->\n| key | takes | default | meaning |\n|---|---|---|---|\n{}\n{END}{rest}",
            rows.join("\n")
        ));
    }
    page
}

/// What stands between `START` and ` -->`.
fn name(part: &str) -> &str {
    part.split_once(" -->").expect("a comment has an end").0
}

/// The table at a path such as `listener.tls`; of a list or of tables under names one of them.
fn resolve<'s>(schema: &'s Value, path: &str) -> Option<&'s Value> {
    path.split('.').try_fold(schema, |schema, key| {
        Some(table(&schema["properties"][key])?.1)
    })
}

/// The table that a value is, or may be, with what has to be written behind its key to be in it.
fn table(schema: &Value) -> Option<(&'static str, &Value)> {
    if schema["properties"].is_object() {
        return Some(("", schema));
    }
    if let Some((_, items)) = table_of(&schema["items"]) {
        return Some(("[]", items));
    }
    if let Some((_, each)) = table_of(&schema["additionalProperties"]) {
        return Some((".NAME", each));
    }
    let alternatives = schema["anyOf"].as_array()?;
    alternatives.iter().find_map(table)
}

fn table_of(schema: &Value) -> Option<(&'static str, &Value)> {
    schema.is_object().then(|| table(schema)).flatten()
}

/// A row for each key, those of tables within behind a dot.
fn keys(schema: &Value, path: &str, own: &[&str], rows: &mut Vec<String>) {
    let required = schema["required"].as_array().expect("a table says so");
    let order = schema["x-order"].as_array().expect("keys have an order");
    for key in order {
        let of = &schema["properties"][key.as_str().expect("a key is text")];
        let path = format!("{path}{}", key.as_str().unwrap_or_default());
        let below = table(of).filter(|(behind, _)| {
            // The keys of those are told in words.
            *behind != ".NAME" && !own.contains(&path.as_str())
        });
        let words = of["description"].as_str().map(unlinked);
        if words.is_some() || below.is_none() {
            let default = default(of, required.contains(key));
            let words = words.unwrap_or_default();
            rows.push(format!(
                "| `{path}` | {} | {default} | {words} |",
                takes(of)
            ));
        }
        if let Some((behind, below)) = below {
            keys(below, &format!("{path}{behind}."), own, rows);
        }
    }
}

fn default(schema: &Value, required: bool) -> String {
    match (&schema["default"], &schema["x-default"]) {
        _ if required => "required".into(),
        (Value::Null, Value::String(words)) => unlinked(words),
        (Value::Null, _) => String::new(),
        (Value::Object(_), _) => "`{}`".into(),
        (Value::Array(items), _) => {
            let items: Vec<_> = items.iter().map(Value::to_string).collect();
            format!("`[{}]`", items.join(", "))
        }
        (value, _) => format!("`{value}`"),
    }
}

fn takes(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.trim_start_matches("#/$defs/");
        // `${…}` may stand everywhere, and the page says so once.
        return match name {
            "reference" => String::new(),
            "percent" => "share".into(),
            name => name.into(),
        };
    }
    if let Some(alternatives) = schema["anyOf"].as_array() {
        let mut kinds: Vec<_> = alternatives.iter().map(takes).collect();
        kinds.retain(|kind| !kind.is_empty());
        kinds.dedup();
        return kinds.join(" or ");
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
        return words.join(", ");
    }
    if schema["const"] == false {
        return "`false`".into();
    }
    match schema["type"].as_str() {
        Some("boolean") => "`true`, `false`".into(),
        Some("integer") => match (&schema["minimum"], &schema["maximum"]) {
            (from, Value::Null) => format!("integer from {from}"),
            (from, to) => format!("integer, {from} to {to}"),
        },
        Some("number") => format!("number, {} to {}", schema["minimum"], schema["maximum"]),
        Some("array") => match takes(&schema["items"]) {
            items if items == "table" => "list of tables".into(),
            items if items.contains(" or ") => format!("list of ({items})"),
            items => format!("list of {items}"),
        },
        Some("object") if schema["additionalProperties"].is_object() => "table of names".into(),
        Some("object") => "table".into(),
        _ => "text".into(),
    }
}

/// As the page writes links.
fn unlinked(words: &str) -> String {
    let here = format!("{DOCUMENTATION}configuration.md#");
    words.replace(&here, "#").replace(DOCUMENTATION, "")
}
