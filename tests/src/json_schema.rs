//! Whether a JSON value is what a schema says, for the part of JSON Schema that this repository writes. A keyword that is
//! not known here fails the test that uses it, so that nothing passes unlooked at.

use serde_json::{Map, Value};

/// Keywords that say nothing of a value.
const WORDS: [&str; 6] = [
    "description",
    "title",
    "default",
    "examples",
    "$schema",
    "$defs",
];

/// What is wrong with `value`, each with its place; empty when nothing is. References start at `root`.
#[must_use]
pub fn problems(root: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut check = Check {
        root,
        problems: Vec::new(),
    };
    check.value(schema, value, "");
    check.problems
}

struct Check<'a> {
    root: &'a Value,
    problems: Vec<String>,
}

impl Check<'_> {
    fn wrong(&mut self, at: &str, what: impl std::fmt::Display) {
        self.problems.push(format!("{at}: {what}"));
    }

    fn fits(&self, schema: &Value, value: &Value) -> bool {
        problems(self.root, schema, value).is_empty()
    }

    fn value(&mut self, schema: &Value, value: &Value, at: &str) {
        let keywords = match schema {
            Value::Bool(true) => return,
            Value::Bool(false) => return self.wrong(at, "nothing may be here"),
            Value::Object(keywords) => keywords,
            other => panic!("{other} is no schema"),
        };
        for (keyword, says) in keywords {
            self.keyword(keywords, keyword, says, value, at);
        }
    }

    fn keyword(
        &mut self,
        all: &Map<String, Value>,
        keyword: &str,
        says: &Value,
        value: &Value,
        at: &str,
    ) {
        match keyword {
            "$ref" => {
                let path = says.as_str().and_then(|path| path.strip_prefix('#'));
                let root = self.root;
                let target = path.and_then(|path| root.pointer(path));
                let target = target.unwrap_or_else(|| panic!("{says} leads nowhere"));
                self.value(target, value, at);
            }
            "type" => self.kind(says, value, at),
            "const" if says != value => self.wrong(at, format_args!("{value} is not {says}")),
            "enum" if !list(says).contains(value) => {
                self.wrong(at, format_args!("{value} is none of {says}"));
            }
            "oneOf" => {
                let fitting = list(says)
                    .iter()
                    .filter(|one| self.fits(one, value))
                    .count();
                if fitting != 1 {
                    self.wrong(at, format_args!("{value} fits {fitting} of {says}"));
                }
            }
            "anyOf" if !list(says).iter().any(|one| self.fits(one, value)) => {
                self.wrong(at, format_args!("{value} fits none of {says}"));
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    self.value(says, item, &format!("{at}/{index}"));
                }
            }
            "required" => {
                let Some(object) = value.as_object() else {
                    return;
                };
                for name in list(says).iter().filter_map(Value::as_str) {
                    if !object.contains_key(name) {
                        self.wrong(at, format_args!("`{name}` is missing"));
                    }
                }
            }
            "properties" => {
                for (name, schema) in says.as_object().expect("properties are an object") {
                    if let Some(value) = value.get(name) {
                        self.value(schema, value, &format!("{at}/{name}"));
                    }
                }
            }
            "additionalProperties" => {
                let named = all.get("properties").and_then(Value::as_object);
                for (name, value) in value.as_object().into_iter().flatten() {
                    if !named.is_some_and(|named| named.contains_key(name)) {
                        self.value(says, value, &format!("{at}/{name}"));
                    }
                }
            }
            "minimum" if value.as_f64() < says.as_f64() && value.is_number() => {
                self.wrong(at, format_args!("{value} is under {says}"));
            }
            "maximum" if value.as_f64() > says.as_f64() => {
                self.wrong(at, format_args!("{value} is over {says}"));
            }
            "const" | "enum" | "anyOf" | "minimum" | "maximum" => {}
            word if WORDS.contains(&word) => {}
            other => panic!("this does not know `{other}`"),
        }
    }

    fn kind(&mut self, says: &Value, value: &Value, at: &str) {
        let is = |kind: &str| match kind {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("{other} is no type"),
        };
        let fits = match says {
            Value::String(kind) => is(kind),
            kinds => list(kinds).iter().filter_map(Value::as_str).any(is),
        };
        if !fits {
            self.wrong(at, format_args!("{value} is no {says}"));
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
