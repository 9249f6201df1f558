//! The page of the contract, made of `wit/`: a heading for each interface and item, its shape, and what its comments say.

use std::fmt::Write as _;

/// In the order in which `wit/README.md` has them.
pub(crate) const FILES: [&str; 20] = [
    "worlds",
    "lifecycle",
    "request-hook",
    "response-hook",
    "completion-hook",
    "exchange",
    "request",
    "response",
    "transform",
    "trailers",
    "held",
    "types",
    "log",
    "clock",
    "http-client",
    "message-hook",
    "messages",
    "keyvalue",
    "metrics",
    "secrets",
];

/// The page, of the texts of [`FILES`].
pub(crate) fn page(texts: &[String]) -> String {
    let mut page = String::from(
        "# The contract\n\n\
         The package `witgate:plugin`, as its files in `wit/` have it, in reading order. This page is made of them.\n\
         [`wit/README.md`](../wit/README.md) says what holds everywhere; [writing a plugin](plugins.md) is the way in.\n",
    );
    for text in texts {
        describe(text, &mut page);
    }
    page
}

/// One file: comments gather until the line that they are about.
fn describe(text: &str, page: &mut String) {
    let mut comment: Vec<&str> = Vec::new();
    let mut lines = text.lines().map(str::trim).peekable();
    while let Some(line) = lines.next() {
        if let Some(words) = line.strip_prefix("///") {
            comment.push(words.strip_prefix(' ').unwrap_or(words));
        } else if let Some(name) = container(line) {
            heading(page, "##", name, &std::mem::take(&mut comment));
        } else if let Some(name) = item(line) {
            let (shape, parts) = item_of(line, &mut lines);
            let level = if line.starts_with("world ") {
                "##"
            } else {
                "###"
            };
            heading(page, level, name, &[]);
            write!(page, "\n```wit\n{shape}```\n").expect("a String takes all that is written");
            paragraph(page, &std::mem::take(&mut comment));
            listed(page, &parts);
        } else if !line.starts_with('@') {
            comment.clear();
        }
    }
}

/// The name of an interface that begins here.
fn container(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("interface ")?;
    rest.strip_suffix('{').map(str::trim)
}

/// The name of a world, a type or a function that begins here.
fn item(line: &str) -> Option<&str> {
    for kind in [
        "world ",
        "record ",
        "variant ",
        "enum ",
        "flags ",
        "resource ",
        "type ",
    ] {
        if let Some(rest) = line.strip_prefix(kind) {
            return rest.split([' ', '{', '=', ';']).next();
        }
    }
    let (name, rest) = line.split_once(':')?;
    let is_name = name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-%".contains(&byte));
    (is_name && rest.trim_start().starts_with("func(")).then_some(name)
}

/// What an item looks like without its comments, and its parts with theirs.
fn item_of<'a>(
    first: &'a str,
    lines: &mut impl Iterator<Item = &'a str>,
) -> (String, Vec<(String, Vec<&'a str>)>) {
    let mut shape = format!("{first}\n");
    let mut parts = Vec::new();
    let mut comment = Vec::new();
    let mut depth = first.matches('{').count() - first.matches('}').count();
    while depth > 0 {
        let Some(line) = lines.next() else { break };
        if let Some(words) = line.strip_prefix("///") {
            comment.push(words.strip_prefix(' ').unwrap_or(words));
            continue;
        }
        depth = (depth + line.matches('{').count()).saturating_sub(line.matches('}').count());
        if line.is_empty() || line.starts_with('@') {
            continue;
        }
        let indent = if depth > 0 { "    " } else { "" };
        writeln!(shape, "{indent}{line}").expect("a String takes all that is written");
        let name = line.split([':', '(', ',']).next().unwrap_or(line).trim();
        parts.push((name.to_owned(), std::mem::take(&mut comment)));
    }
    (shape, parts)
}

fn heading(page: &mut String, level: &str, name: &str, comment: &[&str]) {
    write!(page, "\n{level} `{name}`\n").expect("a String takes all that is written");
    paragraph(page, comment);
}

fn paragraph(page: &mut String, comment: &[&str]) {
    if !comment.is_empty() {
        write!(page, "\n{}\n", comment.join("\n")).expect("a String takes all that is written");
    }
}

/// The parts that have anything said about them.
fn listed(page: &mut String, parts: &[(String, Vec<&str>)]) {
    let described = parts.iter().filter(|(_, comment)| !comment.is_empty());
    for (at, (name, comment)) in described.enumerate() {
        let before = if at == 0 { "\n" } else { "" };
        let words = comment.join("\n  ");
        writeln!(
            page,
            "{before}- `{name}`: {}",
            words.replace("\n  \n", "\n\n")
        )
        .expect("a String takes all that is written");
    }
}
