//! What serde's attributes say of a type, a field or a variant.

use syn::meta::ParseNestedMeta;
use syn::{Attribute, Error, Expr, ExprLit, Lit, LitStr, Meta, Token, Type};

use crate::case::Case;

/// As far as it says anything about the schema.
#[derive(Default)]
pub(crate) struct Attributes {
    pub(crate) rename: Option<String>,
    pub(crate) rename_all: Option<Case>,
    pub(crate) default: bool,
    pub(crate) skip: bool,
    pub(crate) deny_unknown_fields: bool,
    /// By a function of the plugin's own.
    pub(crate) is_read_otherwise: bool,
    /// It is read as this, and then converted.
    pub(crate) from: Option<Type>,
}

impl Attributes {
    pub(crate) fn of(attributes: &[Attribute]) -> Result<Self, Error> {
        let mut found = Self::default();
        for attribute in attributes {
            if attribute.path().is_ident("serde") {
                attribute.parse_nested_meta(|meta| found.take(&meta))?;
            }
        }
        Ok(found)
    }

    fn take(&mut self, meta: &ParseNestedMeta<'_>) -> Result<(), Error> {
        let name = meta.path.get_ident().map(ToString::to_string);
        match name.unwrap_or_default().as_str() {
            "rename" => self.rename = Some(text(meta)?.value()),
            "rename_all" => {
                let text = text(meta)?;
                let case = Case::of_word(&text.value());
                self.rename_all =
                    Some(case.ok_or_else(|| Error::new(text.span(), "no such case"))?);
            }
            "default" => {
                self.default = true;
                skip_value(meta)?;
            }
            "skip" | "skip_deserializing" => self.skip = true,
            "deny_unknown_fields" => self.deny_unknown_fields = true,
            "deserialize_with" | "with" => {
                self.is_read_otherwise = true;
                skip_value(meta)?;
            }
            "from" | "try_from" => self.from = Some(text(meta)?.parse()?),
            "flatten" | "untagged" | "tag" | "content" => {
                return Err(meta.error(
                    "the schema of this cannot be derived; implement `ConfigSchema` for the type by hand",
                ));
            }
            // What is left is about writing, or about how the code is made.
            _ => skip_value(meta)?,
        }
        Ok(())
    }
}

/// The text in `name = "text"` or `name(deserialize = "text")`.
fn text(meta: &ParseNestedMeta<'_>) -> Result<LitStr, Error> {
    if meta.input.peek(Token![=]) {
        return meta.value()?.parse();
    }
    let mut found = None;
    meta.parse_nested_meta(|inner| {
        let text: LitStr = inner.value()?.parse()?;
        if inner.path.is_ident("deserialize") {
            found = Some(text);
        }
        Ok(())
    })?;
    found.ok_or_else(|| meta.error("there is no `deserialize` in it"))
}

fn skip_value(meta: &ParseNestedMeta<'_>) -> Result<(), Error> {
    if meta.input.peek(Token![=]) {
        meta.value()?.parse::<Expr>()?;
    } else if meta.input.peek(syn::token::Paren) {
        meta.parse_nested_meta(|inner| skip_value(&inner))?;
    }
    Ok(())
}

/// The doc comment, its lines joined.
pub(crate) fn description(attributes: &[Attribute]) -> String {
    let line = |attribute: &Attribute| match &attribute.meta {
        Meta::NameValue(doc) if doc.path.is_ident("doc") => match &doc.value {
            Expr::Lit(ExprLit {
                lit: Lit::Str(line),
                ..
            }) => Some(line.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    };
    let lines: Vec<_> = attributes.iter().filter_map(line).collect();
    lines
        .join("\n")
        .trim()
        .replace("\n\n", "\u{1}")
        .replace('\n', " ")
        .replace('\u{1}', "\n\n")
}
