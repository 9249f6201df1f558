//! The built book: its pages, and whether its links lead somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Links of a page that lead to no page, or to no place on it.
pub(crate) fn broken_links(book: &Path) -> Vec<String> {
    let pages = pages(book);
    assert!(pages.len() > 10, "only {} pages", pages.len());
    let places: BTreeMap<_, _> = pages
        .iter()
        .map(|(name, text)| (name.as_str(), attribute(text, "id")))
        .collect();
    let mut broken = Vec::new();
    for (name, text) in &pages {
        for link in attribute(text, "href") {
            if link.contains(':') || link.is_empty() {
                continue;
            }
            let (page, place) = link.split_once('#').unwrap_or((link, ""));
            let page = if page.is_empty() { name.as_str() } else { page };
            let leads = match places.get(page) {
                Some(places) => place.is_empty() || places.contains(place),
                // Style sheets, icons.
                None => !page.ends_with(".md") && book.join(page).exists(),
            };
            if !leads {
                broken.push(format!("{name}: {link}"));
            }
        }
    }
    broken
}

/// All but the one that is the others put together.
fn pages(book: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(book).expect("the book was built");
    let files = entries.map(|entry| entry.expect("it can be read").path());
    let mut pages = Vec::new();
    for file in files.filter(|file| file.extension().is_some_and(|ending| ending == "html")) {
        let name = file.file_name().expect("a file has a name");
        let name = name.to_string_lossy().into_owned();
        if !["print.html", "toc.html", "404.html"].contains(&name.as_str()) {
            let text = fs::read_to_string(&file).expect("a page is text");
            pages.push((name, text));
        }
    }
    pages
}

fn attribute<'t>(text: &'t str, name: &str) -> BTreeSet<&'t str> {
    let start = format!(" {name}=\"");
    let values = text.split(start.as_str()).skip(1);
    values.filter_map(|rest| rest.split('"').next()).collect()
}
