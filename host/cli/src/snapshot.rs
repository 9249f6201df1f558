//! `witgate snapshot …`: snapshots on the machines that make them and on those that use them.

mod diff;
mod list;
mod show;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use witgate_chrome::Identities;
use witgate_chrome::snapshot::encryption::{decrypt, is_encrypted};

use crate::args::{Identity, Snapshot};
use crate::{Ended, pull};

/// The largest snapshot that is decrypted, in bytes: as much as `pull` can be told to take.
const MAX_DECRYPTED: u64 = 4 << 30;

/// Exit codes: 0 all went well, 1 it did not. `diff` has those of diff(1): 1 is a difference, and 2 is trouble.
pub(crate) fn run(command: &Snapshot) -> ExitCode {
    let (done, trouble) = match command {
        Snapshot::Pull(args) => (pull::pull(args).map(|()| ExitCode::SUCCESS), 1),
        Snapshot::Show(args) => (show::show(args).map(|()| ExitCode::SUCCESS), 1),
        Snapshot::List(args) => (list::list(args).map(|()| ExitCode::SUCCESS), 1),
        Snapshot::Diff(args) => (diff::diff(args), 2),
    };
    done.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::from(trouble)
    })
}

/// The document in a file.
fn read(file: &Path, identity: &Identity) -> Result<Vec<u8>, Ended> {
    let failed = |reason: String| Ended::because(format!("{}: {reason}", file.display()));
    let bytes = std::fs::read(file).map_err(|error| failed(error.to_string()))?;
    open(bytes, identity, MAX_DECRYPTED).map_err(failed)
}

/// The document in `bytes`, decrypted if need be.
pub(crate) fn open(bytes: Vec<u8>, identity: &Identity, limit: u64) -> Result<Vec<u8>, String> {
    if !is_encrypted(&bytes) {
        return Ok(bytes);
    }
    let Some(file) = &identity.identity else {
        return Err("this is encrypted; give the key by --identity FILE".into());
    };
    let identities = Identities::read(file).map_err(|error| format!("--identity {error}"))?;
    decrypt(&bytes, &identities, limit).map_err(|error| error.to_string())
}

fn json(value: &impl serde::Serialize) -> Result<String, Ended> {
    let mut text = serde_json::to_string_pretty(value).map_err(Ended::because)?;
    text.push('\n');
    Ok(text)
}

/// `40 s`, `12 min`, `3 h`, `2 d`.
fn roughly(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}
