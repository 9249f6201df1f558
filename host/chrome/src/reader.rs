//! Reading what many origins store, from the browser where it can be had and local storage from the disk where not.

use std::collections::{BTreeMap, BTreeSet};

use chromiumoxide::cdp::browser_protocol::page::FrameId;
use tracing::{debug, warn};

use crate::cdp::{CdpError, Client};
use crate::harvest::{HarvestError, StorageLimits, on_blocking_thread};
use crate::hidden_page::HiddenPage;
use crate::local_storage::LocalStorageCopy;
use crate::page_storage::{Ask, PageStorage};
use crate::refusal::check_origin;
use crate::storage_state::{Item, OriginStorage};

/// After so many hung pages in a row no further one is opened: what keeps them from loading is not the origin.
const MAX_HUNG_PAGES: usize = 3;

/// What is taken besides local storage.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) indexed_db: bool,
    pub(crate) opfs: bool,
    pub(crate) limits: StorageLimits,
    /// The origins that have any of it; no other one is asked.
    pub(crate) origins: BTreeSet<String>,
}

/// Reads origin after origin through one hidden page, which is replaced when it got stuck.
pub(crate) struct Reader {
    client: Client,
    page: Option<HiddenPage>,
    disk: Disk,
    wanted: Wanted,
    hung_pages: usize,
    /// Bytes of IndexedDB and files so far, as JSON.
    taken: u64,
    /// Origins whose local storage was read from the disk.
    pub(crate) from_disk: usize,
    /// Origins, and databases and file systems of other ones, that could not be read.
    pub(crate) left_out: usize,
}

/// What there is besides the browser.
enum Disk {
    /// No profile is at hand.
    Absent,
    /// A copy that nobody needed so far.
    Copy(LocalStorageCopy),
    /// Its items, by origin.
    Items(BTreeMap<String, Vec<Item>>),
}

/// How the local storage of an origin was had.
enum Read {
    /// From the page, whose document in this frame is now of the origin.
    Browser(Vec<Item>, FrameId),
    /// From the disk, or not at all.
    Elsewhere(Vec<Item>),
}

impl Reader {
    pub(crate) fn new(client: Client, disk: Option<LocalStorageCopy>, wanted: Wanted) -> Self {
        let disk = disk.map_or(Disk::Absent, Disk::Copy);
        Self {
            client,
            page: None,
            disk,
            wanted,
            hung_pages: 0,
            taken: 0,
            from_disk: 0,
            left_out: 0,
        }
    }

    /// What each origin stores, of those that store anything.
    pub(crate) async fn read_all(
        &mut self,
        origins: BTreeSet<String>,
    ) -> Result<Vec<OriginStorage>, HarvestError> {
        let mut storages = Vec::new();
        for origin in origins {
            if let Err(refusal) = check_origin(&origin) {
                warn!(%origin, %refusal, "origin left out");
                self.left_out += 1;
                continue;
            }
            let storage = self.read_origin(origin).await?;
            let nothing = storage.local_storage.is_empty()
                && storage.indexed_db.is_empty()
                && storage.opfs.is_empty();
            if !nothing {
                storages.push(storage);
            }
        }
        if let Some(page) = self.page.take() {
            page.close(&mut self.client).await?;
        }
        Ok(storages)
    }

    async fn read_origin(&mut self, origin: String) -> Result<OriginStorage, HarvestError> {
        let read = self.read_local_storage(&origin).await?;
        let asked = self.wanted.origins.contains(&origin);
        let (local_storage, rest) = match read {
            Read::Browser(items, frame) if asked => (items, self.read_rest(&origin, frame).await?),
            Read::Browser(items, _) => (items, PageStorage::default()),
            Read::Elsewhere(items) => {
                if asked {
                    self.leave_out(&origin, "IndexedDB and files: no page of this origin loads");
                }
                (items, PageStorage::default())
            }
        };
        let mut storage = OriginStorage {
            origin,
            local_storage,
            indexed_db: rest.databases,
            opfs: rest.files,
        };
        if let Err(refusal) = storage.check() {
            self.leave_out(&storage.origin, &format!("IndexedDB and files: {refusal}"));
            (storage.indexed_db, storage.opfs) = (Vec::new(), Vec::new());
        }
        Ok(storage)
    }

    async fn read_local_storage(&mut self, origin: &str) -> Result<Read, HarvestError> {
        if self.hung_pages >= MAX_HUNG_PAGES {
            return self.read_from_disk(origin).await;
        }
        let page = match self.page.take() {
            Some(page) => page,
            None => HiddenPage::open(&mut self.client).await?,
        };
        match page.local_storage(&mut self.client, origin).await {
            Ok((items, frame)) => {
                self.hung_pages = 0;
                self.page = Some(page);
                Ok(Read::Browser(items, frame))
            }
            // For instance because it upgrades http to https: what is stored is out of the site's own reach, too.
            Err(error @ CdpError::Refused { .. }) => {
                self.page = Some(page);
                if matches!(self.disk, Disk::Absent) {
                    warn!(origin, %error, "local storage left out: the browser does not open this origin");
                    self.left_out += 1;
                    return Ok(Read::Elsewhere(Vec::new()));
                }
                debug!(origin, %error, "local storage read from the disk");
                self.read_from_disk(origin).await
            }
            // The page shares a process with a tab that hangs, or a client that watches new pages has stopped
            // answering, which keeps every new page from loading.
            Err(error @ CdpError::Timeout { .. }) if !matches!(self.disk, Disk::Absent) => {
                page.close(&mut self.client).await?;
                self.hung_pages += 1;
                warn!(origin, %error, "a page hangs: its local storage is read from the disk");
                if self.hung_pages == MAX_HUNG_PAGES {
                    warn!(
                        "no page loads: perhaps a client has stopped answering; reading from the disk alone"
                    );
                }
                self.read_from_disk(origin).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// IndexedDB and files of the origin on which the page stands. What cannot be had is left out: unlike local
    /// storage it is asked for one origin after the other, and one that hangs must not cost the rest.
    async fn read_rest(
        &mut self,
        origin: &str,
        frame: FrameId,
    ) -> Result<PageStorage, HarvestError> {
        let Some(page) = self.page.take() else {
            return Ok(PageStorage::default());
        };
        let limits = &self.wanted.limits;
        let ask = Ask {
            indexed_db: self.wanted.indexed_db,
            opfs: self.wanted.opfs,
            bytes: limits
                .origin_size
                .min(limits.total_size.saturating_sub(self.taken)),
        };
        match page.storage(&mut self.client, frame, ask).await {
            Ok(storage) => {
                self.page = Some(page);
                self.taken += storage.bytes;
                for what in &storage.left_out {
                    self.leave_out(origin, what);
                }
                Ok(storage)
            }
            Err(error @ CdpError::Closed { .. }) => Err(error.into()),
            Err(error) => {
                self.leave_out(origin, &format!("IndexedDB and files: {error}"));
                page.close(&mut self.client).await?;
                Ok(PageStorage::default())
            }
        }
    }

    fn leave_out(&mut self, origin: &str, what: &str) {
        warn!(origin, what, "left out of the snapshot");
        self.left_out += 1;
    }

    /// The items of one origin as of the last write to the disk; all are loaded at the first need.
    async fn read_from_disk(&mut self, origin: &str) -> Result<Read, HarvestError> {
        let mut items = match std::mem::replace(&mut self.disk, Disk::Absent) {
            Disk::Absent => BTreeMap::new(),
            Disk::Copy(copy) => on_blocking_thread(move || copy.items()).await?,
            Disk::Items(items) => items,
        };
        let found = items.remove(origin).unwrap_or_default();
        self.disk = Disk::Items(items);
        self.from_disk += 1;
        Ok(Read::Elsewhere(found))
    }
}
