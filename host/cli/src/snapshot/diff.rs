//! `witgate snapshot diff`: what changed from one snapshot to another, without any value.

use std::path::Path;
use std::process::ExitCode;

use witgate_chrome::snapshot::entries::Kind;
use witgate_chrome::snapshot::{Change, Difference, comparison};

use super::{json, read};
use crate::Ended;
use crate::args::{Diff, Format};
use crate::output::print;

/// 0 they hold the same, 1 they differ.
pub(crate) fn diff(args: &Diff) -> Result<ExitCode, Ended> {
    let read = |file: &Path| {
        comparison::read(&read(file, &args.identity)?).map_err(|error| {
            Ended::because(format!(
                "{}: this is no storageState: {error}",
                file.display()
            ))
        })
    };
    let differences = comparison::between(&read(&args.old)?, &read(&args.new)?);
    match args.format {
        Format::Json => print(&json(&differences)?)?,
        Format::Text => print(differences.iter().map(as_line).collect::<String>())?,
    }
    Ok(match differences.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(1),
    })
}

fn as_line(difference: &Difference) -> String {
    let Difference {
        change,
        name,
        attributes,
    } = difference;
    let sign = match change {
        Change::Added => '+',
        Change::Removed => '-',
        Change::Changed => '~',
    };
    let kind = match name.kind {
        Kind::Cookie => "cookie",
        Kind::LocalStorage => "localStorage",
        Kind::IndexedDb => "IndexedDB",
        Kind::Opfs => "OPFS",
    };
    let (place, name) = (name.place.escape_debug(), name.name.escape_debug());
    match &**attributes {
        [] => format!("{sign} {kind} {place} {name}\n"),
        attributes => format!(
            "{sign} {kind} {place} {name} ({})\n",
            attributes.join(", ").escape_debug()
        ),
    }
}
