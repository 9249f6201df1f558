//! `witgate profile backup` and `restore`: the shared Chromium's profile, in an archive and out of it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args as Group, Subcommand};
use witgate_chrome::backup::Progress;
use witgate_chrome::{BackupConfig, Recipient, backup, restore};

use crate::Ended;
use crate::args::Log;
use crate::load;
use crate::log;
use crate::output;

/// How often a backup that takes long says how far it has come.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);

#[derive(Debug, Subcommand)]
pub(crate) enum Profile {
    /// Put the profile into an archive, while the browser runs or not
    ///
    /// The archive, DIR/profile-TIME.tar.zst with the time in UTC and mode 0600, holds all of the profile but caches.
    /// It appears whole or not at all. A database that is written to all the time may be torn in it: a warning says so,
    /// and so does the name, DIR/torn-profile-TIME.tar.zst.
    #[command(after_help = BACKUP_HELP)]
    Backup(Backup),
    /// Replace the profile by the one in an archive
    ///
    /// Refused while a browser or a witgate has the profile. The profile that was there is kept beside, as
    /// PROFILE.before-restore-TIME.
    #[command(after_help = RESTORE_HELP)]
    Restore(Restore),
}

const BACKUP_HELP: &str = "\
Example:
  witgate profile backup --config witgate.toml --to /var/backups/chrome --keep 30d";

const RESTORE_HELP: &str = "\
Example:
  witgate profile restore /var/backups/chrome/profile-20260102T030405Z.tar.zst --config witgate.toml";

#[derive(Debug, Group)]
pub(crate) struct Backup {
    #[command(flatten)]
    which: Which,
    /// The directory for archives, outside of the profile; created with mode 0700 if it is missing
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Remove archives in DIR that are older than this (30d, 12h), but never the newest good one; without it all stay
    #[arg(long, value_name = "AGE", value_parser = age)]
    keep: Option<Duration>,
    /// Encrypt for this public key of age (age1…); may be given several times
    #[arg(long, value_name = "KEY")]
    recipient: Vec<Recipient>,
    #[command(flatten)]
    log: Log,
}

#[derive(Debug, Group)]
pub(crate) struct Restore {
    /// The archive
    #[arg(value_name = "ARCHIVE")]
    archive: PathBuf,
    #[command(flatten)]
    which: Which,
    /// The file with the secret key, as age-keygen writes it, for an encrypted archive
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    #[command(flatten)]
    log: Log,
}

/// Whose profile.
#[derive(Debug, Group)]
struct Which {
    /// The configuration, whose `[chrome] profile` it is
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "witgate.toml",
        env = "WITGATE_CONFIG"
    )]
    config: PathBuf,
    /// The profile, instead of a configuration, which is not read then
    #[arg(long, value_name = "DIR")]
    profile: Option<PathBuf>,
}

pub(crate) fn profile(command: &Profile) -> Result<(), Ended> {
    match command {
        Profile::Backup(args) => take(args),
        Profile::Restore(args) => put_back(args),
    }
}

fn take(args: &Backup) -> Result<(), Ended> {
    let _flushes_the_log = log::start(&args.log)?;
    let config = BackupConfig {
        profile: args.which.directory()?,
        directory: args.to.clone(),
        keep: args.keep,
        recipients: args.recipient.clone(),
    };
    let mut told = Instant::now();
    let backup = backup(&config, |so_far| {
        if told.elapsed() >= REPORT_INTERVAL {
            told = Instant::now();
            eprintln!("{} so far", amount(so_far));
        }
    })
    .map_err(|error| Ended::because(format!("no backup was taken: {error}")))?;
    output::line(format_args!(
        "{}: {}, packed into {} in {:.1} s{}",
        backup.archive.display(),
        amount(backup.contents),
        size(backup.size),
        backup.duration.as_secs_f64(),
        of_chromium(backup.chromium.as_deref()),
    ))?;
    for file in &backup.pruned {
        output::line(format_args!("removed {}", file.display()))?;
    }
    if backup.restless.is_empty() {
        return Ok(());
    }
    let restless: Vec<_> = backup
        .restless
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    // An archive, and most of it good: nothing that another attempt at once would mend.
    eprintln!(
        "warning: written to all the time, so that the copy may be torn, as the archive's name says: {}; take another \
         backup when the browser is less busy",
        restless.join(", ")
    );
    Ok(())
}

fn put_back(args: &Restore) -> Result<(), Ended> {
    let _flushes_the_log = log::start(&args.log)?;
    let profile = args.which.directory()?;
    let restored = restore(&args.archive, &profile, args.identity.as_deref())
        .map_err(|error| Ended::because(format!("nothing was restored: {error}")))?;
    output::line(format_args!(
        "{}: {} from the backup of {}{}",
        restored.profile.display(),
        amount(restored.contents),
        restored.taken,
        of_chromium(restored.chromium.as_deref()),
    ))?;
    if let Some(before) = restored.before {
        output::line(format_args!(
            "the profile before is {}; remove it when it is not needed any more",
            before.display()
        ))?;
    }
    Ok(())
}

impl Which {
    fn directory(&self) -> Result<PathBuf, Ended> {
        if let Some(profile) = &self.profile {
            return Ok(profile.clone());
        }
        let loaded = load::read(&self.config)?;
        match &loaded.chrome {
            Some(chrome) => Ok(chrome.profile().to_owned()),
            None => Err(Ended::because(format!(
                "{} has no [chrome]; name a configuration that has, or give --profile DIR",
                loaded.file
            ))),
        }
    }
}

fn of_chromium(version: Option<&str>) -> String {
    version.map_or_else(String::new, |version| {
        format!(", last used by Chromium {version}")
    })
}

fn amount(contents: Progress) -> String {
    format!("{} files, {}", contents.files, size(contents.bytes))
}

fn size(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// `30d`, `12h`, `90m`.
fn age(text: &str) -> Result<Duration, String> {
    let seconds = [("d", 86_400), ("h", 3_600), ("m", 60)]
        .into_iter()
        .find_map(|(unit, seconds)| {
            let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
            number.checked_mul(seconds)
        });
    match seconds {
        Some(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err("a number from 1 with its unit: 30d, 12h or 90m".into()),
    }
}
