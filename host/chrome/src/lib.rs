//! A shared, persistent Chromium: started and kept running, and its log-ins taken out as Playwright's `storageState`.
//!
//! Two halves that know of each other only through a [`supervisor::State`]:
//!
//! ```text
//! config ─► supervisor ─► process ─► Chromium on 127.0.0.1:PORT, with one profile
//!               │ watch ◄── health ───────▲
//! schedule ◄────┘                         │ cdp
//!     └─► harvest ─► cookies, origins, reader (hidden pages, disk) ─► storage state ─► snapshot ─► file
//! ```
//!
//! - [`Supervisor`] starts Chromium, restarts it with back-off when it crashes, and ends it without orphans.
//! - [`harvest()`] takes cookies and what origins store out of the running browser; [`schedule::run`] does so by the
//!   clock.
//! - [`snapshot`] is what becomes of the file: judged, encrypted, kept, reported on, compared.
//! - [`backup()`] and [`restore()`] keep the whole profile in an archive, taken while the browser runs.
//! - [`StorageState::parse`] and [`write_atomically`] serve who receives such a file, too.
//!
//! The crate knows nothing of proxying, and it reads no configuration file.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        reason = "a test that cannot go on fails where it stands"
    )
)]

mod archive;
mod process;
mod profile;
mod version;

mod cookies;
mod hidden_page;
mod indexed_db;
mod leftovers;
mod local_storage;
mod opfs;
mod origins;
mod page_storage;
mod quota;
mod reader;
mod refusal;

pub mod backup;
pub mod cdp;
pub mod config;
pub mod endpoint;
pub mod file;
pub mod harvest;
pub mod health;
pub mod keys;
pub mod restore;
pub mod schedule;
pub mod snapshot;
pub mod storage_state;
pub mod supervisor;

pub use backup::{Backup, BackupConfig, BackupError, backup};
pub use config::{BLOCKED_PORTS, ChromeConfig, ConfigError};
pub use file::{WriteError, write_atomically};
pub use harvest::{HarvestConfig, HarvestError, Harvested, StorageLimits, harvest};
pub use health::{Counters, HealthConfig};
pub use keys::{Identities, IdentityError, InvalidRecipient, Recipient};
pub use local_storage::LocalStorageError;
pub use profile::ProfileError;
pub use restore::{RestoreError, Restored, restore};
pub use schedule::{InvalidSchedule, Schedule, ScheduleConfig};
pub use storage_state::{InvalidState, StorageState};
pub use supervisor::{Ready, StartError, State, Supervisor};
