//! Taking a Playwright `storageState` out of a running browser, without closing it and without touching its tabs.
//!
//! ```text
//! lock ─ connect ─ cookies ─ open pages ─ origins on disk ─ buckets ─ per origin: hidden page ─ sort ─ replace the file
//! ```
//!
//! Cookies come from the browser as a whole, origins from a copy of the profile, from what is open and from the list of
//! buckets (where IndexedDB and private file systems are), values from a hidden page that visits each origin without
//! reaching it. No tab is attached to, so one that hangs or shows a dialog does not matter. What the format has no word
//! for is not taken: storage partitioned by the top-level site, session storage, caches, service workers.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chromiumoxide::cdp::browser_protocol::target::GetTargetsParams;
use serde::{Deserialize, Serialize};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::cdp::{CdpError, Client};
use crate::cookies;
use crate::endpoint::{self, EndpointError};
use crate::file::{self, WriteError};
use crate::hidden_page::answer_with_an_empty_document;
use crate::leftovers;
use crate::local_storage::{LocalStorageCopy, LocalStorageError};
use crate::origins;
use crate::quota;
use crate::reader::{Reader, Wanted};
use crate::snapshot::publish::{Publication, PublishError};
use crate::storage_state::{Cookie, OriginStorage, StorageState};

/// How often a lock that another harvest holds is tried again.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// From where to where, and how long it may take.
#[derive(Debug, Clone)]
pub struct HarvestConfig {
    /// The browser's DevTools endpoint.
    pub endpoint: SocketAddr,
    /// The browser's `--user-data-dir`, from which all origins with local storage are learnt. Without it the origins
    /// of open pages and of cookie domains are tried, which misses ports and sites without cookies.
    pub profile: Option<PathBuf>,
    /// The file to replace. Its directory is created with mode 0700 if it is missing.
    pub file: PathBuf,
    /// Whether databases of IndexedDB are taken, in which Firebase and others keep their log-ins. Default: yes.
    pub indexed_db: bool,
    /// Whether private file systems (OPFS) are taken. Default: no. They rarely hold a log-in, and asking for one makes
    /// an empty directory in the profile.
    pub opfs: bool,
    /// How much of either is taken.
    pub limits: StorageLimits,
    /// Limit on each step: connecting, and each command. Default 10 s; measured, a step takes 10 to 110 ms
    /// where the browser is not busy.
    pub step_timeout: Duration,
    /// Limit on the whole harvest, waiting for another one included. Default 5 min, several thousand origins.
    pub total_timeout: Duration,
    /// How what was taken is published. By default it replaces the file, and nothing else is written.
    pub publication: Publication,
}

impl HarvestConfig {
    /// A harvest with default limits.
    pub fn new(endpoint: SocketAddr, profile: Option<PathBuf>, file: PathBuf) -> Self {
        Self {
            endpoint,
            profile,
            file,
            indexed_db: true,
            opfs: false,
            limits: StorageLimits::default(),
            step_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_secs(300),
            publication: Publication::default(),
        }
    }
}

/// How much IndexedDB and private file systems may add to a storage state, in bytes of JSON. A database that would go
/// beyond is left out whole, and said so: half of one is worse for the page than none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageLimits {
    /// Of one origin. Default 8 MiB: many times a log-in, far less than the mails of a mail client.
    pub origin_size: u64,
    /// Of all origins together. Default 64 MiB: Playwright reads the file whole whenever it makes a context.
    pub total_size: u64,
}

impl Default for StorageLimits {
    fn default() -> Self {
        Self {
            origin_size: 8 << 20,
            total_size: 64 << 20,
        }
    }
}

/// What a harvest brought in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Harvested {
    /// Cookies in the file.
    pub cookies: usize,
    /// Origins in the file.
    pub origins: usize,
    /// Items of local storage in the file, over all origins.
    pub items: usize,
    /// Databases of IndexedDB in the file, over all origins.
    pub databases: usize,
    /// Files of private file systems in the file, over all origins, directories not counted.
    pub files: usize,
    /// Origins whose local storage was read from the disk, where it is some seconds older, because the browser would
    /// not open a page of them or the page hung.
    pub from_disk: usize,
    /// Cookies, origins, databases and file systems left out, because Playwright would refuse them, the format cannot
    /// hold them, they are too large, or the browser would not open them. Each was logged at warn level with its reason.
    pub left_out: usize,
    /// Size of the file.
    pub bytes: usize,
    /// How long it took until it could be published.
    #[serde(rename = "duration_seconds", with = "seconds")]
    pub duration: Duration,
}

/// A duration as a number of seconds.
mod seconds {
    use super::{Deserialize, Duration};
    use serde::{Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(time.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(from)?).map_err(de::Error::custom)
    }
}

/// A harvest failed. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum HarvestError {
    /// No browser answers.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// A command to the browser failed.
    #[error(transparent)]
    Cdp(#[from] CdpError),
    /// The origins in the profile cannot be read. Going on without them would lose log-ins silently.
    #[error(transparent)]
    LocalStorage(#[from] LocalStorageError),
    /// The file, its directory or the lock beside it cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// What was taken is not published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The limit on the whole passed.
    #[error("the harvest took longer than {limit:?}")]
    Timeout {
        /// The limit that passed.
        limit: Duration,
    },
    /// Another harvest into the same file did not end within the limit.
    #[error("another harvest into {} has been running for {limit:?}", file.display())]
    Busy {
        /// The file.
        file: PathBuf,
        /// The limit that passed.
        limit: Duration,
    },
}

impl HarvestError {
    /// Whether the harvest worked and brought in suspiciously little.
    pub fn is_suspicious(&self) -> bool {
        matches!(self, Self::Publish(PublishError::Suspicious { .. }))
    }
}

/// Takes cookies and what origins store of the whole profile and replaces the file by them.
///
/// Harvests into the same file, of this process or another, take turns by a lock on `.NAME.lock` beside it. Equal
/// states give equal bytes. May be dropped at any point: the hidden page ends with the connection, and the file is
/// replaced whole or not at all.
///
/// # Errors
/// [`HarvestError`]; the file is then as it was.
pub async fn harvest(config: &HarvestConfig) -> Result<Harvested, HarvestError> {
    let started = Instant::now();
    let lock = lock(&config.file, config.total_timeout).await?;
    let file = config.file.clone();
    // What is removed is read by nobody, under this lock.
    let lock = on_blocking_thread::<_, WriteError>(move || {
        leftovers::remove(&file);
        Ok(lock)
    })
    .await?;
    let rest = config.total_timeout.saturating_sub(started.elapsed());
    let collected =
        timeout(rest, collect(config))
            .await
            .map_err(|_elapsed| HarvestError::Timeout {
                limit: config.total_timeout,
            })??;
    let state = collected.state;
    let bytes = state.to_json();
    let file = config.file.clone();
    let publication = config.publication.clone();
    let harvested = Harvested {
        cookies: state.cookies.len(),
        origins: state.origins.len(),
        items: over_origins(&state, |origin| origin.local_storage.len()),
        databases: over_origins(&state, |origin| origin.indexed_db.len()),
        files: over_origins(&state, OriginStorage::files),
        from_disk: collected.from_disk,
        left_out: collected.left_out,
        bytes: bytes.len(),
        duration: started.elapsed(),
    };
    on_blocking_thread(move || {
        // The lock goes along, so that it is held until the file is written even if this future is dropped.
        let _lock = lock;
        publication.publish(&file, &bytes, harvested)
    })
    .await
}

fn over_origins(state: &StorageState, count: impl Fn(&OriginStorage) -> usize) -> usize {
    state.origins.iter().map(count).sum()
}

/// Waits until no other harvest into `file` runs. Fails at once when the directory cannot be written, which is
/// better known before the browser is bothered.
async fn lock(file: &Path, limit: Duration) -> Result<File, HarvestError> {
    let started = Instant::now();
    let directory = file::create_parent(file)?;
    let path = directory.join(format!("{}lock", file::hidden_prefix(file)));
    let failed = |source| WriteError::new("lock", &path, source);
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if started.elapsed() < limit => sleep(LOCK_POLL).await,
            Err(TryLockError::WouldBlock) => {
                return Err(HarvestError::Busy {
                    file: file.to_owned(),
                    limit,
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source).into()),
        }
    }
}

/// A storage state, and what is to be told of how it came about.
struct Collected {
    state: StorageState,
    from_disk: usize,
    left_out: usize,
}

async fn collect(config: &HarvestConfig) -> Result<Collected, HarvestError> {
    let version = endpoint::version(config.endpoint, config.step_timeout).await?;
    let react = answer_with_an_empty_document;
    let mut client = Client::connect(
        config.endpoint,
        &version.websocket_path,
        config.step_timeout,
        react,
    )
    .await?;
    let taken = cookies::all(&mut client).await?;
    let disk = match &config.profile {
        Some(profile) => {
            let profile = profile.clone();
            Some(on_blocking_thread(move || LocalStorageCopy::take(&profile)).await?)
        }
        None => None,
    };
    let (disk, mut origins) = all_origins(&mut client, disk, &taken.cookies).await?;
    let (wanted, unlisted) = wanted(&mut client, config).await?;
    origins.extend(wanted.origins.iter().cloned());
    let mut reader = Reader::new(client, disk, wanted);
    let origins = reader.read_all(origins).await?;
    let mut state = StorageState {
        cookies: taken.cookies,
        origins,
    };
    state.sort();
    Ok(Collected {
        state,
        from_disk: reader.from_disk,
        left_out: taken.left_out + unlisted + reader.left_out,
    })
}

/// What to take besides local storage and of which origins, and 1 if these are not known.
async fn wanted(
    client: &mut Client,
    config: &HarvestConfig,
) -> Result<(Wanted, usize), HarvestError> {
    let mut wanted = Wanted {
        indexed_db: config.indexed_db,
        opfs: config.opfs,
        limits: config.limits.clone(),
        origins: BTreeSet::new(),
    };
    if !wanted.indexed_db && !wanted.opfs {
        return Ok((wanted, 0));
    }
    let error = match quota::origins(client).await {
        Ok(origins) => {
            wanted.origins = origins;
            return Ok((wanted, 0));
        }
        Err(error @ CdpError::Closed { .. }) => return Err(error.into()),
        Err(error) => error,
    };
    let Some(profile) = config.profile.clone() else {
        warn!(%error, "IndexedDB and files left out: the browser does not list the origins that have any");
        return Ok((wanted, 1));
    };
    warn!(%error, "the browser does not list the origins with IndexedDB: they are looked up in the profile");
    let listed = on_blocking_thread(move || quota::origins_on_disk(&profile)).await;
    wanted.origins = listed?;
    Ok((wanted, 0))
}

/// Every origin that may have local storage: on disk, open now, and, without a disk, of the cookies.
async fn all_origins(
    client: &mut Client,
    disk: Option<LocalStorageCopy>,
    cookies: &[Cookie],
) -> Result<(Option<LocalStorageCopy>, BTreeSet<String>), HarvestError> {
    let targets = client
        .call(None, GetTargetsParams::default())
        .await?
        .target_infos;
    let open = origins::of_urls(targets.iter().map(|target| target.url.as_str()));
    let (disk, mut origins) = match disk {
        Some(disk) => {
            on_blocking_thread(move || disk.origins().map(|origins| (Some(disk), origins))).await?
        }
        None => (None, origins::of_cookies(cookies)),
    };
    debug!(
        listed = origins.len(),
        open = open.len(),
        on_disk = disk.is_some(),
        "origins to read"
    );
    origins.extend(open);
    Ok((disk, origins))
}

/// Runs what blocks on the disk where it may block.
pub(crate) async fn on_blocking_thread<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, HarvestError>
where
    T: Send + 'static,
    E: Send + 'static,
    HarvestError: From<E>,
{
    match spawn_blocking(work)
        .await
        .map_err(JoinError::try_into_panic)
    {
        Ok(result) => Ok(result?),
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // Never begun, because the runtime is being shut down, and this future with it.
        Err(Err(_cancelled)) => std::future::pending().await,
    }
}
