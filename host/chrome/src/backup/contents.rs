//! What of a profile belongs into a backup, and which files only mean something together.
//!
//! Left out: caches, which Chromium fills again (`Cache`, `Code Cache`, the GPU's, downloaded models and component
//! packages), crash reports, and what tells who holds the profile (`Singleton*`, the supervisor's lock). Kept: all
//! else, `Service Worker/CacheStorage` too, since that is what sites have stored and nothing brings it back.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Left out where it stands directly in the `--user-data-dir`.
const NOT_AT_THE_TOP: [&str; 17] = [
    "BrowserMetrics",
    "BrowserMetrics-spare.pma",
    "Crash Reports",
    "Crashpad",
    "DevToolsActivePort",
    "GPUPersistentCache",
    "GraphiteDawnCache",
    "GrShaderCache",
    "ShaderCache",
    "SingletonCookie",
    "SingletonLock",
    "SingletonSocket",
    "component_crx_cache",
    "extensions_crx_cache",
    "lost+found",
    "optimization_guide_model_store",
    "witgate.lock",
];

/// Left out where it stands in a directory of that, such as `Default`.
const NOT_IN_A_PROFILE: [&str; 11] = [
    "Cache",
    "Code Cache",
    "DawnCache",
    "DawnGraphiteCache",
    "DawnWebGPUCache",
    "GPUCache",
    "LOCK",
    "LOG",
    "Media Cache",
    "Shared Dictionary",
    "blob_storage",
];

/// Files of a LevelDB that hold nothing of it: its lock, and two logs for people.
const NOT_IN_A_LEVELDB: [&str; 3] = ["LOCK", "LOG", "LOG.old"];

/// What SQLite keeps beside a database and is part of it. (`-shm` is not: it is made anew from `-wal`.)
const COMPANIONS: [&str; 2] = ["-journal", "-wal"];

/// Files that make sense only as they were at one moment: a database, or a file by itself. Paths are relative to the
/// profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// Files, some of which need not exist, and directories with all that is in them.
    pub(crate) roots: Vec<PathBuf>,
}

/// Whether this path of a profile is left out of a backup.
pub(crate) fn is_left_out(path: &Path) -> bool {
    let names: Vec<&OsStr> = path.iter().collect();
    let among = |list: &[&str], name: &OsStr| list.iter().any(|left_out| name == *left_out);
    names.first().is_some_and(|top| {
        among(&NOT_AT_THE_TOP, top) || top.as_bytes().starts_with(b".org.chromium.")
    }) || names
        .get(1)
        .is_some_and(|second| among(&NOT_IN_A_PROFILE, second))
}

/// Everything of `profile` that belongs into a backup, as it is now.
pub(crate) fn groups(profile: &Path) -> io::Result<Vec<Group>> {
    let mut groups = Vec::new();
    collect(profile, Path::new(""), &mut groups)?;
    Ok(groups)
}

fn collect(profile: &Path, directory: &Path, groups: &mut Vec<Group>) -> io::Result<()> {
    let (directories, files) = list(profile, directory)?;
    let one_database = files.contains(OsStr::new("CURRENT"))
        // The sandboxed file system: a LevelDB of names, and numbered files of contents beside it.
        || directory.iter().nth(1) == Some(OsStr::new("File System"));
    if one_database {
        groups.push(Group {
            roots: vec![directory.to_owned()],
        });
        return Ok(());
    }
    for file in &files {
        let base = |suffix: &str| file.as_bytes().strip_suffix(suffix.as_bytes());
        let is_companion = ["-journal", "-wal", "-shm"]
            .iter()
            .any(|suffix| base(suffix).is_some_and(|base| files.contains(OsStr::from_bytes(base))));
        if !is_companion {
            let path = directory.join(file);
            let mut roots = vec![path.clone()];
            roots.extend(COMPANIONS.map(|suffix| with_suffix(&path, suffix)));
            groups.push(Group { roots });
        }
    }
    for name in &directories {
        let path = directory.join(name);
        let base = |suffix: &str| name.as_bytes().strip_suffix(suffix.as_bytes());
        // An IndexedDB: a LevelDB that names files in the directory beside it.
        if let Some(base) = base(".indexeddb.leveldb") {
            let blobs = [base, b".indexeddb.blob"].concat();
            groups.push(Group {
                roots: vec![path, directory.join(OsStr::from_bytes(&blobs))],
            });
        } else if base(".indexeddb.blob").is_none_or(|base| {
            !directories.contains(OsStr::from_bytes(&[base, b".indexeddb.leveldb"].concat()))
        }) {
            collect(profile, &path, groups)?;
        }
    }
    Ok(())
}

/// The regular files of a group that are there now.
pub(crate) fn files(profile: &Path, group: &Group) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for root in &group.roots {
        match fs::symlink_metadata(profile.join(root)) {
            Ok(metadata) if metadata.is_dir() => files_below(profile, root, &mut found)?,
            Ok(metadata) if metadata.is_file() => found.push(root.clone()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn files_below(profile: &Path, directory: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let (directories, files) = list(profile, directory)?;
    let leveldb = files.contains(OsStr::new("CURRENT"));
    let kept = files
        .iter()
        .filter(|file| !leveldb || !NOT_IN_A_LEVELDB.iter().any(|name| *file == name));
    found.extend(kept.map(|file| directory.join(file)));
    directories
        .iter()
        .try_for_each(|name| files_below(profile, &directory.join(name), found))
}

type Names = BTreeSet<std::ffi::OsString>;

/// The names in a directory: of directories and of regular files. Links, sockets and pipes are no part of a backup,
/// and a directory that has just gone is empty.
fn list(profile: &Path, directory: &Path) -> io::Result<(Names, Names)> {
    let (mut directories, mut files) = (Names::new(), Names::new());
    let entries = match fs::read_dir(profile.join(directory)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((directories, files)),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if is_left_out(&directory.join(entry.file_name())) {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => drop(directories.insert(entry.file_name())),
            Ok(kind) if kind.is_file() => drop(files.insert(entry.file_name())),
            Ok(_) => {
                tracing::debug!(path = %entry.path().display(), "left out of the backup: no regular file")
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok((directories, files))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(files: &[&str]) -> tempfile::TempDir {
        let profile = tempfile::tempdir().unwrap();
        for file in files {
            let path = profile.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        profile
    }

    fn grouped(files_there: &[&str]) -> Vec<Vec<String>> {
        let profile = profile(files_there);
        let groups = groups(profile.path()).unwrap();
        let files = groups
            .iter()
            .map(|group| files(profile.path(), group).unwrap());
        files
            .map(|files| {
                let shown = files.iter().map(|file| file.display().to_string());
                shown.collect()
            })
            .collect()
    }

    #[test]
    fn caches_and_locks_are_left_out_and_a_sites_own_cache_is_not() {
        let files = [
            "Default/Cache/Cache_Data/data_0",
            "Default/Code Cache/js/index",
            "Default/Service Worker/CacheStorage/a/index",
            "Default/storage/Cache/kept",
            "GrShaderCache/data_0",
            "Local State",
            "SingletonLock",
            "witgate.lock",
        ];
        assert_eq!(
            grouped(&files).concat(),
            [
                "Local State",
                "Default/Service Worker/CacheStorage/a/index",
                "Default/storage/Cache/kept"
            ]
        );
    }

    #[test]
    fn a_database_is_one_group_with_its_journal() {
        let files = [
            "Default/Cookies",
            "Default/Cookies-journal",
            "Default/a.db",
            "Default/a.db-shm",
            "Default/a.db-wal",
            "Default/orphan-journal",
        ];
        assert_eq!(
            grouped(&files),
            [
                vec!["Default/Cookies", "Default/Cookies-journal"],
                vec!["Default/a.db", "Default/a.db-wal"],
                vec!["Default/orphan-journal"],
            ]
        );
    }

    #[test]
    fn a_leveldb_is_one_group_and_an_indexeddb_has_its_blobs() {
        let files = [
            "Default/Local Storage/leveldb/000003.log",
            "Default/Local Storage/leveldb/CURRENT",
            "Default/Local Storage/leveldb/LOCK",
            "Default/Local Storage/leveldb/LOG",
            "Default/IndexedDB/https_a_0.indexeddb.blob/1/00/1",
            "Default/IndexedDB/https_a_0.indexeddb.leveldb/CURRENT",
            "Default/File System/000/t/00/00000000",
            "Default/File System/Origins/CURRENT",
        ];
        assert_eq!(
            grouped(&files),
            [
                vec![
                    "Default/File System/000/t/00/00000000",
                    "Default/File System/Origins/CURRENT"
                ],
                vec![
                    "Default/IndexedDB/https_a_0.indexeddb.leveldb/CURRENT",
                    "Default/IndexedDB/https_a_0.indexeddb.blob/1/00/1"
                ],
                vec![
                    "Default/Local Storage/leveldb/000003.log",
                    "Default/Local Storage/leveldb/CURRENT"
                ],
            ]
        );
    }

    #[test]
    fn links_are_no_part_of_it() {
        let profile = profile(&["Default/Preferences"]);
        std::os::unix::fs::symlink("/etc/passwd", profile.path().join("Default/link")).unwrap();
        assert_eq!(groups(profile.path()).unwrap().len(), 1);
    }
}
