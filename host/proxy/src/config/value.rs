//! TOML values with their spans, references in strings already replaced.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::interpolate::{Fault, Interpolator};

/// A value and where it stands.
pub(super) struct Node {
    pub(super) value: Value,
    /// The value; of a table with a header the header, of one made by dotted keys the key.
    pub(super) span: Range<usize>,
    /// Whether a reference was replaced in it, so that it may be a secret.
    pub(super) interpolated: bool,
}

pub(super) enum Value {
    String(String),
    /// A string with a reference that leads nowhere, which has been reported.
    Unresolved,
    /// `None` when it does not fit 64 bits.
    Integer(Option<i64>),
    Float(f64),
    Boolean(bool),
    /// As text.
    Datetime(String),
    Array(Vec<Node>),
    Table(Vec<Entry>),
}

impl Value {
    /// What to call such a value in a report.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::String(_) | Value::Unresolved => "string",
            Value::Integer(_) => "integer",
            Value::Float(_) => "float",
            Value::Boolean(_) => "boolean",
            Value::Datetime(_) => "date",
            Value::Array(_) => "list",
            Value::Table(_) => "table",
        }
    }
}

/// A key of a table and its value.
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) node: Node,
}

/// A reference that leads nowhere, and the string in which it stands.
pub(super) struct Misreference {
    pub(super) span: Range<usize>,
    pub(super) key: String,
    pub(super) fault: Fault,
}

/// Turns the parser's tree into ours.
pub(super) struct Converter<'a> {
    pub(super) interpolator: Interpolator<'a>,
    pub(super) misreferences: Vec<Misreference>,
}

impl Converter<'_> {
    pub(super) fn table(&mut self, table: &DeTable<'_>, path: &str) -> Vec<Entry> {
        table
            .iter()
            .map(|(key, value)| {
                let path = join(path, key.get_ref());
                Entry {
                    key: key.get_ref().to_string(),
                    key_span: key.span(),
                    node: self.node(value.get_ref(), value.span(), &path),
                }
            })
            .collect()
    }

    fn node(&mut self, value: &DeValue<'_>, span: Range<usize>, path: &str) -> Node {
        let mut interpolated = false;
        let value = match value {
            DeValue::String(text) => {
                interpolated = text.contains("${");
                self.string(text, &span, path)
            }
            DeValue::Integer(integer) => {
                Value::Integer(i64::from_str_radix(integer.as_str(), integer.radix()).ok())
            }
            DeValue::Float(float) => Value::Float(float.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(boolean) => Value::Boolean(*boolean),
            DeValue::Datetime(datetime) => Value::Datetime(datetime.to_string()),
            DeValue::Array(items) => Value::Array(
                items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| {
                        self.node(item.get_ref(), item.span(), &join(path, &index.to_string()))
                    })
                    .collect(),
            ),
            DeValue::Table(table) => Value::Table(self.table(table, path)),
        };
        Node {
            value,
            span,
            interpolated,
        }
    }

    fn string(&mut self, text: &str, span: &Range<usize>, path: &str) -> Value {
        match self.interpolator.interpolate(text) {
            Ok(text) => Value::String(text),
            Err(faults) => {
                self.misreferences
                    .extend(faults.into_iter().map(|fault| Misreference {
                        span: span.clone(),
                        key: path.to_owned(),
                        fault,
                    }));
                Value::Unresolved
            }
        }
    }
}

/// One step further down a dotted path.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
