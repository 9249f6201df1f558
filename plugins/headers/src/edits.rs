//! What is done to one head: first removed, then set, then appended.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use witgate_plugin::{
    ConfigErrors, ConfigSchema, Exchange, HeadError, Request, Response, Template, check_header_name,
};

/// The tables `config.request` and `config.response`.
#[derive(Default, Deserialize, ConfigSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Replaces all values of a header by one, or by several.
    #[serde(default)]
    set: BTreeMap<String, Values>,
    /// Adds one or several behind those that are there.
    #[serde(default)]
    append: BTreeMap<String, Values>,
    /// Removes all values of a header.
    #[serde(default)]
    remove: Vec<String>,
}

/// A string, or a list of strings.
struct Values(Vec<String>);

impl ConfigSchema for Values {
    fn members(to: &mut String) {
        to.push_str(r#""oneOf":[{"type":"string"},{"type":"array","items":{"type":"string"}}]"#);
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;

        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E>(self, value: &str) -> Result<Values, E> {
                Ok(Values(vec![value.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Values, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Values(values))
            }
        }

        deserializer.deserialize_any(OneOrMore)
    }
}

/// The edits of one head, checked.
pub(crate) struct Edits {
    remove: Vec<String>,
    set: Vec<(String, Vec<Template>)>,
    append: Vec<(String, Vec<Template>)>,
}

impl Edits {
    pub(crate) fn new(config: Config, key: &str, errors: &mut ConfigErrors) -> Self {
        for (at, name) in config.remove.iter().enumerate() {
            check_name(name, &format!("{key}.remove.{at}"), errors);
        }
        Self {
            set: templates(config.set, &format!("{key}.set"), errors),
            append: templates(config.append, &format!("{key}.append"), errors),
            remove: config.remove,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.append.is_empty()
    }

    /// What is to be done in this exchange. All values are made of the request as it stands now, so that one may be
    /// made of a header that another edit takes away.
    pub(crate) fn plan<'a>(&'a self, exchange: &Exchange, request: &Request) -> Vec<Edit<'a>> {
        let mut plan: Vec<_> = self.remove.iter().map(|name| Edit::Remove(name)).collect();
        for (name, values) in &self.set {
            let mut values = values
                .iter()
                .filter_map(|value| value.fill(exchange, request));
            plan.push(match values.next() {
                Some(first) => Edit::Set(name, first),
                // Where no value stands for anything, what a client sent under that name must not stand either.
                None => Edit::Remove(name),
            });
            plan.extend(values.map(|value| Edit::Append(name, value)));
        }
        for (name, values) in &self.append {
            let values = values
                .iter()
                .filter_map(|value| value.fill(exchange, request));
            plan.extend(values.map(|value| Edit::Append(name, value)));
        }
        plan
    }
}

/// One change to a head.
pub(crate) enum Edit<'a> {
    Remove(&'a str),
    Set(&'a str, Cow<'a, [u8]>),
    Append(&'a str, Cow<'a, [u8]>),
}

/// A head that can be changed.
pub(crate) trait Head {
    fn remove(&mut self, name: &str) -> Result<(), HeadError>;
    fn set(&mut self, name: &str, value: &[u8]) -> Result<(), HeadError>;
    fn append(&mut self, name: &str, value: &[u8]) -> Result<(), HeadError>;
}

/// Carries a plan out.
pub(crate) fn apply(plan: Vec<Edit<'_>>, head: &mut impl Head) -> Result<(), HeadError> {
    plan.into_iter().try_for_each(|edit| match edit {
        Edit::Remove(name) => head.remove(name),
        Edit::Set(name, value) => head.set(name, &value),
        Edit::Append(name, value) => head.append(name, &value),
    })
}

macro_rules! head {
    ($type:ty) => {
        impl Head for $type {
            fn remove(&mut self, name: &str) -> Result<(), HeadError> {
                self.remove_header(name)
            }

            fn set(&mut self, name: &str, value: &[u8]) -> Result<(), HeadError> {
                self.set_header(name, value)
            }

            fn append(&mut self, name: &str, value: &[u8]) -> Result<(), HeadError> {
                self.append_header(name, value)
            }
        }
    };
}
head!(Request);
head!(Response);

fn templates(
    table: BTreeMap<String, Values>,
    key: &str,
    errors: &mut ConfigErrors,
) -> Vec<(String, Vec<Template>)> {
    let mut edits = Vec::new();
    let mut seen = BTreeMap::new();
    for (name, Values(texts)) in table {
        let key = format!("{key}.{name}");
        check_name(&name, &key, errors);
        if let Some(other) = seen.insert(name.to_ascii_lowercase(), name.clone()) {
            errors.push(
                &*key,
                format!("is the same header as `{other}`; header names ignore case"),
            );
        }
        if texts.is_empty() {
            errors.push(
                &*key,
                "needs a value; to take the header away, list it in `remove`",
            );
        }
        let one = texts.len() == 1;
        let mut values = Vec::new();
        for (at, text) in texts.iter().enumerate() {
            let key = if one {
                key.clone()
            } else {
                format!("{key}.{at}")
            };
            match Template::parse(text) {
                Ok(template) if template.literals().all(is_value) => values.push(template),
                Ok(_) => errors.push(key, "must not hold control characters"),
                Err(what) => errors.push(key, what),
            }
        }
        edits.push((name, values));
    }
    edits
}

fn check_name(name: &str, key: &str, errors: &mut ConfigErrors) {
    if let Err(mistake) = check_header_name(name) {
        errors.push(key, mistake);
    }
}

/// RFC 9110 §5.5: visible characters, space, tab and what is beyond ASCII.
fn is_value(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
}
