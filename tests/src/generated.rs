//! Pages that are made of something else.

use std::path::Path;
use std::{env, fs};

/// Asserts that a file of the repository is what it would be if it were made now. `WITGATE_BLESS=1` writes it.
///
/// # Panics
///
/// When it is another, and when it cannot be read or written.
#[track_caller]
pub fn as_written(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    if env::var_os("WITGATE_BLESS").is_some() {
        fs::write(&file, text).expect("the file can be written");
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    let differs = written
        .lines()
        .zip(text.lines())
        .position(|(written, made)| written != made);
    assert!(
        written == text,
        "{path} is not what it is made of{}; `WITGATE_BLESS=1` writes it anew",
        differs.map_or(String::new(), |line| format!(", from line {} on", line + 1))
    );
}
