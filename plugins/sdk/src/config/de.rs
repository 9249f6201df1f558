//! Configuration values from JSON, with errors that know the key they are about.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, Expected, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::json::{Kind, Reader, SyntaxError};

/// One mistake; serde stops at the first.
#[derive(Debug)]
pub(super) struct Mistake {
    /// From the innermost key outwards.
    path: Vec<String>,
    message: String,
}

/// Reads a value from a JSON text.
pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, Mistake> {
    let mut reader = Reader::new(text);
    let value = T::deserialize(Value(&mut reader))?;
    reader.end()?;
    Ok(value)
}

impl Mistake {
    /// Dotted path of the key and message.
    pub(super) fn into_parts(mut self) -> (String, String) {
        self.path.reverse();
        (self.path.join("."), self.message)
    }

    fn new(message: String) -> Self {
        Self {
            path: Vec::new(),
            message,
        }
    }

    fn within(mut self, key: impl Into<String>) -> Self {
        self.path.push(key.into());
        self
    }
}

/// The sentences of serde, in the words of TOML, and without the value: it may be a secret.
impl de::Error for Mistake {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        let expected = match expected.as_str() {
            "a sequence" => "a list",
            "a map" => "a table",
            other if other.starts_with("struct ") => "a table",
            other => other,
        };
        let found = match found {
            Unexpected::Bool(_) => "a boolean",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
            Unexpected::Float(_) => "a float",
            Unexpected::Str(_) | Unexpected::Char(_) | Unexpected::Bytes(_) => "a string",
            Unexpected::Seq => "a list",
            Unexpected::Map => "a table",
            _ => "nothing",
        };
        Self::new(format!("expected {expected}, found {found}"))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {expected}"))
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Self {
        match known {
            [] => Self::new("unknown key; there is nothing to configure".to_owned()),
            known => Self::new(format!("unknown key; there is `{}`", known.join("`, `"))),
        }
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(format!("the key `{key}` is missing"))
    }
}

impl From<SyntaxError> for Mistake {
    fn from(_: SyntaxError) -> Self {
        Self::new("the host handed over a configuration that is no JSON".to_owned())
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Mistake {}

/// The next value of a text.
struct Value<'r, 'de>(&'r mut Reader<'de>);

impl<'de> Value<'_, 'de> {
    fn mismatch(self, expected: &dyn Expected) -> Mistake {
        match self.0.kind() {
            Ok(kind) => de::Error::invalid_type(kind.found(), expected),
            Err(error) => error.into(),
        }
    }

    fn integer<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        if self.0.kind()? != Kind::Number {
            return Err(self.mismatch(&visitor));
        }
        let digits = self.0.number()?;
        if let Ok(value) = digits.parse::<u64>() {
            visitor.visit_u64(value)
        } else if let Ok(value) = digits.parse::<i64>() {
            visitor.visit_i64(value)
        } else {
            Err(de::Error::invalid_type(Unexpected::Float(0.0), &visitor))
        }
    }

    fn float<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        if self.0.kind()? != Kind::Number {
            return Err(self.mismatch(&visitor));
        }
        visitor.visit_f64(self.0.number()?.parse().map_err(|_| SyntaxError)?)
    }

    fn string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        if self.0.kind()? != Kind::String {
            return Err(self.mismatch(&visitor));
        }
        visit(visitor, self.0.string()?)
    }
}

impl Kind {
    fn found(self) -> Unexpected<'static> {
        match self {
            Self::Object => Unexpected::Map,
            Self::Array => Unexpected::Seq,
            Self::String => Unexpected::Str(""),
            Self::Number => Unexpected::Unsigned(0),
            Self::Boolean => Unexpected::Bool(false),
            Self::Null => Unexpected::Unit,
        }
    }
}

fn visit<'de, V: Visitor<'de>>(visitor: V, string: Cow<'de, str>) -> Result<V::Value, Mistake> {
    match string {
        Cow::Borrowed(string) => visitor.visit_borrowed_str(string),
        Cow::Owned(string) => visitor.visit_string(string),
    }
}

macro_rules! deserialize {
    ($reader:ident: $($method:ident)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
            self.$reader(visitor)
        })+
    };
}

impl<'de> de::Deserializer<'de> for Value<'_, 'de> {
    type Error = Mistake;

    deserialize!(integer: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64);
    deserialize!(integer: deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64);
    deserialize!(float: deserialize_f32 deserialize_f64);
    deserialize!(string: deserialize_char deserialize_str deserialize_string deserialize_identifier);
    deserialize!(string: deserialize_bytes deserialize_byte_buf);

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.0.kind()? {
            Kind::Object => self.deserialize_map(visitor),
            Kind::Array => self.deserialize_seq(visitor),
            Kind::String => self.string(visitor),
            Kind::Boolean => self.deserialize_bool(visitor),
            Kind::Null => self.deserialize_unit(visitor),
            Kind::Number => {
                let number = self.0.number()?;
                if let Ok(value) = number.parse() {
                    visitor.visit_u64(value)
                } else if let Ok(value) = number.parse() {
                    visitor.visit_i64(value)
                } else {
                    visitor.visit_f64(number.parse().map_err(|_| SyntaxError)?)
                }
            }
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        if self.0.kind()? != Kind::Boolean {
            return Err(self.mismatch(&visitor));
        }
        visitor.visit_bool(self.0.boolean()?)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        if self.0.kind()? != Kind::Null {
            return Err(self.mismatch(&visitor));
        }
        self.0.null()?;
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        if self.0.kind()? != Kind::Null {
            return visitor.visit_some(self);
        }
        self.0.null()?;
        visitor.visit_none()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        if self.0.kind()? != Kind::Array {
            return Err(self.mismatch(&visitor));
        }
        self.0.expect(b'[')?;
        visitor.visit_seq(Items {
            reader: self.0,
            index: 0,
        })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        if self.0.kind()? != Kind::Object {
            return Err(self.mismatch(&visitor));
        }
        self.0.expect(b'{')?;
        visitor.visit_map(Entries {
            reader: self.0,
            key: None,
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        match self.0.kind()? {
            Kind::String => visitor.visit_enum(Name(self.0.string()?)),
            Kind::Object => {
                self.0.expect(b'{')?;
                visitor.visit_enum(Variant {
                    reader: self.0,
                    name: None,
                })
            }
            _ => Err(self.mismatch(&visitor)),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.0.skip()?;
        visitor.visit_unit()
    }
}

/// The items of a list, after its `[`.
struct Items<'r, 'de> {
    reader: &'r mut Reader<'de>,
    index: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'_, 'de> {
    type Error = Mistake;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Mistake> {
        if self.reader.take(b']') {
            return Ok(None);
        }
        if self.index > 0 {
            self.reader.expect(b',')?;
        }
        let item = seed
            .deserialize(Value(self.reader))
            .map_err(|e| e.within(self.index.to_string()))?;
        self.index += 1;
        Ok(Some(item))
    }
}

/// The entries of a table, after its `{`.
struct Entries<'r, 'de> {
    reader: &'r mut Reader<'de>,
    key: Option<Cow<'de, str>>,
}

impl<'de> de::MapAccess<'de> for Entries<'_, 'de> {
    type Error = Mistake;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Mistake> {
        if self.reader.take(b'}') {
            return Ok(None);
        }
        if self.key.is_some() {
            self.reader.expect(b',')?;
        }
        let key = self.reader.string()?;
        self.reader.expect(b':')?;
        let value = seed
            .deserialize(Name(key.clone()))
            .map_err(|e| e.within(key.clone()))?;
        self.key = Some(key);
        Ok(Some(value))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mistake> {
        seed.deserialize(Value(self.reader))
            .map_err(|e| e.within(self.key.clone().unwrap_or_default()))
    }
}

/// A key of a table or the name of a variant.
struct Name<'de>(Cow<'de, str>);

impl<'de> de::Deserializer<'de> for Name<'de> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visit(visitor, self.0)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A variant without content: `"name"`.
impl<'de> de::EnumAccess<'de> for Name<'de> {
    type Error = Mistake;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Mistake> {
        Ok((seed.deserialize(Name(self.0.clone()))?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Name<'de> {
    type Error = Mistake;

    fn unit_variant(self) -> Result<(), Mistake> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Mistake> {
        Err(self.lacks_content())
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Mistake> {
        Err(self.lacks_content())
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Mistake> {
        Err(self.lacks_content())
    }
}

impl Name<'_> {
    fn lacks_content(self) -> Mistake {
        Mistake::new(format!(
            "expected a table with the key `{}`, found a string",
            self.0
        ))
    }
}

/// A variant with content: `{"name": …}`, after the `{`.
struct Variant<'r, 'de> {
    reader: &'r mut Reader<'de>,
    name: Option<Cow<'de, str>>,
}

impl<'de> de::EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Mistake;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(
        mut self,
        seed: V,
    ) -> Result<(V::Value, Self), Mistake> {
        let name = self.reader.string()?;
        self.reader.expect(b':')?;
        let variant = seed
            .deserialize(Name(name.clone()))
            .map_err(|e| e.within(name.clone()))?;
        self.name = Some(name);
        Ok((variant, self))
    }
}

impl<'de> Variant<'_, 'de> {
    fn content<T>(
        self,
        read: impl FnOnce(Value<'_, 'de>) -> Result<T, Mistake>,
    ) -> Result<T, Mistake> {
        let content =
            read(Value(self.reader)).map_err(|e| e.within(self.name.unwrap_or_default()))?;
        self.reader.expect(b'}')?;
        Ok(content)
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Mistake;

    fn unit_variant(self) -> Result<(), Mistake> {
        self.content(|value| de::Deserialize::deserialize(value))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Mistake> {
        self.content(|value| seed.deserialize(value))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Mistake> {
        self.content(|value| de::Deserializer::deserialize_seq(value, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.content(|value| de::Deserializer::deserialize_map(value, visitor))
    }
}
