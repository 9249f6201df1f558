use std::path::PathBuf;

use serde::Deserialize;

/// One line of cargo's JSON output, as far as it matters here.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    package_id: String,
    target: Option<Target>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

/// The core module of a package, by what cargo (`--message-format json`) said it had made.
pub(crate) fn module_of(package: &str, messages: &[u8]) -> Option<PathBuf> {
    messages
        .split(|&byte| byte == b'\n')
        // Lines that are no JSON come from build scripts and tools that write to the same stream.
        .filter_map(|line| serde_json::from_slice::<Message>(line).ok())
        .filter(|message| {
            message.reason == "compiler-artifact" && names(&message.package_id, package)
        })
        .filter(|message| {
            message
                .target
                .as_ref()
                .is_some_and(|target| target.kind.iter().any(|kind| kind == "cdylib"))
        })
        .flat_map(|message| message.filenames)
        .find(|file| {
            file.extension()
                .is_some_and(|extension| extension == "wasm")
        })
}

/// Whether a package id is of a package of this name: `path+file:///plugins/x#0.1.0` (named by its directory) or
/// `path+file:///plugins/y#x@0.1.0`.
fn names(id: &str, package: &str) -> bool {
    let Some((url, fragment)) = id.rsplit_once('#') else {
        return false;
    };
    let name = match fragment.split_once('@') {
        Some((name, _)) => name,
        None => url.rsplit('/').next().unwrap_or_default(),
    };
    name == package
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: &str = concat!(
        "warning: from a tool\n",
        r#"{"reason":"build-script-executed","package_id":"path+file:///w/sdk#0.1.0"}"#,
        "\n",
        r#"{"reason":"compiler-artifact","package_id":"path+file:///w/sdk#0.1.0","target":{"kind":["lib"]},"filenames":["/t/libsdk.rlib"]}"#,
        "\n",
        r#"{"reason":"compiler-artifact","package_id":"path+file:///w/close#0.1.0","target":{"kind":["cdylib","rlib"]},"filenames":["/t/libclose.rlib","/t/close.wasm"]}"#,
        "\n",
        r#"{"reason":"compiler-artifact","package_id":"path+file:///w/dir#my-auth@0.2.0","target":{"kind":["cdylib"]},"filenames":["/t/other_name.wasm"]}"#,
        "\n",
        r#"{"reason":"build-finished","success":true}"#,
        "\n",
    );

    #[test]
    fn a_module_is_found_by_its_package_whatever_its_directory_and_library_are_called() {
        assert_eq!(
            module_of("close", MESSAGES.as_bytes()),
            Some(PathBuf::from("/t/close.wasm"))
        );
        assert_eq!(
            module_of("my-auth", MESSAGES.as_bytes()),
            Some(PathBuf::from("/t/other_name.wasm"))
        );
    }

    #[test]
    fn a_package_without_a_cdylib_has_no_module() {
        assert_eq!(module_of("sdk", MESSAGES.as_bytes()), None);
        assert_eq!(module_of("dir", MESSAGES.as_bytes()), None);
    }
}
