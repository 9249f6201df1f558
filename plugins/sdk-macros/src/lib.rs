//! `#[derive(ConfigSchema)]` of the crate `witgate-plugin`, which documents it.
//!
//! The schema is put together while the plugin is compiled, from what serde's attributes say. In the component it is a few
//! texts that are joined.

mod attributes;
mod case;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, Type, parse_macro_input};

use crate::attributes::{Attributes, description};
use crate::case::Case;

/// Derives `witgate_plugin::ConfigSchema`.
#[proc_macro_derive(ConfigSchema, attributes(serde))]
pub fn config_schema(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    derive(&input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

fn derive(input: &DeriveInput) -> Result<TokenStream, Error> {
    let attributes = Attributes::of(&input.attrs)?;
    let members = match (&attributes.from, &input.data) {
        (Some(other), _) => quote! { <#other as ::witgate_plugin::ConfigSchema>::members(to); },
        (None, Data::Struct(data)) => of_struct(&data.fields, &attributes, input)?,
        (None, Data::Enum(data)) => of_enum(data, &attributes)?,
        (None, Data::Union(_)) => return Err(Error::new_spanned(input, "a union is no table")),
    };
    let name = &input.ident;
    let (generics, arguments, bounds) = input.generics.split_for_impl();
    let description = description(&input.attrs);
    Ok(quote! {
        impl #generics ::witgate_plugin::ConfigSchema for #name #arguments #bounds {
            const DESCRIPTION: &'static str = #description;

            fn members(to: &mut ::std::string::String) {
                #members
            }
        }
    })
}

fn of_struct(
    fields: &Fields,
    attributes: &Attributes,
    input: &DeriveInput,
) -> Result<TokenStream, Error> {
    match fields {
        Fields::Named(_) => object(fields, attributes),
        // serde reads it as what is in it.
        Fields::Unnamed(inner) if inner.unnamed.len() == 1 => {
            let inner = &inner.unnamed[0].ty;
            Ok(quote! { <#inner as ::witgate_plugin::ConfigSchema>::members(to); })
        }
        Fields::Unnamed(_) | Fields::Unit => Err(Error::new_spanned(
            input,
            "name the fields: a configuration is a table",
        )),
    }
}

/// The members of the schema of a table.
fn object(fields: &Fields, attributes: &Attributes) -> Result<TokenStream, Error> {
    let case = attributes.rename_all.unwrap_or(Case::Snake);
    let mut properties = Vec::new();
    let mut required = Vec::new();
    for field in fields {
        let own = Attributes::of(&field.attrs)?;
        if own.skip {
            continue;
        }
        let name = field.ident.as_ref().map(ToString::to_string);
        let name = name.unwrap_or_default();
        let name = name.trim_start_matches("r#");
        let key = own.rename.clone().unwrap_or_else(|| case.of_field(name));
        let comma = if properties.is_empty() { "" } else { "," };
        let mut start = format!("{comma}{}:{{", json(&key));
        let described = description(&field.attrs);
        if !described.is_empty() {
            start += &format!("\"description\":{},", json(&described));
        }
        properties.push(property(&start, &field.ty, own.is_read_otherwise));
        if !own.default && !attributes.default && !is_option(&field.ty) {
            required.push(json(&key));
        }
    }
    let mut end = String::from("}");
    if !required.is_empty() {
        end += &format!(",\"required\":[{}]", required.join(","));
    }
    if attributes.deny_unknown_fields {
        end += ",\"additionalProperties\":false";
    }
    Ok(quote! {
        to.push_str("\"type\":\"object\",\"properties\":{");
        #(#properties)*
        to.push_str(#end);
    })
}

fn property(start: &str, of: &Type, is_read_otherwise: bool) -> TokenStream {
    // A function of the plugin's own reads it, so that its type says nothing.
    let members = match is_read_otherwise {
        true => quote! { ::witgate_plugin::__private::any(to); },
        false => quote! { <#of as ::witgate_plugin::ConfigSchema>::members(to); },
    };
    quote! {
        to.push_str(#start);
        #members
        to.push('}');
    }
}

/// A word for each variant without anything in it, a table with the variant as its only key for each other.
fn of_enum(data: &syn::DataEnum, attributes: &Attributes) -> Result<TokenStream, Error> {
    let case = attributes.rename_all.unwrap_or(Case::Pascal);
    let mut words = Vec::new();
    let mut tables = Vec::new();
    for variant in &data.variants {
        let own = Attributes::of(&variant.attrs)?;
        if own.skip {
            continue;
        }
        let name = variant.ident.to_string();
        let key = own.rename.clone().unwrap_or_else(|| case.of_variant(&name));
        let key = json(&key);
        let inner = match &variant.fields {
            Fields::Unit => {
                words.push(key);
                continue;
            }
            Fields::Named(_) => object(&variant.fields, &own)?,
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
                let inner = &fields.unnamed[0].ty;
                quote! { <#inner as ::witgate_plugin::ConfigSchema>::members(to); }
            }
            Fields::Unnamed(_) => {
                return Err(Error::new_spanned(
                    variant,
                    "name the fields of this variant",
                ));
            }
        };
        let start = format!("{{\"type\":\"object\",\"properties\":{{{key}:{{");
        let end = format!("}}}},\"required\":[{key}],\"additionalProperties\":false}}");
        tables.push(quote! {
            to.push_str(#start);
            #inner
            to.push_str(#end);
        });
    }
    let words = format!("\"enum\":[{}]", words.join(","));
    if tables.is_empty() {
        return Ok(quote! { to.push_str(#words); });
    }
    let first = match data.variants.len() == tables.len() {
        true => None,
        false => {
            let words = format!("{{{words}}}");
            Some(quote! { to.push_str(#words); })
        }
    };
    let alternatives = first.into_iter().chain(tables);
    Ok(quote! {
        to.push_str("\"oneOf\":[");
        let alternatives: &[fn(&mut ::std::string::String)] = &[#(|to| { #alternatives }),*];
        for (at, alternative) in alternatives.iter().enumerate() {
            if at > 0 {
                to.push(',');
            }
            alternative(to);
        }
        to.push(']');
    })
}

fn is_option(of: &Type) -> bool {
    let Type::Path(path) = of else { return false };
    let last = path.path.segments.last();
    last.is_some_and(|segment| segment.ident == "Option")
}

/// A text as JSON.
fn json(text: &str) -> String {
    let mut json = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            character if character.is_control() => {
                json.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            character => json.push(character),
        }
    }
    json + "\""
}
