//! Compiled components on disk, so that a restart or a reload does not compile.
//!
//! An entry is native code that the process will run, so it is only ever taken from a directory and a file that
//! belong to this process's user and that nobody else may write, and only when its checksum holds. Anything else
//! is compiled anew and written over.

use std::fs::{self, DirBuilder, File, Metadata};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// SHA-256 of a component's bytes.
pub type ComponentDigest = [u8; 32];

/// A directory of compiled components. Entries are keyed by the component's digest and the engine's fingerprint
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
        let (checksum, code) = entry.split_at_checked(32)?;
        if Sha256::digest(code)[..] != *checksum {
            tracing::warn!(path = %path.display(), "code cache entry is damaged; compiling anew");
            return None;
        }
        deserialize(engine, code, &path)
    }

    /// Keeps a compiled component. A failure costs the next start some time and nothing else, so it is logged.
    pub(crate) fn store(&self, engine: &Engine, digest: &ComponentDigest, component: &Component) {
        let path = self.path(engine, digest);
        if let Err(error) = self.write(&path, component) {
            tracing::warn!(path = %path.display(), %error, "compiled component could not be kept in the code cache");
        }
    }

    fn write(&self, path: &Path, component: &Component) -> io::Result<()> {
        let code = component.serialize().map_err(io::Error::other)?;
        // Several processes may write the same entry at once: each writes its own file and renames it.
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        let written = file
            .write_all(&Sha256::digest(&code))
            .and_then(|()| file.write_all(&code));
        // No fsync: after a crash the checksum tells a torn entry from a whole one.
        let kept = written.and_then(|()| fs::rename(&temporary, path));
        if kept.is_err() {
            fs::remove_file(&temporary)?;
        }
        kept
    }

    fn path(&self, engine: &Engine, digest: &ComponentDigest) -> PathBuf {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let fingerprint = hasher.hash_one(HashOnce(engine));
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.directory
            .join(format!("{digest}-{fingerprint:016x}.cwasm"))
    }
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
