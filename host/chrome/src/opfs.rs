//! Files of an origin's private file system (OPFS) in a storage state.

use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// A file or a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpfsEntry {
    /// Names from the root on, joined by `/`.
    pub path: String,
    /// What stands at the path.
    #[serde(rename = "type")]
    pub kind: OpfsKind,
    /// A file's content in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

/// What an [`OpfsEntry`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OpfsKind {
    /// A file, with its content.
    File,
    /// A directory, without.
    Directory,
}

impl OpfsEntry {
    /// Whether Playwright could make this entry.
    ///
    /// # Errors
    /// [`Refusal::File`].
    pub fn check(&self) -> Result<(), Refusal> {
        let named = self
            .path
            .split('/')
            .all(|name| !matches!(name, "" | "." | "..") && !name.contains('\\'));
        let content = match &self.base64 {
            Some(base64) => self.kind == OpfsKind::File && is_base64(base64),
            None => self.kind == OpfsKind::Directory,
        };
        if named && content {
            Ok(())
        } else {
            Err(Refusal::File)
        }
    }
}

fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    text.len().is_multiple_of(4)
        && text.len() - body.len() <= 2
        && body
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(json: &str) -> OpfsEntry {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn entries_that_cannot_be_made_are_refused() {
        for good in [
            r#"{"path":"a/b c.txt","type":"file","base64":"aGk="}"#,
            r#"{"path":"empty","type":"file","base64":""}"#,
            r#"{"path":"a","type":"directory"}"#,
        ] {
            assert_eq!(entry(good).check(), Ok(()), "{good}");
        }
        for bad in [
            r#"{"path":"","type":"directory"}"#,
            r#"{"path":"/a","type":"directory"}"#,
            r#"{"path":"a/../b","type":"directory"}"#,
            r#"{"path":"a","type":"file"}"#,
            r#"{"path":"a","type":"file","base64":"no"}"#,
            r#"{"path":"a","type":"file","base64":"a-b_"}"#,
            r#"{"path":"a","type":"directory","base64":""}"#,
        ] {
            assert_eq!(entry(bad).check(), Err(Refusal::File), "{bad}");
        }
    }
}
