//! Replaces values in a JSON document and leaves every other byte as it was.

use std::fmt;
use std::ops::Range;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::base::Base;
use crate::url;

/// The document with the client's base in its URLs.
///
/// Looks at the members of the object that the document is, or of the objects in the array that it is, and at nothing
/// below them: a page's title is the page's, whatever it says.
///
/// # Errors
///
/// When the document is no JSON text in UTF-8, or neither an object nor an array of objects.
pub(crate) fn rewrite(document: &[u8], base: &Base) -> Result<Vec<u8>, serde_json::Error> {
    let mut rewritten = Vec::with_capacity(document.len() + document.len() / 4);
    let mut copied = 0;
    for (range, value) in replacements(document, base)? {
        rewritten.extend_from_slice(&document[copied..range.start]);
        serde_json::to_writer(&mut rewritten, &value)?;
        copied = range.end;
    }
    rewritten.extend_from_slice(&document[copied..]);
    Ok(rewritten)
}

/// Where in the document another string is to stand, in order.
fn replacements(
    document: &[u8],
    base: &Base,
) -> Result<Vec<(Range<usize>, String)>, serde_json::Error> {
    let Targets(targets) = serde_json::from_slice(document)?;
    let members = targets.into_iter().flat_map(|Target(members)| members);
    Ok(members
        .filter_map(|(key, value)| {
            let rewrite = match key.as_str() {
                "webSocketDebuggerUrl" => url::web_socket,
                "devtoolsFrontendUrl" => url::front_end,
                _ => return None,
            };
            let old: String = serde_json::from_str(value.get()).ok()?;
            Some((span(document, value), rewrite(&old, base)?))
        })
        .collect())
}

/// A raw value borrows from the document, so its address tells where it stands.
fn span(document: &[u8], value: &RawValue) -> Range<usize> {
    let start = value.get().as_ptr().addr() - document.as_ptr().addr();
    start..start + value.get().len()
}

/// A document: one target, or a list of them.
struct Targets<'a>(Vec<Target<'a>>);

/// The members of an object in order, a name that occurs twice as often as it does.
struct Target<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Targets<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Document;

        impl<'de> Visitor<'de> for Document {
            type Value = Targets<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or an array of objects")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
                Target::deserialize(MapAccessDeserializer::new(members))
                    .map(|target| Targets(vec![target]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut targets = Vec::new();
                while let Some(target) = items.next_element()? {
                    targets.push(target);
                }
                Ok(Targets(targets))
            }
        }

        deserializer.deserialize_any(Document)
    }
}

impl<'de> Deserialize<'de> for Target<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Target<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Target(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(document: &str) -> String {
        let base = Base {
            scheme: "wss",
            authority: "box:9222".to_owned(),
            prefix: "/chrome".to_owned(),
            query: String::new(),
        };
        let document = rewrite(document.as_bytes(), &base).expect("a JSON document");
        String::from_utf8(document).expect("UTF-8")
    }

    #[test]
    fn only_the_urls_of_each_target_change() {
        let list = r#"[ {
   "description": "",
   "devtoolsFrontendUrl": "https://f.example/inspector.html?ws=127.0.0.1:9223/devtools/page/A",
   "id": "A",
   "title": "ws://127.0.0.1:9223/devtools/page/A \u003C\ud83d\u00e9 é",
   "url": "https://x.example/?webSocketDebuggerUrl=ws://127.0.0.1:9223/",
   "webSocketDebuggerUrl": "ws://127.0.0.1:9223/devtools/page/A"
}, {
   "webSocketDebuggerUrl":"ws://127.0.0.1:9223/devtools/page/B" , "n" : 1.50e1
} ]
"#;
        let expected = list
            .replace("?ws=127.0.0.1:9223", "?wss=box:9222/chrome")
            .replace(
                r#": "ws://127.0.0.1:9223/devtools/page/A"
"#,
                r#": "wss://box:9222/chrome/devtools/page/A"
"#,
            )
            .replace(
                r#":"ws://127.0.0.1:9223/devtools/page/B""#,
                r#":"wss://box:9222/chrome/devtools/page/B""#,
            );
        assert_eq!(rewritten(list), expected);
        assert_eq!(expected.matches("box:9222").count(), 3);
    }

    #[test]
    fn nothing_below_a_targets_own_members_changes() {
        for document in [
            r#"{"title":"webSocketDebuggerUrl","a":{"webSocketDebuggerUrl":"ws://h/p"},"b":[{"webSocketDebuggerUrl":"ws://h/p"}]}"#,
            r#"{"webSocketDebuggerUrl":7,"devtoolsFrontendUrl":null}"#,
            r#"{"webSocketDebuggerUrl":"http://h/p"}"#,
            "[]",
            "{}",
        ] {
            assert_eq!(rewritten(document), document);
        }
    }

    #[test]
    fn names_and_values_are_compared_without_their_escapes() {
        assert_eq!(
            rewritten(r#"{"webSocket\u0044ebuggerUrl":"ws:\/\/h\/p\"q"}"#),
            r#"{"webSocket\u0044ebuggerUrl":"wss://box:9222/chrome/p\"q"}"#
        );
    }

    #[test]
    fn every_member_of_a_repeated_name_changes() {
        let document = r#"{"webSocketDebuggerUrl":"ws://h/1","webSocketDebuggerUrl":"ws://h/2"}"#;
        assert!(
            !rewritten(document).contains("ws://h/"),
            "{}",
            rewritten(document)
        );
    }

    #[test]
    fn what_is_no_list_of_targets_is_an_error() {
        let base = Base {
            scheme: "ws",
            authority: "box".to_owned(),
            prefix: String::new(),
            query: String::new(),
        };
        let documents: [&[u8]; 8] = [
            b"",
            b"{",
            b"7",
            b"[7]",
            b"\"ws://h/p\"",
            b"{} {}",
            b"{\"a\":\"\xff\"}",
            b"\x1f\x8b\x08",
        ];
        for document in documents {
            assert!(rewrite(document, &base).is_err(), "{document:?}");
        }
    }
}
