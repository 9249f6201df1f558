//! Reading the local storage of many origins, from the browser where it can be had and from the disk where not.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{debug, warn};

use crate::cdp::{CdpError, Client};
use crate::harvest::{HarvestError, on_blocking_thread};
use crate::hidden_page::HiddenPage;
use crate::local_storage::LocalStorageCopy;
use crate::storage_state::{Item, OriginStorage};

/// After so many hung pages in a row no further one is opened: what keeps them from loading is not the origin.
const MAX_HUNG_PAGES: usize = 3;

/// Reads origin after origin through one hidden page, which is replaced when it got stuck.
pub(crate) struct Reader {
    client: Client,
    page: Option<HiddenPage>,
    disk: Disk,
    hung_pages: usize,
    /// Origins read from the disk.
    pub(crate) from_disk: usize,
    /// Origins that could not be read at all.
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

impl Reader {
    pub(crate) fn new(client: Client, disk: Option<LocalStorageCopy>) -> Self {
        let disk = disk.map_or(Disk::Absent, Disk::Copy);
        Self {
            client,
            page: None,
            disk,
            hung_pages: 0,
            from_disk: 0,
            left_out: 0,
        }
    }

    /// The local storage of each origin that has any.
    pub(crate) async fn read_all(
        &mut self,
        origins: BTreeSet<String>,
    ) -> Result<Vec<OriginStorage>, HarvestError> {
        let mut storages = Vec::new();
        for origin in origins {
            let local_storage = self.read(&origin).await?;
            if !local_storage.is_empty() {
                storages.push(OriginStorage {
                    origin,
                    local_storage,
                });
            }
        }
        if let Some(page) = self.page.take() {
            page.close(&mut self.client).await?;
        }
        Ok(storages)
    }

    async fn read(&mut self, origin: &str) -> Result<Vec<Item>, HarvestError> {
        if self.hung_pages >= MAX_HUNG_PAGES {
            return self.read_from_disk(origin).await;
        }
        let page = match self.page.take() {
            Some(page) => page,
            None => HiddenPage::open(&mut self.client).await?,
        };
        match page.local_storage(&mut self.client, origin).await {
            Ok(items) => {
                self.hung_pages = 0;
                self.page = Some(page);
                Ok(items)
            }
            // For instance because it upgrades http to https: what is stored is out of the site's own reach, too.
            Err(error @ CdpError::Refused { .. }) => {
                self.page = Some(page);
                if matches!(self.disk, Disk::Absent) {
                    warn!(origin, %error, "local storage left out: the browser does not open this origin");
                    self.left_out += 1;
                    return Ok(Vec::new());
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

    /// The items of one origin as of the last write to the disk; all are loaded at the first need.
    async fn read_from_disk(&mut self, origin: &str) -> Result<Vec<Item>, HarvestError> {
        let mut items = match std::mem::replace(&mut self.disk, Disk::Absent) {
            Disk::Absent => BTreeMap::new(),
            Disk::Copy(copy) => on_blocking_thread(move || copy.items()).await?,
            Disk::Items(items) => items,
        };
        let found = items.remove(origin).unwrap_or_default();
        self.disk = Disk::Items(items);
        self.from_disk += 1;
        Ok(found)
    }
}
