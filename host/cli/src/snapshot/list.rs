//! `witgate snapshot list`: the generations that are kept.

use std::time::SystemTime;

use serde::Serialize;
use witgate_chrome::snapshot::{Generation, Status, history};

use super::{json, roughly};
use crate::Ended;
use crate::args::{Format, List};
use crate::output::print;

#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    generation: Generation,
    /// Whether the snapshot itself holds this one now.
    current: bool,
}

pub(crate) fn list(args: &List) -> Result<(), Ended> {
    let failed = |error| Ended::because(format!("{}: {error}", args.file.display()));
    let current = Status::read(&args.file)
        .map_err(failed)?
        .and_then(|status| status.generation);
    let generations = history::list(&args.file).map_err(failed)?;
    let listed: Vec<_> = generations
        .into_iter()
        .map(|generation| Listed {
            current: !generation.suspicious && current == Some(generation.taken),
            generation,
        })
        .collect();
    match args.format {
        Format::Json => print(&json(&listed)?),
        Format::Text if listed.is_empty() => print(format!(
            "no generations of {} are kept in {}\n",
            args.file.display(),
            history::directory(&args.file).display()
        )),
        Format::Text => print(listed.iter().map(as_line).collect::<String>()),
    }
}

fn as_line(listed: &Listed) -> String {
    let Listed {
        generation,
        current,
    } = listed;
    let mark = match (generation.suspicious, current) {
        (true, _) => "suspicious",
        (false, true) => "current",
        (false, false) => "",
    };
    format!(
        "{}  {:>9} ago  {:>10} bytes  {mark:<10}  {}\n",
        generation.taken,
        roughly(generation.taken.age(SystemTime::now())),
        generation.bytes,
        generation.path.display(),
    )
}
