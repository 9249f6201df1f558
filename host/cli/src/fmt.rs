//! `witgate fmt`: a configuration laid out as everybody's is.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;

use taplo::formatter::{Options, format};
use witgate_proxy::config::{Document, means_the_same};

use crate::Ended;
use crate::args::Fmt;
use crate::load::report;
use crate::output;

/// Lays out each file; whether all are laid out, with `--check` whether they were.
pub(crate) fn fmt(args: &Fmt) -> Result<bool, Ended> {
    let mut all = true;
    for file in &args.files {
        all &= match file.as_os_str() == "-" {
            true => standard_input(args.check)?,
            false => one(file, args.check)?,
        };
    }
    Ok(all)
}

fn one(file: &Path, check: bool) -> Result<bool, Ended> {
    let because =
        |error: &dyn std::fmt::Display| Ended::because(format!("{}: {error}", file.display()));
    let text = fs::read_to_string(file).map_err(|error| because(&error))?;
    let laid_out = laid_out(file, &text)?;
    if laid_out == text {
        return Ok(true);
    }
    if check {
        output::line(file.display())?;
        return Ok(false);
    }
    replace(file, &laid_out).map_err(|error| because(&error))?;
    output::line(file.display())?;
    Ok(true)
}

fn standard_input(check: bool) -> Result<bool, Ended> {
    let because = |error| Ended::because(format!("standard input: {error}"));
    let mut text = String::new();
    let mut input = std::io::stdin().lock();
    input.read_to_string(&mut text).map_err(because)?;
    let laid_out = laid_out(Path::new("standard input"), &text)?;
    if check {
        return Ok(laid_out == text);
    }
    output::print(laid_out).map(|()| true)
}

/// The text with the spaces, line breaks and commas that it should have. What it says stays, and so does every comment.
fn laid_out(file: &Path, text: &str) -> Result<String, Ended> {
    if let Err(mut problems) = Document::parse(file, text) {
        problems.set_outcome("it stays as it was");
        return Err(report(problems));
    }
    let options = Options {
        indent_string: "    ".into(),
        column_width: 120,
        allowed_blank_lines: 2,
        // Whoever wrote a list on several lines had a reason.
        array_auto_collapse: false,
        // A long value would push the comments of its neighbours far to the right.
        align_comments: false,
        ..Options::default()
    };
    let laid_out = format(text, options);
    // A layout that changed the meaning would be worse than none.
    match means_the_same(text, &laid_out) {
        true => Ok(laid_out),
        false => Err(Ended::because(format!(
            "{} cannot be laid out without a change of what it says; it stays as it was",
            file.display()
        ))),
    }
}

/// In one step, so that a reload never meets half of it, and with the file's owner, group and mode. A link still leads to
/// the file.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let file = file.canonicalize()?;
    let directory = file.parent().unwrap_or(Path::new("/"));
    let mut new = tempfile::NamedTempFile::new_in(directory)?;
    new.write_all(text.as_bytes())?;
    let was = fs::metadata(&file)?;
    // Laid out by root, it is still readable for the user that witgate runs as.
    chown(new.path(), Some(was.uid()), Some(was.gid()))?;
    new.as_file().set_permissions(was.permissions())?;
    new.as_file().sync_all()?;
    new.persist(&file).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_order_stay_and_what_is_laid_out_already_stays_whole() {
        let text = "# first\n[[listener]]   # here\nname='main'\nbind   = \"127.0.0.1:80\"\n\n\n\n\n[[route]]\n  reply={status=200}\n";
        let expected = "# first\n[[listener]] # here\nname = 'main'\nbind = \"127.0.0.1:80\"\n\n\n[[route]]\nreply = { status = 200 }\n";
        let once = laid_out(Path::new("a.toml"), text).expect("it is TOML");
        assert_eq!(once, expected);
        assert_eq!(
            laid_out(Path::new("a.toml"), &once).expect("it is TOML"),
            once
        );
    }

    #[test]
    fn what_is_no_toml_is_left_alone_with_the_reason() {
        let report = laid_out(Path::new("a.toml"), "a = [1,\n").expect_err("the list has no end");
        assert!(report.0.contains("it stays as it was"), "{report}");
    }
}
