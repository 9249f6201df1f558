//! What a component says of itself, in custom sections that other tools of WebAssembly write and read as well: the
//! component's name, and `version`, `authors`, `licenses`, `description`, each UTF-8.

/// What a component says of itself; nothing of it is checked by anybody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// What it is called.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Who made it.
    pub authors: Option<String>,
    /// An SPDX expression.
    pub licenses: Option<String>,
    /// One sentence.
    pub description: Option<String>,
}

/// The custom section of a component's names, and in it the part that has its own name.
const NAMES: &str = "component-name";
const OWN_NAME: u8 = 0;

/// Magic number and version of a component.
const HEADER: &[u8; 8] = b"\0asm\x0d\0\x01\0";

/// Longer ones say nothing to people; a component from elsewhere may hold anything.
const LONGEST: usize = 4096;

impl Metadata {
    /// The component with this said of it; what is `None` is left as it was. With its own name, it loses those that the
    /// tool that made it gave to its parts: they say nothing to anybody, and take 2 KB. What a trap names stays.
    pub fn added_to(&self, component: &[u8]) -> Vec<u8> {
        let mut new = Vec::new();
        let mut replaced = Vec::new();
        if let Some(name) = &self.name {
            let mut part = vec![OWN_NAME];
            let mut content = Vec::new();
            put_bytes(&mut content, name.as_bytes());
            put_bytes(&mut part, &content);
            put_section(&mut new, NAMES, &part);
            replaced.push(NAMES);
        }
        for (name, value) in self.texts() {
            if let Some(value) = value {
                put_section(&mut new, name, value.as_bytes());
                replaced.push(name);
            }
        }
        let mut bytes = HEADER.to_vec();
        for section in sections(component) {
            if !section.name.is_some_and(|name| replaced.contains(&name)) {
                bytes.extend_from_slice(section.whole);
            }
        }
        bytes.extend_from_slice(&new);
        bytes
    }

    /// What a component says of itself.
    pub fn of(component: &[u8]) -> Self {
        let mut found = Self::default();
        for section in sections(component) {
            let Some(name) = section.name else { continue };
            if name == NAMES {
                found.name = own_name(section.content).or(found.name);
                continue;
            }
            let text = || {
                let text = str::from_utf8(section.content).ok()?;
                (text.len() <= LONGEST).then(|| text.to_owned())
            };
            match name {
                "version" => found.version = text(),
                "authors" => found.authors = text(),
                "licenses" => found.licenses = text(),
                "description" => found.description = text(),
                _ => {}
            }
        }
        found
    }

    fn texts(&self) -> [(&'static str, &Option<String>); 4] {
        [
            ("version", &self.version),
            ("authors", &self.authors),
            ("licenses", &self.licenses),
            ("description", &self.description),
        ]
    }
}

/// A section of a component's outermost level.
struct Section<'a> {
    /// With its id and size.
    whole: &'a [u8],
    /// Of a custom section.
    name: Option<&'a str>,
    /// Of a custom section, without its name.
    content: &'a [u8],
}

/// Up to the first that is damaged.
fn sections(component: &[u8]) -> impl Iterator<Item = Section<'_>> {
    let mut rest = component.strip_prefix(HEADER).unwrap_or_default();
    std::iter::from_fn(move || {
        let (&id, behind) = rest.split_first()?;
        let (content, behind) = take_bytes(behind)?;
        let whole = &rest[..rest.len() - behind.len()];
        rest = behind;
        let custom = (id == 0).then(|| take_bytes(content)).flatten();
        let (name, content) = custom.unzip();
        Some(Section {
            whole,
            name: name.and_then(|name| str::from_utf8(name).ok()),
            content: content.unwrap_or_default(),
        })
    })
}

fn own_name(names: &[u8]) -> Option<String> {
    let (&part, rest) = names.split_first()?;
    let (content, _) = take_bytes(rest)?;
    let (name, _) = take_bytes(content).filter(|_| part == OWN_NAME)?;
    let name = str::from_utf8(name).ok()?;
    (name.len() <= LONGEST).then(|| name.to_owned())
}

fn put_section(bytes: &mut Vec<u8>, name: &str, content: &[u8]) {
    let mut section = Vec::new();
    put_bytes(&mut section, name.as_bytes());
    section.extend_from_slice(content);
    bytes.push(0);
    put_bytes(bytes, &section);
}

/// Behind their number in LEB128.
fn put_bytes(bytes: &mut Vec<u8>, content: &[u8]) {
    let mut left = content.len();
    while left > 0x7f {
        bytes.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes.extend_from_slice(content);
}

/// What [`put_bytes`] wrote, and what is behind it.
fn take_bytes(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0_usize;
    for (at, &byte) in bytes.iter().enumerate().take(5) {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return bytes[at + 1..].split_at_checked(length);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> Metadata {
        Metadata {
            name: Some("hello".into()),
            version: Some("1.2.3".into()),
            authors: Some("A <a@example.com>".into()),
            licenses: Some("MIT".into()),
            description: Some("greets ".repeat(40)),
        }
    }

    #[test]
    fn what_is_said_is_read_again_and_replaced() {
        let component = said().added_to(HEADER);
        assert_eq!(Metadata::of(&component), said());

        let newer = Metadata {
            version: Some("2.0.0".into()),
            ..Metadata::default()
        };
        let expected = Metadata {
            version: Some("2.0.0".into()),
            ..said()
        };
        assert_eq!(Metadata::of(&newer.added_to(&component)), expected);
    }

    #[test]
    fn other_sections_stay_as_they_are() {
        // A custom section `x`, and a section of another kind.
        let others = [&HEADER[..], b"\0\x03\x01xy", b"\x07\x01\0"].concat();
        let component = said().added_to(&others);
        assert!(component.starts_with(&others));
    }

    #[test]
    fn what_is_damaged_says_nothing() {
        for bytes in [
            &b"text"[..],
            HEADER,
            b"\0asm\x0d\0\x01\0\0\xff\xff\xff\xff\xff\xff",
            b"\0asm\x0d\0\x01\0\0\x05\xff",
        ] {
            assert_eq!(Metadata::of(bytes), Metadata::default());
        }
    }
}
