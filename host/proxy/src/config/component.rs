//! Reads `component`: where a plugin's component is from, and which one it has to be.

use std::fs::Metadata;

use super::model::{ComponentSource, Pin};
use super::plugin::existing;
use super::shape::{Located, path, table};
use super::{Item, Location, Problem, Reader, Section};

/// `component`
pub(super) struct Component {
    pub(super) source: ComponentSource,
    pub(super) pin: Option<Pin>,
    /// Where the source stands in the file.
    pub(super) location: Location,
}

/// A string, or a table that names one source and what is known of it.
pub(super) fn read(item: &Item<'_>) -> Option<Component> {
    if item.is_table() {
        return table(read_table)(item);
    }
    Some(Component {
        source: source(item)?,
        pin: None,
        location: item.location(),
    })
}

fn read_table(section: &mut Section<'_>) -> Option<Component> {
    let file = section.required("path", "\"my-plugin.wasm\"", |item| {
        Some((file(item)?, item.location()))
    });
    let pin = section.optional("sha256", |item| {
        let digest = digest(item)?;
        let location = item.location();
        Some(Pin { digest, location })
    });
    let (source, location) = file?;
    Some(Component {
        source,
        pin,
        location,
    })
}

fn source(item: &Item<'_>) -> Option<ComponentSource> {
    let text = item
        .text("\"builtin:NAME\", the path of a component, or { path = \"…\", sha256 = \"…\" }")?;
    match text.split_once(':') {
        Some(("builtin", "")) => item.reject(
            "`builtin:` without a name",
            "name the plugin: \"builtin:host-rewrite\"",
        ),
        Some(("builtin", name)) => Some(ComponentSource::Builtin(name.into())),
        _ => file(item),
    }
}

fn file(item: &Item<'_>) -> Option<ComponentSource> {
    let text = item.text("the path of a component")?;
    match text.split_once(':') {
        Some(("builtin", _)) => item.reject(
            "a built-in component is no file",
            format!("it is part of the program, and needs no digest: component = \"{text}\""),
        ),
        Some((_, rest)) if rest.starts_with("//") => item.reject(
            "components are not fetched",
            "put the file beside this one and write its path",
        ),
        _ => {
            let path = path(item)?;
            existing(item, &path, Metadata::is_file, "file").then_some(ComponentSource::Path(path))
        }
    }
}

fn digest(item: &Item<'_>) -> Option<[u8; 32]> {
    let text = item.text("a SHA-256 digest, 64 hexadecimal digits")?;
    parse(text).or_else(|| {
        item.reject(
            format!("{} is no SHA-256 digest", item.shown()),
            "write the 64 hexadecimal digits that `sha256sum FILE` prints",
        )
    })
}

fn parse(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|digit| digit.try_into().ok()))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect();
    (digits.len() == 64).then_some(())?;
    bytes.try_into().ok()
}

/// `watch = true` wants a component that can change.
pub(super) fn check_watch(reader: &Reader<'_>, component: &Component, watch: &Located<bool>) {
    let problem = |message| Problem::error(watch.location.clone(), &watch.path, message);
    if let ComponentSource::Builtin(_) = component.source {
        reader.report(
            problem("a built-in component never changes, so there is nothing to watch")
                .with_help("leave `watch` out, or name a file as the component"),
        );
    } else if let Some(pin) = &component.pin {
        reader.report(
            problem("`watch` takes up the file that comes, and `sha256` allows no other")
                .with_help("leave one of the two out")
                .with_related(pin.location.clone(), "pinned here"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_64_hexadecimal_digits_of_either_case() {
        let text = "00ff".repeat(16);
        let digest = parse(&text).expect("it is one");
        assert_eq!((digest[0], digest[1], digest[31]), (0, 0xff, 0xff));
        assert_eq!(parse(&text.to_uppercase()), Some(digest));
        for wrong in [
            "",
            &text[1..],
            &format!("{text}0"),
            &format!("{text}00"),
            &text.replace('f', "g"),
            &format!("sha256:{text}"),
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
