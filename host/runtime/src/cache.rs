//! Compiled components on disk, so that a restart or a reload does not compile.
//!
//! An entry is native code that the process will run, so it is only ever taken from a directory and a file that
//! belong to this process's user and that nobody else may write, and only when its checksum holds. Anything else
//! is compiled anew and written over.

mod prune;

use std::fs::{self, DirBuilder, File, Metadata};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// SHA-256 of a component's bytes.
pub type ComponentDigest = [u8; 32];

/// Of an entry's layout: 32 bytes of checksum over the entry's name and the code, then the code. Entries of another
/// layout have other names, and are pruned in time.
const LAYOUT: u32 = 2;

/// A directory of compiled components. Entries that were not used for 30 days, and beyond 1 GiB those that were not
/// used for longest, are removed when another is added. Entries are keyed by the component's digest and the engine's fingerprint
/// (wasmtime's version, its settings, the processor's features), so several versions can share a directory.
#[derive(Debug, Clone)]
pub struct CodeCache {
    directory: PathBuf,
}

impl CodeCache {
    /// Opens the directory, creating it with mode 0700 when it is missing.
    ///
    /// # Errors
    ///
    /// When it cannot be created, is no directory, belongs to another user, or may be written by others.
    pub fn open(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)?;
        let metadata = fs::metadata(&directory)?;
        if !metadata.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::NotADirectory,
                "not a directory",
            ));
        }
        if !only_ours(&metadata) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "belongs to another user or may be written by others, so code from it cannot be trusted",
            ));
        }
        Ok(Self { directory })
    }

    /// The compiled component, or `None` when there is no trustworthy entry.
    pub(crate) fn load(&self, engine: &Engine, digest: &ComponentDigest) -> Option<Component> {
        let path = self.path(engine, digest);
        let mut file = File::open(&path).ok()?;
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() || !only_ours(&metadata) {
            tracing::warn!(path = %path.display(), "code cache entry belongs to somebody else; compiling anew");
            return None;
        }
        let mut entry = Vec::new();
        file.read_to_end(&mut entry).ok()?;
        let whole =
            (entry.split_at_checked(32)).filter(|(sum, code)| checksum(&path, code)[..] == **sum);
        let Some((_, code)) = whole else {
            tracing::warn!(path = %path.display(), "code cache entry is damaged; compiling anew");
            return None;
        };
        prune::note_use(&file, metadata.modified());
        deserialize(engine, code, &path)
    }

    /// Keeps a compiled component. A failure costs the next start some time and nothing else, so it is logged.
    pub(crate) fn store(&self, engine: &Engine, digest: &ComponentDigest, component: &Component) {
        let path = self.path(engine, digest);
        if let Err(error) = self.write(&path, component) {
            tracing::warn!(path = %path.display(), %error, "compiled component could not be kept in the code cache");
        }
        if let Err(error) = prune::prune(&self.directory, SystemTime::now(), prune::MAX_SIZE) {
            let directory = self.directory.display();
            tracing::warn!(%directory, %error, "old entries of the code cache could not be removed");
        }
    }

    fn write(&self, path: &Path, component: &Component) -> io::Result<()> {
        static WRITTEN: AtomicU64 = AtomicU64::new(0);
        let code = component.serialize().map_err(io::Error::other)?;
        // Several processes and threads may write the same entry at once: each writes its own file and renames it.
        let (process, count) = (std::process::id(), WRITTEN.fetch_add(1, Ordering::Relaxed));
        let temporary = path.with_extension(format!("{process}-{count}.tmp"));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        let written = file
            .write_all(&checksum(path, &code))
            .and_then(|()| file.write_all(&code));
        // No fsync: after a crash the checksum tells a torn entry from a whole one.
        let kept = written.and_then(|()| fs::rename(&temporary, path));
        if kept.is_err()
            && let Err(error) = fs::remove_file(&temporary)
        {
            tracing::debug!(%error, "half an entry of the code cache is left for later");
        }
        kept
    }

    fn path(&self, engine: &Engine, digest: &ComponentDigest) -> PathBuf {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let fingerprint = hasher.hash_one((LAYOUT, HashOnce(engine)));
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.directory
            .join(format!("{digest}-{fingerprint:016x}.cwasm"))
    }
}

/// Over the entry's name too, so that one that was put in another's place is not taken for it.
fn checksum(path: &Path, code: &[u8]) -> ComponentDigest {
    let name = path.file_name().unwrap_or_default();
    let named = Sha256::new().chain_update(name.as_encoded_bytes());
    named
        .chain_update(b"\0")
        .chain_update(code)
        .finalize()
        .into()
}

/// Adapts wasmtime's "something that can be hashed" to `hash_one`.
struct HashOnce<'a>(&'a Engine);

impl std::hash::Hash for HashOnce<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.precompile_compatibility_hash().hash(state);
    }
}

#[expect(
    unsafe_code,
    reason = "running code that an earlier start of this program compiled"
)]
fn deserialize(engine: &Engine, code: &[u8], path: &Path) -> Option<Component> {
    // SAFETY: `deserialize` requires bytes that `Component::serialize` made. Only this user (or root) can have
    // written the file, which `only_ours` checked for file and directory; a user who wants to run code as itself
    // needs no cache for it. The checksum rules out torn and rotten files, and wasmtime refuses code of another
    // version, configuration or processor.
    match unsafe { Component::deserialize(engine, code) } {
        Ok(component) => Some(component),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "code cache entry does not fit; compiling anew");
            None
        }
    }
}

/// The same code for another engine that compiles alike and places instances elsewhere.
#[expect(
    unsafe_code,
    reason = "running code that this process compiled or took from its cache"
)]
pub(crate) fn copy(component: &Component, engine: &Engine) -> wasmtime::Result<Component> {
    let code = component.serialize()?;
    // SAFETY: `deserialize` requires bytes that `Component::serialize` made, as these were, a line above.
    unsafe { Component::deserialize(engine, code) }
}

fn only_ours(metadata: &Metadata) -> bool {
    metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o022 == 0
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::thread;

    use tempfile::TempDir;

    use super::*;

    /// The smallest component there is.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";
    const DIGEST: ComponentDigest = [7; 32];

    struct Cached {
        directory: TempDir,
        cache: CodeCache,
        engine: Engine,
        component: Component,
    }

    impl Cached {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("a scratch directory");
            let engine = Engine::default();
            Self {
                cache: CodeCache::open(directory.path().join("cache")).expect("it can be made"),
                component: Component::from_binary(&engine, EMPTY).expect("it is one"),
                directory,
                engine,
            }
        }

        fn store(&self) {
            self.cache.store(&self.engine, &DIGEST, &self.component);
        }

        fn has(&self, digest: &ComponentDigest) -> bool {
            self.cache.load(&self.engine, digest).is_some()
        }

        fn entry(&self) -> PathBuf {
            self.cache.path(&self.engine, &DIGEST)
        }

        fn names(&self) -> Vec<PathBuf> {
            let entries = fs::read_dir(self.directory.path().join("cache"));
            let entries = entries.expect("it is there");
            entries
                .map(|entry| entry.expect("an entry").path())
                .collect()
        }
    }

    #[test]
    fn what_is_kept_is_found_and_nothing_else() {
        let cached = Cached::new();
        assert!(!cached.has(&DIGEST));
        cached.store();
        assert!(cached.has(&DIGEST) && !cached.has(&[8; 32]));
        assert_eq!(cached.names(), [cached.entry()]);
        let mode = fs::metadata(cached.entry()).expect("it is there").mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_entry_is_not_taken_and_is_replaced() {
        let cached = Cached::new();
        cached.store();
        let whole = fs::read(cached.entry()).expect("it is there");
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for damaged in [&flipped[..], &whole[..whole.len() - 1], &whole[..20], b""] {
            fs::write(cached.entry(), damaged).expect("a written file");
            assert!(!cached.has(&DIGEST), "{} bytes", damaged.len());
            cached.store();
            assert!(cached.has(&DIGEST));
        }
    }

    #[test]
    fn an_entry_in_the_place_of_another_is_not_taken() {
        let cached = Cached::new();
        cached.store();
        let other = cached.cache.path(&cached.engine, &[8; 32]);
        fs::copy(cached.entry(), other).expect("a copied file");
        assert!(!cached.has(&[8; 32]));
    }

    #[test]
    fn what_others_may_write_is_not_trusted() {
        let cached = Cached::new();
        cached.store();
        let open_to_all = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
        };
        open_to_all(&cached.entry(), 0o666);
        assert!(!cached.has(&DIGEST));
        cached.store();
        assert!(cached.has(&DIGEST), "it is replaced by one that is");
        let directory = cached.directory.path().join("cache");
        open_to_all(&directory, 0o777);
        let refused = CodeCache::open(directory).expect_err("others may write it");
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn an_entry_that_cannot_be_written_leaves_nothing_behind() {
        let cached = Cached::new();
        fs::create_dir(cached.entry()).expect("a directory in its place");
        cached.store();
        assert!(!cached.has(&DIGEST));
        assert_eq!(cached.names(), [cached.entry()]);
        fs::remove_dir_all(cached.directory.path().join("cache")).expect("it is ours");
        cached.store();
        assert!(!cached.has(&DIGEST));
    }

    #[test]
    fn whoever_writes_and_reads_at_once_finds_whole_entries() {
        let cached = Cached::new();
        cached.store();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        cached.store();
                        assert!(cached.has(&DIGEST));
                    }
                });
            }
        });
        assert_eq!(cached.names(), [cached.entry()]);
    }
}
