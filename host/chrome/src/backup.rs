//! A profile's backup: one archive of all that Chromium cannot fetch again, taken while it runs or not.
//!
//! ```text
//! prune ─ groups of files that belong together ─ each copied at rest ─ tar ─ zstd ─ (age) ─ temporary file ─ rename ─ prune
//! ```
//!
//! Each database in the archive is as it was at one moment; two databases may be some seconds apart. What Chromium
//! has not written yet is not in it: cookies are written up to 30 s late, local storage up to 5 s.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tar::{EntryType, Header};
use tracing::{info, warn};

use crate::archive::{self, FORMAT, LABEL, Label, Sink};
use crate::file::{WriteError, create_private_directory};
use crate::keys::Recipient;
use crate::version;

pub(crate) mod contents;
mod quiet;

/// How the name of an archive begins that is still being written.
const UNFINISHED: &str = ".profile-backup.";

/// An unfinished archive that was last written to longer ago than this is one that nobody writes any more.
const ABANDONED: Duration = Duration::from_secs(2 * 60 * 60);

/// zstd's own default: 3 of 1 to 22.
const LEVEL: i32 = zstd::DEFAULT_COMPRESSION_LEVEL;

/// What to back up, and where to.
#[derive(Debug, Clone)]
pub struct BackupConfig {
    /// The `--user-data-dir`, in use or not.
    pub profile: PathBuf,
    /// Where the archive goes; created with mode 0700 if it is missing. Outside of the profile.
    pub directory: PathBuf,
    /// Archives in the directory that were begun longer ago than this are removed, before the new one is written and
    /// after; but never the newest in which nothing is torn. `None`: all stay.
    pub keep: Option<Duration>,
    /// Whom to encrypt for; empty for an archive that everybody can read who may read the file.
    pub recipients: Vec<Recipient>,
}

/// How far a backup has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Files in the archive so far.
    pub files: u64,
    /// Their bytes, before compression.
    pub bytes: u64,
}

/// A backup that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The archive, `profile-TIME.tar.zst` or `profile-TIME.tar.zst.age` with the time in UTC, mode 0600; with `torn-`
    /// before its name when there are [`Backup::restless`] files.
    pub archive: PathBuf,
    /// What is in it.
    pub contents: Progress,
    /// The archive's size in bytes.
    pub size: u64,
    /// The version of the Chromium that last used the profile.
    pub chromium: Option<String>,
    /// Files that were written to all the time, for 10 s: their copies may be torn. Usually none.
    pub restless: Vec<PathBuf>,
    /// Older archives that were removed.
    pub pruned: Vec<PathBuf>,
    /// How long it took.
    pub duration: Duration,
}

/// No backup was taken. Older ones may have been removed, but never the newest in which nothing is torn.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Nothing to back up.
    #[error("{} is no profile of Chromium: it has no `Local State`; has Chromium ever run with it?", .0.display())]
    NoProfile(PathBuf),
    /// Every backup would hold all earlier ones.
    #[error("{} is inside of the profile: choose a directory elsewhere, best on another disk", .0.display())]
    Inside(PathBuf),
    /// Something in the profile cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The archive or its directory cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Takes a backup and tells `progress` after each group of files. Blocks for as long as it takes.
///
/// The archive is written under a temporary name, flushed to the disk and then renamed, so that an archive under its
/// own name is whole.
///
/// # Errors
/// [`BackupError`]; nothing is left behind then.
pub fn backup(
    config: &BackupConfig,
    mut progress: impl FnMut(Progress),
) -> Result<Backup, BackupError> {
    let started = Instant::now();
    let profile = profile_of(config)?;
    let now = SystemTime::now();
    // Before anything is written: a disk that is full of old archives would stay so.
    let mut pruned = prune(&config.directory, now, config.keep);
    let path_if = |torn| {
        let encrypted = !config.recipients.is_empty();
        let name = archive::name(now, encrypted, torn);
        config.directory.join(name)
    };
    let path = path_if(false);
    let failed = |source| WriteError::new("write", &path, source);
    let temporary = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(&config.directory)
        .map_err(|source| WriteError::new("create a file in", &config.directory, source))?;
    let label = Label {
        format: FORMAT,
        taken: archive::time_in_name(now),
        chromium: version::of_profile(&profile),
    };
    let file = temporary.as_file().try_clone().map_err(failed)?;
    let sink = Sink::new(file, &config.recipients).map_err(failed)?;
    let (contents, restless) = write(&profile, &path, &label, sink, &mut progress)?;
    temporary.as_file().sync_all().map_err(failed)?;
    let archive = path_if(!restless.is_empty());
    let file = temporary
        .persist_noclobber(&archive)
        .map_err(|error| failed(error.error))?;
    let size = file.metadata().map_err(failed)?.len();
    File::open(&config.directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| WriteError::new("flush the directory", &config.directory, source))?;
    pruned.extend(prune(&config.directory, now, config.keep));
    Ok(Backup {
        archive,
        contents,
        size,
        chromium: label.chromium,
        restless,
        pruned,
        duration: started.elapsed(),
    })
}

/// Makes sure that there is something to back up, and somewhere to put it.
fn profile_of(config: &BackupConfig) -> Result<PathBuf, BackupError> {
    let real = |path: &Path| {
        fs::canonicalize(path).map_err(|source| BackupError::Read {
            path: path.to_owned(),
            source,
        })
    };
    if !config.profile.join("Local State").is_file() {
        return Err(BackupError::NoProfile(config.profile.clone()));
    }
    let profile = real(&config.profile)?;
    // Before anything is created: the nearest directory above that is there.
    let above = config.directory.ancestors().find(|path| path.exists());
    if real(above.unwrap_or(Path::new(".")))?.starts_with(&profile) {
        return Err(BackupError::Inside(config.directory.clone()));
    }
    create_private_directory(&config.directory)?;
    Ok(profile)
}

/// Writes the whole archive; gives what is in it, and what did not rest.
fn write(
    profile: &Path,
    archive: &Path,
    label: &Label,
    sink: Sink,
    progress: &mut impl FnMut(Progress),
) -> Result<(Progress, Vec<PathBuf>), BackupError> {
    let failed = |source| WriteError::new("write", archive, source);
    let read = |path: &Path| {
        let path = profile.join(path);
        move |source| BackupError::Read { path, source }
    };
    let mut compressed = zstd::Encoder::new(sink, LEVEL).map_err(failed)?;
    compressed.include_checksum(true).map_err(failed)?;
    let mut tar = tar::Builder::new(compressed);
    let text = serde_json::to_vec(label).map_err(|error| failed(error.into()))?;
    append(&mut tar, Path::new(LABEL), text.len() as u64, 0, &text[..]).map_err(failed)?;
    let (mut so_far, mut restless) = (Progress::default(), Vec::new());
    for group in contents::groups(profile).map_err(read(Path::new("")))? {
        let mut copy = quiet::copy(profile, &group).map_err(read(&group.roots[0]))?;
        if !copy.at_rest {
            warn!(file = %group.roots[0].display(), "it was written to all the time: its copy may be torn");
            restless.push(group.roots[0].clone());
        }
        for (path, length, modified) in &copy.files {
            let contents = (&mut copy.contents).take(*length);
            append(&mut tar, path, *length, *modified, contents).map_err(failed)?;
            so_far.files += 1;
            so_far.bytes += length;
        }
        progress(so_far);
    }
    let compressed = tar.into_inner().map_err(failed)?;
    let sink = compressed.finish().map_err(failed)?;
    sink.finish().map_err(failed)?;
    Ok((so_far, restless))
}

fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    path: &Path,
    length: u64,
    modified: u64,
    contents: impl Read,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(length);
    header.set_mtime(modified);
    tar.append_data(&mut header, path, contents)
}

/// Removes archives that were begun longer than `keep` before `now`, by their names, and archives that nobody goes on
/// writing. The newest that is not torn stays, however old. What cannot be removed is logged.
fn prune(directory: &Path, now: SystemTime, keep: Option<Duration>) -> Vec<PathBuf> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            warn!(directory = %directory.display(), %error, "cannot look for old backups");
            return Vec::new();
        }
    };
    let files: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    let mut pruned = Vec::new();
    for path in old(&files, now, keep) {
        match fs::remove_file(path) {
            Ok(()) => {
                info!(file = %path.display(), "old backup removed");
                pruned.push(path.clone());
            }
            Err(error) => {
                warn!(file = %path.display(), %error, "cannot remove an old backup");
            }
        }
    }
    pruned.sort();
    pruned
}

/// Those of `files` that are to go.
fn old(files: &[PathBuf], now: SystemTime, keep: Option<Duration>) -> Vec<&PathBuf> {
    let name = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    let is_old = |time: Option<SystemTime>, limit| {
        time.and_then(|time| now.duration_since(time).ok())
            .is_some_and(|age| age > limit)
    };
    let newest = files
        .iter()
        .filter(|path| !name(path).starts_with(archive::TORN))
        .max_by_key(|path| archive::time_of(&name(path)));
    let goes = |path: &&PathBuf| match name(path).starts_with(UNFINISHED) {
        true => is_old(modified(path), ABANDONED),
        false => {
            let time = archive::time_of(&name(path));
            Some(*path) != newest && keep.is_some_and(|keep| is_old(time, keep))
        }
    };
    files.iter().filter(goes).collect()
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::symlink_metadata(path).ok()?.modified().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(root: &Path) -> BackupConfig {
        let profile = root.join("profile");
        fs::create_dir(&profile).unwrap();
        fs::write(profile.join("Local State"), "{}").unwrap();
        BackupConfig {
            profile,
            directory: root.join("backups"),
            keep: Some(Duration::from_secs(86_400)),
            recipients: Vec::new(),
        }
    }

    #[test]
    fn a_backup_is_private_and_leaves_no_temporary_file() {
        let root = tempfile::tempdir().unwrap();
        let config = config(root.path());
        let mut seen = Progress::default();
        let backup = backup(&config, |progress| seen = progress).unwrap();
        assert_eq!(seen, Progress { files: 1, bytes: 2 });
        assert_eq!(seen, backup.contents);
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&backup.archive), 0o600);
        assert_eq!(mode(&config.directory), 0o700);
        assert_eq!(fs::read_dir(&config.directory).unwrap().count(), 1);
        assert_eq!(backup.size, backup.archive.metadata().unwrap().len());
    }

    #[test]
    fn old_archives_go_by_the_time_in_their_names_and_nothing_else_does() {
        let root = tempfile::tempdir().unwrap();
        let config = config(root.path());
        fs::create_dir(&config.directory).unwrap();
        let old = config.directory.join("profile-20200101T000000Z.tar.zst");
        let recent = SystemTime::now() - Duration::from_secs(3600);
        let recent = config.directory.join(archive::name(recent, true, false));
        let foreign = config.directory.join("profile-of-mine.tar.zst");
        for file in [&old, &recent, &foreign] {
            fs::write(file, "x").unwrap();
        }
        let backup = backup(&config, |_| ()).unwrap();
        assert_eq!(backup.pruned, std::slice::from_ref(&old));
        assert!(!old.exists() && recent.exists() && foreign.exists());
        assert!(backup.archive.exists());
    }

    #[test]
    fn the_newest_archive_that_is_not_torn_stays_however_old_it_is() {
        let root = tempfile::tempdir().unwrap();
        let torn_today = archive::name(SystemTime::now(), false, true);
        for name in [
            "profile-20200101T000000Z.tar.zst",
            "profile-20200102T000000Z.tar.zst.age",
            "torn-profile-20200103T000000Z.tar.zst",
            &torn_today,
        ] {
            fs::write(root.path().join(name), "x").unwrap();
        }
        let day = Some(Duration::from_secs(86_400));
        let removed: Vec<_> = prune(root.path(), SystemTime::now(), day)
            .iter()
            .map(|path| path.file_name().unwrap().to_owned())
            .collect();
        assert_eq!(
            removed,
            [
                "profile-20200101T000000Z.tar.zst",
                "torn-profile-20200103T000000Z.tar.zst"
            ]
        );
        assert_eq!(prune(root.path(), SystemTime::now(), day).len(), 0);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2);
    }

    #[test]
    fn old_archives_make_room_before_a_backup_is_written() {
        let root = tempfile::tempdir().unwrap();
        let config = config(root.path());
        fs::create_dir(&config.directory).unwrap();
        let old = [
            "profile-20200101T000000Z.tar.zst",
            "profile-20200102T000000Z.tar.zst",
        ]
        .map(|name| config.directory.join(name));
        for file in &old {
            fs::write(file, "x").unwrap();
        }
        let mut seen = Vec::new();
        let backup = backup(&config, |_| {
            seen.push(old.each_ref().map(|file| file.exists()))
        });
        // While it is written, the last one is still there.
        assert_eq!(seen, [[false, true]]);
        assert_eq!(backup.unwrap().pruned, old);
        assert!(!old[1].exists());
    }

    #[test]
    fn a_database_that_never_rests_gives_an_archive_that_says_so() {
        let root = tempfile::tempdir().unwrap();
        let config = config(root.path());
        let busy = config.profile.join("Local State");
        let done = std::sync::atomic::AtomicBool::new(false);
        let backup = std::thread::scope(|scope| {
            // Written all the time; the copy's patience of 10 s is what this test takes.
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let mut file = File::options().write(true).open(&busy).unwrap();
                    file.write_all(b"{}").unwrap();
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            let backup = backup(&config, |_| ());
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            backup.unwrap()
        });
        let name = backup.archive.file_name().unwrap().to_string_lossy();
        // On a machine that let the writer wait, it did rest.
        assert_eq!(name.starts_with(archive::TORN), !backup.restless.is_empty());
        assert!(archive::time_of(&name).is_some() && backup.archive.exists());
    }

    #[test]
    fn a_failed_backup_removes_no_older_one() {
        let root = tempfile::tempdir().unwrap();
        let mut config = config(root.path());
        backup(&config, |_| ()).unwrap();
        config.keep = Some(Duration::ZERO);
        fs::remove_file(config.profile.join("Local State")).unwrap();
        assert!(matches!(
            backup(&config, |_| ()),
            Err(BackupError::NoProfile(_))
        ));
        assert_eq!(fs::read_dir(&config.directory).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_inside_the_profile_is_refused_and_not_made() {
        let root = tempfile::tempdir().unwrap();
        let mut config = config(root.path());
        config.directory = config.profile.join("a/backups");
        let error = backup(&config, |_| ()).unwrap_err();
        assert!(matches!(error, BackupError::Inside(_)), "{error}");
        assert!(!config.profile.join("a").exists());
    }
}
