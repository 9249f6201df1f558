//! `witgate plugin inspect`: what a component is, before it is trusted with anything.

use std::fmt::Write as _;

use serde_json::{Value, json};
use witgate_build::Metadata;
use witgate_proxy::config::CodeCache;
use witgate_proxy::{Need, need};
use witgate_runtime::{CONTRACT_VERSION, Interfaces, digest_of, interfaces_of};

use super::args::Inspect;
use super::component;
use crate::{Ended, check, load, output, schema};

/// Everything that is to be said of a component.
struct Found {
    file: String,
    metadata: Metadata,
    hooks: Vec<String>,
    interfaces: Interfaces,
    /// `None` when it has none.
    schema: Option<Value>,
    bytes: usize,
    sha256: String,
}

pub(crate) fn inspect(args: &Inspect) -> Result<(), Ended> {
    let bytes = component::read(&args.component)?;
    let interfaces = interfaces_of(&bytes);
    let digest = digest_of(&bytes);
    let runtime = load::runtime(&CodeCache::Default)?;
    let found = Found {
        file: args.component.clone(),
        metadata: Metadata::of(&bytes),
        schema: schema::of_component(&runtime, &args.component, &bytes)?,
        hooks: component::hooks(&interfaces.exports)
            .into_iter()
            .map(str::to_owned)
            .collect(),
        interfaces,
        bytes: bytes.len(),
        sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    match (&found.schema, args) {
        (Some(schema), Inspect { schema: true, .. }) => output::line(format_args!("{schema:#}"))?,
        (None, Inspect { schema: true, .. }) => {
            return Err(Ended::because(format!(
                "{} has no schema of its configuration",
                args.component
            )));
        }
        (_, Inspect { json: true, .. }) => output::line(format_args!("{:#}", found.json()))?,
        _ => output::print(found.text().map_err(Ended::because)?)?,
    }
    Ok(())
}

impl Found {
    fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        let metadata = &self.metadata;
        writeln!(text, "{}", self.file)?;
        let mut line = |what: &str, value: &str| writeln!(text, "  {what:<12} {value}");
        let rows = [
            ("name", &metadata.name),
            ("version", &metadata.version),
            ("description", &metadata.description),
            ("authors", &metadata.authors),
            ("licence", &metadata.licenses),
        ];
        for (what, value) in rows {
            if let Some(value) = value {
                line(what, &printable(value))?;
            }
        }
        line("contract", &format!("witgate:plugin@{CONTRACT_VERSION}"))?;
        line("hooks", &self.hooks.join(", "))?;
        line("size", &component::size(self.bytes))?;
        line("sha256", &self.sha256)?;
        let imports = self.interfaces.imports.iter().map(String::as_str);
        let (needy, free): (Vec<&str>, Vec<&str>) =
            imports.partition(|import| need(import).is_some());
        for import in needy {
            let needs = match need(import) {
                Some(Need::Grant(key)) => format!("{import}: of use with `grant.{key}`"),
                Some(Need::Refused) | None => format!("{import}: never granted"),
            };
            line("import", &needs)?;
        }
        if !free.is_empty() {
            line("free imports", &check::packages(free.into_iter()))?;
        }
        let schema = match &self.schema {
            None => "none",
            Some(_) => "of its configuration: `--schema` prints it",
        };
        line("schema", schema)?;
        Ok(text)
    }

    fn json(&self) -> Value {
        let import = |name: &String| {
            let (grant, is_refused) = match need(name) {
                Some(Need::Grant(key)) => (Some(key), false),
                Some(Need::Refused) => (None, true),
                None => (None, false),
            };
            json!({ "name": name, "grant": grant, "refused": is_refused })
        };
        json!({
            "file": self.file,
            "name": self.metadata.name,
            "version": self.metadata.version,
            "description": self.metadata.description,
            "authors": self.metadata.authors,
            "licenses": self.metadata.licenses,
            "contract": CONTRACT_VERSION,
            "hooks": self.hooks,
            "imports": self.interfaces.imports.iter().map(import).collect::<Vec<_>>(),
            "bytes": self.bytes,
            "sha256": self.sha256,
            "config-schema": self.schema,
        })
    }
}

/// Text of a component from anywhere, fit for a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|character| match character.is_control() {
            true => '\u{fffd}',
            false => character,
        })
        .collect()
}
