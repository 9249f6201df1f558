//! What is kept of an authority on disk: the account, and one file for each certificate with its key, so that neither
//! is ever found without the other. Nobody else may read it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use instant_acme::AccountCredentials;
use sha1::{Digest as _, Sha1};

use super::Settings;
use crate::tls::Certificate;

/// A chain of certificates with its key takes some thousand bytes.
const LARGEST_FILE: u64 = 1 << 20;

pub(super) struct Storage {
    directory: PathBuf,
    account: String,
    certificate: String,
}

/// While it lives, no other process orders with this storage.
pub(super) struct Locked(#[expect(dead_code, reason = "closed, it unlocks")] File);

impl Storage {
    /// Makes nothing yet.
    pub(super) fn new(settings: &Settings) -> Self {
        let authority = [settings.directory.to_string()];
        let all = [authority.as_slice(), settings.domains.as_slice()].concat();
        let first = &settings.domains[0];
        Self {
            directory: settings.storage.clone(),
            account: format!("account-{}.json", fingerprint(&authority)),
            certificate: format!("{first}-{}.pem", fingerprint(&all)),
        }
    }

    /// Keeps other processes from ordering; `None` when one of them does.
    pub(super) fn lock(&self) -> io::Result<Option<Locked>> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)?;
        let path = self.directory.join("lock");
        let file = private().write(true).create(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Locked(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// What is stored, if there is something.
    ///
    /// # Errors
    ///
    /// In words, when it is damaged or cannot be read.
    pub(super) fn certificate(&self) -> Result<Option<Certificate>, String> {
        let path = self.directory.join(&self.certificate);
        let Some(pem) = self.read(&self.certificate)? else {
            return Ok(None);
        };
        match Certificate::from_pem(&pem, &pem) {
            Ok(certificate) => Ok(Some(certificate)),
            Err(unusable) => Err(format!("{}: {unusable:?}", path.display())),
        }
    }

    /// Stores a chain behind its key.
    pub(super) fn keep_certificate(&self, key: &str, chain: &str) -> Result<(), String> {
        let both = format!("{}\n{chain}", key.trim_end());
        self.write(&self.certificate, both.as_bytes())
    }

    pub(super) fn account(&self) -> Result<Option<AccountCredentials>, String> {
        let path = self.directory.join(&self.account);
        let Some(json) = self.read(&self.account)? else {
            return Ok(None);
        };
        // The words of the parser could show a piece of the key.
        let damaged = |_| format!("{} is damaged: remove it", path.display());
        serde_json::from_str(&json).map(Some).map_err(damaged)
    }

    pub(super) fn keep_account(&self, account: &AccountCredentials) -> Result<(), String> {
        let json = serde_json::to_vec(account).map_err(|error| error.to_string())?;
        self.write(&self.account, &json)
    }

    /// Puts the account aside, where a person finds it.
    pub(super) fn forget_account(&self) -> Result<(), String> {
        let path = self.directory.join(&self.account);
        let aside = self.directory.join(format!("{}.lost", self.account));
        let moved = fs::rename(&path, aside);
        moved.map_err(|error| format!("cannot move {}: {error}", path.display()))
    }

    fn read(&self, name: &str) -> Result<Option<String>, String> {
        let path = self.directory.join(name);
        let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
        match fs::metadata(&path) {
            Ok(found) if found.len() > LARGEST_FILE => {
                Err(format!("{} is too large to be ours", path.display()))
            }
            Ok(_) => fs::read_to_string(&path).map(Some).map_err(failed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Whole or not at all.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let path = self.directory.join(name);
        let new = self.directory.join(format!("{name}.new"));
        let written = || {
            let mut file = private()
                .write(true)
                .create(true)
                .truncate(true)
                .open(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        written().map_err(|error| format!("cannot write {}: {error}", path.display()))
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Tells files apart; nothing is protected by it.
fn fingerprint(of: &[String]) -> String {
    let digest = Sha1::digest(of.join("\n"));
    digest[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::Challenge;
    use super::*;
    use crate::tls::self_signed;

    fn storage(directory: &std::path::Path, domains: &[&str]) -> Storage {
        Storage::new(&Settings {
            domains: domains.iter().map(|domain| (*domain).into()).collect(),
            directory: http::Uri::from_static("https://acme.example/dir"),
            contact: Vec::new(),
            storage: directory.join("deep/acme"),
            ca: None,
            challenge: Challenge::Http01,
        })
    }

    #[test]
    fn what_is_stored_is_found_again_and_readable_by_nobody_else() {
        let directory = tempfile::tempdir().expect("the temporary directory can be written");
        let this = storage(directory.path(), &["a.example"]);
        assert!(this.certificate().expect("nothing is wrong").is_none());
        let _locked = this.lock().expect("it can be made").expect("it is free");
        let (chain, key) = self_signed::pem();
        this.keep_certificate(&key, &chain)
            .expect("it can be written");
        assert!(this.certificate().expect("it is whole").is_some());
        let other = storage(directory.path(), &["a.example", "b.example"]);
        assert!(other.certificate().expect("nothing is wrong").is_none());
        let mode = |path: PathBuf| {
            fs::metadata(path)
                .expect("it is there")
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!(mode(this.directory.clone()), 0o700);
        assert_eq!(mode(this.directory.join(&this.certificate)), 0o600);
    }

    #[test]
    fn one_process_at_a_time_orders() {
        let directory = tempfile::tempdir().expect("the temporary directory can be written");
        let (one, other) = (
            storage(directory.path(), &["a.example"]),
            storage(directory.path(), &["b.example"]),
        );
        let locked = one.lock().expect("it can be made");
        assert!(locked.is_some());
        assert!(other.lock().expect("it can be opened").is_none());
        drop(locked);
        assert!(other.lock().expect("it can be opened").is_some());
    }

    #[test]
    fn what_is_damaged_says_so_without_a_piece_of_it() {
        let directory = tempfile::tempdir().expect("the temporary directory can be written");
        let this = storage(directory.path(), &["a.example"]);
        let _locked = this.lock().expect("it can be made");
        let (chain, _) = self_signed::pem();
        this.keep_certificate("", &chain)
            .expect("it can be written");
        assert!(
            this.certificate()
                .expect_err("there is no key")
                .contains("no key")
        );
        this.write(&this.account, b"{\"key_pkcs8\": \"c2VjcmV0")
            .expect("it can be written");
        let why = this.account().err().expect("it is cut off");
        assert!(
            why.contains("is damaged") && !why.contains("c2VjcmV0"),
            "{why}"
        );
    }
}
