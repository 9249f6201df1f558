//! A profile, out of its backup: unpacked beside the present one and put in its place by a rename.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use tar::Archive;
use tempfile::TempDir;
use tracing::warn;

use crate::archive::{self, FORMAT, LABEL, Label, OpenError};
use crate::backup::{Progress, contents};
use crate::file::{WriteError, create_parent, create_private_directory, hidden_prefix};
use crate::profile::{Profile, ProfileError};

/// A profile that was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Where.
    pub profile: PathBuf,
    /// Where the profile is now that was there before.
    pub before: Option<PathBuf>,
    /// What was unpacked.
    pub contents: Progress,
    /// When the backup was begun: UTC, `20261122T114500Z`.
    pub taken: String,
    /// The version of the Chromium that last used the profile before that.
    pub chromium: Option<String>,
}

/// Nothing was restored; the profile is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The archive cannot be read: it is not there, damaged, cut short, or encrypted for somebody else.
    #[error("cannot read {}: {problem}", archive.display())]
    Unreadable {
        /// The archive.
        archive: PathBuf,
        /// What is wrong with it, for people.
        problem: String,
    },
    /// The archive can be read, and is not what `backup` writes.
    #[error("{} is no backup of a profile: {problem}", archive.display())]
    Foreign {
        /// The archive.
        archive: PathBuf,
        /// What gave it away.
        problem: String,
    },
    /// A browser or a supervisor has the profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A directory that others are mounted on cannot be replaced.
    #[error(
        "{} is a mount point, which cannot be replaced: mount the directory above it instead, or restore to another \
         directory and copy that into this one",
        .0.display()
    )]
    MountPoint(PathBuf),
    /// The new profile cannot be written or put in its place.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Replaces `profile` by what is in `archive`. `identity` names the file with the secret key of an encrypted one.
///
/// The present profile is kept beside, as `PROFILE.before-restore-TIME`. Blocks for as long as it takes.
///
/// # Errors
/// [`RestoreError`]; what was unpacked is removed again.
pub fn restore(
    archive: &Path,
    profile: &Path,
    identity: Option<&Path>,
) -> Result<Restored, RestoreError> {
    // Held until the end, so that no supervisor starts a browser meanwhile.
    let present = match fs::symlink_metadata(profile) {
        Ok(_) => Some(Profile::claim_at_rest(profile)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(WriteError::new("replace", profile, source).into()),
    };
    let profile = match &present {
        Some(present) => present.path().to_owned(),
        None => std::path::absolute(profile)
            .map_err(|source| WriteError::new("create", profile, source))?,
    };
    let directory = create_parent(&profile)?;
    if present.is_some() && is_mount_point(&profile, directory) {
        return Err(RestoreError::MountPoint(profile));
    }
    let unpacked = tempfile::Builder::new()
        .prefix(&hidden_prefix(&profile))
        .suffix(".restore")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(directory)
        .map_err(|source| WriteError::new("create a directory in", directory, source))?;
    let (label, contents) = unpack(archive, identity, unpacked.path())?;
    flush(unpacked.path())?;
    let before = replace(&profile, unpacked, present.is_some())?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| WriteError::new("flush the directory", directory, source))?;
    Ok(Restored {
        profile,
        before,
        contents,
        taken: label.taken,
        chromium: label.chromium,
    })
}

fn is_mount_point(profile: &Path, directory: &Path) -> bool {
    match (profile.metadata(), directory.metadata()) {
        (Ok(inner), Ok(outer)) => inner.dev() != outer.dev(),
        // The rename will tell.
        _ => false,
    }
}

/// Unpacks into an empty directory, and reads the archive to its very end, where its checksum is.
fn unpack(
    archive: &Path,
    identity: Option<&Path>,
    directory: &Path,
) -> Result<(Label, Progress), RestoreError> {
    let unreadable = |problem: String| RestoreError::Unreadable {
        archive: archive.to_owned(),
        problem,
    };
    let broken = |error: io::Error| unreadable(error.to_string());
    let foreign = |problem: String| RestoreError::Foreign {
        archive: archive.to_owned(),
        problem,
    };
    let bytes = archive::open(archive, identity)
        .map_err(|error: OpenError| unreadable(error.to_string()))?;
    let mut tar = Archive::new(bytes);
    let mut entries = tar.entries().map_err(broken)?;
    let label = match entries.next() {
        Some(first) => label(first.map_err(broken)?).map_err(foreign)?,
        None => return Err(foreign("it is empty".into())),
    };
    let mut contents = Progress::default();
    for entry in entries {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.into_owned();
        if !entry.header().entry_type().is_file() {
            return Err(foreign(format!("{} is no regular file", path.display())));
        }
        if !is_of_a_profile(&path) {
            let problem = format!("{} is not for a place inside of a profile", path.display());
            return Err(foreign(problem));
        }
        contents.files += 1;
        contents.bytes += write(&mut entry, &directory.join(path), broken)?;
    }
    let mut rest = tar.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(broken)?;
    Ok((label, contents))
}

/// The label, which is the first entry.
fn label(mut entry: tar::Entry<'_, impl Read>) -> Result<Label, String> {
    let not_first = || format!("it does not begin with {LABEL}");
    if *entry.path_bytes() != *LABEL.as_bytes() {
        return Err(not_first());
    }
    let mut text = Vec::new();
    // Some hundred bytes; a longer one is not ours.
    let read = entry.by_ref().take(64 << 10).read_to_end(&mut text);
    read.map_err(|error| error.to_string())?;
    let label: Label =
        serde_json::from_slice(&text).map_err(|error| format!("{LABEL} is damaged: {error}"))?;
    if label.format != FORMAT {
        let format = label.format;
        return Err(format!(
            "it has format {format}, and this witgate knows format {FORMAT}: use the witgate that took it, or a later one"
        ));
    }
    Ok(label)
}

/// Whether a path leads nowhere but into the profile, to a file that a backup takes.
fn is_of_a_profile(path: &Path) -> bool {
    let mut components = path.components();
    path.file_name().is_some()
        && components.all(|component| matches!(component, Component::Normal(_)))
        && !contents::is_left_out(path)
}

/// Writes one file, which must not be there yet.
fn write(
    entry: &mut impl Read,
    path: &Path,
    broken: impl Fn(io::Error) -> RestoreError,
) -> Result<u64, RestoreError> {
    let failed = |source| WriteError::new("write", path, source);
    create_private_directory(path.parent().unwrap_or(path))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    // In pieces, to tell a damaged archive from a full disk.
    let (mut buffer, mut written) = (vec![0; 64 << 10], 0);
    loop {
        let length = match entry.read(&mut buffer) {
            Ok(0) => return Ok(written),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(broken(error)),
        };
        io::Write::write_all(&mut file, &buffer[..length]).map_err(failed)?;
        written += length as u64;
    }
}

/// Puts everything on the disk before the old profile leaves its place.
fn flush(directory: &Path) -> Result<(), WriteError> {
    let failed = |source| WriteError::new("flush", directory, source);
    let file = File::open(directory).map_err(failed)?;
    rustix::fs::syncfs(&file).map_err(|error| failed(error.into()))
}

/// Puts the unpacked profile in the place of the present one, and gives where that is now.
fn replace(
    profile: &Path,
    unpacked: TempDir,
    present: bool,
) -> Result<Option<PathBuf>, RestoreError> {
    let failed = |source: io::Error| WriteError::new("replace", profile, source);
    if !present {
        fs::rename(unpacked.path(), profile).map_err(failed)?;
        // It is a temporary one no longer.
        let _renamed = unpacked.keep();
        return Ok(None);
    }
    let mut before = profile.as_os_str().to_owned();
    before.push(".before-restore-");
    before.push(archive::time_in_name(SystemTime::now()));
    let before = PathBuf::from(before);
    match renameat_with(CWD, unpacked.path(), CWD, profile, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(Some(name_the_one_before(unpacked.keep(), before))),
        Err(Errno::NOSYS | Errno::INVAL | Errno::NOTSUP) => {
            move_aside(profile, unpacked, &before)?;
            Ok(Some(before))
        }
        Err(error) => Err(failed(error.into()).into()),
    }
}

/// Gives the old profile its name, now that it stands where the new one was unpacked. Under the one name or the other
/// it is whole.
fn name_the_one_before(exchanged: PathBuf, before: PathBuf) -> PathBuf {
    match fs::rename(&exchanged, &before) {
        Ok(()) => before,
        Err(error) => {
            warn!(from = %exchanged.display(), to = %before.display(), %error, "cannot rename the profile that was replaced");
            exchanged
        }
    }
}

/// For file systems that cannot exchange two directories in one step: there is no profile for a moment.
fn move_aside(profile: &Path, unpacked: TempDir, before: &Path) -> Result<(), WriteError> {
    let failed = |source| WriteError::new("replace", profile, source);
    fs::rename(profile, before).map_err(failed)?;
    if let Err(source) = fs::rename(unpacked.path(), profile) {
        fs::rename(before, profile).map_err(|source| {
            WriteError::new(
                "put back the old profile, which is whole, from",
                before,
                source,
            )
        })?;
        return Err(failed(source));
    }
    let _renamed = unpacked.keep();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::{BackupConfig, backup};
    use std::io::Write;
    use tar::{EntryType, Header};

    /// A profile with a file in it, and its backup.
    fn backed_up(root: &Path, recipients: Vec<crate::Recipient>) -> (PathBuf, PathBuf) {
        let profile = root.join("profile");
        fs::create_dir_all(profile.join("Default")).unwrap();
        fs::write(profile.join("Local State"), "{}").unwrap();
        fs::write(profile.join("Last Version"), "156.0.1.2").unwrap();
        fs::write(profile.join("Default/Cookies"), "signed in").unwrap();
        let config = BackupConfig {
            profile: profile.clone(),
            directory: root.join("backups"),
            keep: None,
            recipients,
        };
        let archive = backup(&config, |_| ()).unwrap().archive;
        (profile, archive)
    }

    /// An archive with the label and further entries, made as an attacker would: byte by byte.
    fn forged(root: &Path, entries: &[(&str, EntryType)]) -> PathBuf {
        let mut tar = tar::Builder::new(Vec::new());
        let label = format!(r#"{{"format":{FORMAT},"taken":"20260101T000000Z","chromium":null}}"#);
        for (name, kind, text) in [(LABEL, EntryType::Regular, &*label)]
            .into_iter()
            .chain(entries.iter().map(|(name, kind)| (*name, *kind, "x")))
        {
            let mut header = Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(kind);
            header.set_mode(0o777);
            if kind.is_file() {
                header.set_size(text.len() as u64);
            } else {
                header.set_size(0);
                header.set_link_name("/etc/passwd").unwrap();
            }
            header.set_cksum();
            let text = if kind.is_file() { text } else { "" };
            tar.append(&header, text.as_bytes()).unwrap();
        }
        compressed(root, &tar.into_inner().unwrap())
    }

    fn compressed(root: &Path, bytes: &[u8]) -> PathBuf {
        let path = root.join("forged.tar.zst");
        fs::write(&path, zstd::encode_all(bytes, 3).unwrap()).unwrap();
        path
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_restored_profile_is_private_and_the_one_before_is_kept_beside() {
        let root = tempfile::tempdir().unwrap();
        let (profile, archive) = backed_up(root.path(), Vec::new());
        fs::write(profile.join("Default/Cookies"), "signed out").unwrap();
        let restored = restore(&archive, &profile, None).unwrap();
        assert_eq!(
            fs::read(profile.join("Default/Cookies")).unwrap(),
            b"signed in"
        );
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&profile), 0o700);
        assert_eq!(mode(&profile.join("Default")), 0o700);
        assert_eq!(mode(&profile.join("Default/Cookies")), 0o600);
        let before = restored.before.unwrap();
        assert_eq!(
            fs::read(before.join("Default/Cookies")).unwrap(),
            b"signed out"
        );
        assert_eq!(restored.chromium.as_deref(), Some("156.0.1.2"));
        assert_eq!(restored.contents.files, 3);
        assert_eq!(names(root.path()).len(), 3, "profile, before, backups");
    }

    #[test]
    fn without_an_exchange_in_one_step_the_old_profile_is_moved_aside_first() {
        let root = tempfile::tempdir().unwrap();
        let (profile, before) = (root.path().join("profile"), root.path().join("before"));
        let unpacked = |text| {
            let directory = tempfile::tempdir_in(root.path()).unwrap();
            fs::write(directory.path().join("Local State"), text).unwrap();
            directory
        };
        fs::rename(unpacked("old").keep(), &profile).unwrap();
        move_aside(&profile, unpacked("new"), &before).unwrap();
        let text = |directory: &Path| fs::read_to_string(directory.join("Local State")).unwrap();
        assert_eq!(
            (text(&profile), text(&before)),
            ("new".into(), "old".into())
        );

        // What was unpacked is gone: the old one is put back.
        fs::remove_dir_all(&before).unwrap();
        let lost = unpacked("newer");
        fs::remove_dir_all(lost.path()).unwrap();
        move_aside(&profile, lost, &before).unwrap_err();
        assert_eq!(text(&profile), "new");
        assert!(!before.exists());
    }

    #[test]
    fn a_profile_that_is_lost_is_made_anew() {
        let root = tempfile::tempdir().unwrap();
        let (profile, archive) = backed_up(root.path(), Vec::new());
        fs::remove_dir_all(&profile).unwrap();
        let restored = restore(&archive, &profile, None).unwrap();
        assert_eq!(restored.before, None);
        assert_eq!(
            fs::read(profile.join("Default/Cookies")).unwrap(),
            b"signed in"
        );
    }

    #[test]
    fn a_profile_that_a_supervisor_has_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let (profile, archive) = backed_up(root.path(), Vec::new());
        let _supervisor = Profile::claim(&profile).unwrap();
        let error = restore(&archive, &profile, None).unwrap_err();
        assert!(matches!(error, RestoreError::Profile(_)), "{error}");
    }

    #[test]
    fn entries_that_lead_out_of_the_profile_and_links_are_refused_and_leave_nothing() {
        for (entry, problem) in [
            (("../outside", EntryType::Regular), "not for a place inside"),
            (
                ("/tmp/outside", EntryType::Regular),
                "not for a place inside",
            ),
            (
                ("Default/../../outside", EntryType::Regular),
                "not for a place inside",
            ),
            (
                ("witgate.lock", EntryType::Regular),
                "not for a place inside",
            ),
            (("Default/link", EntryType::Symlink), "no regular file"),
            (("Default/link", EntryType::Link), "no regular file"),
            (("Default/pipe", EntryType::Fifo), "no regular file"),
        ] {
            let root = tempfile::tempdir().unwrap();
            let archive = forged(root.path(), &[("Local State", EntryType::Regular), entry]);
            let profile = root.path().join("profile");
            let error = restore(&archive, &profile, None).unwrap_err();
            assert!(matches!(error, RestoreError::Foreign { .. }), "{error}");
            assert!(error.to_string().contains(problem), "{error}");
            assert_eq!(names(root.path()), ["forged.tar.zst"]);
        }
    }

    #[test]
    fn two_entries_for_one_file_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let twice = ("Local State", EntryType::Regular);
        let archive = forged(root.path(), &[twice, twice]);
        let error = restore(&archive, &root.path().join("profile"), None).unwrap_err();
        assert!(error.to_string().contains("Local State"), "{error}");
        assert_eq!(names(root.path()), ["forged.tar.zst"]);
    }

    #[test]
    fn other_archives_and_other_files_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let profile = root.path().join("profile");
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(1);
        tar.append_data(&mut header, "notes", &b"x"[..]).unwrap();
        let other = compressed(root.path(), &tar.into_inner().unwrap());
        let error = restore(&other, &profile, None).unwrap_err();
        assert!(error.to_string().contains("does not begin with"), "{error}");
        fs::write(&other, "PK something").unwrap();
        let error = restore(&other, &profile, None).unwrap_err();
        assert!(matches!(error, RestoreError::Unreadable { .. }), "{error}");
        assert!(!profile.exists());
    }

    #[test]
    fn an_archive_that_is_cut_short_or_damaged_restores_nothing() {
        let root = tempfile::tempdir().unwrap();
        let (profile, archive) = backed_up(root.path(), Vec::new());
        let whole = fs::read(&archive).unwrap();
        let mut damaged = whole.clone();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        let cut = [0, 10, whole.len() / 2, whole.len() - 1].map(|length| whole[..length].to_vec());
        for bytes in cut.into_iter().chain([damaged]) {
            fs::write(&archive, &bytes).unwrap();
            let error = restore(&archive, &profile, None).unwrap_err();
            assert!(
                matches!(
                    error,
                    RestoreError::Unreadable { .. } | RestoreError::Foreign { .. }
                ),
                "{error}"
            );
            assert_eq!(names(root.path()), ["backups", "profile"]);
        }
    }

    #[test]
    fn an_encrypted_archive_needs_the_right_secret_key() {
        use age::secrecy::ExposeSecret;
        let root = tempfile::tempdir().unwrap();
        let key = age::x25519::Identity::generate();
        let recipient = key.to_public().to_string().parse().unwrap();
        let (profile, archive) = backed_up(root.path(), vec![recipient]);
        let clear = b"signed in";
        let bytes = fs::read(&archive).unwrap();
        assert!(!bytes.windows(clear.len()).any(|window| window == clear));

        let error = restore(&archive, &profile, None).unwrap_err();
        assert!(error.to_string().contains("--identity"), "{error}");
        let keys = root.path().join("key");
        let write = |key: &age::x25519::Identity| {
            let mut file = File::create(&keys).unwrap();
            writeln!(file, "# a comment\n{}", key.to_string().expose_secret()).unwrap();
        };
        write(&age::x25519::Identity::generate());
        let error = restore(&archive, &profile, Some(&keys)).unwrap_err();
        assert!(error.to_string().contains("decrypt"), "{error}");
        write(&key);
        restore(&archive, &profile, Some(&keys)).unwrap();
        assert_eq!(fs::read(profile.join("Default/Cookies")).unwrap(), clear);
    }
}
