//! Every broken configuration under `tests/broken-configs` gives exactly the report beside it.
//!
//! `WITGATE_BLESS=1 cargo test -p witgate-proxy broken` writes the reports anew; read the difference before you
//! believe it.

use std::path::{Path, PathBuf};

use super::{Config, Document, Problems, warn_of_open_browsers};

fn report(path: &Path) -> String {
    let read = || -> Result<(Config, Problems), Problems> {
        let document = Document::read(path)?;
        let reader = document.reader();
        let mut root = reader.root();
        let config = Config::read(&mut root);
        // Known to the binary, though not to this crate.
        root.item("chrome");
        root.finish();
        if let Some(config) = &config {
            warn_of_open_browsers(&reader, config, Some(6667));
        }
        reader.finish(config)
    };
    match read() {
        Ok((_, warnings)) => warnings.to_string(),
        Err(problems) => problems.to_string(),
    }
}

/// Cases named `runtime-…` are broken only for whoever loads the components, and are tested there.
fn cases(directory: &Path) -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(directory)
        .expect("the directory of broken configurations")
        .map(|entry| entry.expect("a directory entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| !name.starts_with("runtime-"))
        })
        .collect();
    cases.sort();
    cases
}

#[test]
fn every_broken_configuration_gives_the_report_beside_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the crate lies two levels below the workspace");
    let prefix = format!("{}/", root.display());
    let cases = cases(&root.join("tests/broken-configs"));
    assert!(cases.len() >= 14, "only {} cases", cases.len());
    let bless = std::env::var_os("WITGATE_BLESS").is_some();
    let mut wrong = Vec::new();
    for case in cases {
        let found = report(&case).replace(&prefix, "");
        let expected_path = case.with_extension("expected");
        if bless {
            std::fs::write(&expected_path, &found).expect("a written report");
        }
        let expected = std::fs::read_to_string(&expected_path).unwrap_or_default();
        if found != expected || found.is_empty() {
            wrong.push(format!("{}\n{found}", case.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "unexpected reports:\n\n{}",
        wrong.join("\n")
    );
}
