//! Which origins have a bucket, the place of IndexedDB and of the private file system.
//!
//! An origin without one must not be asked for its databases: the question alone makes a bucket. The browser lists
//! them on `chrome://quota-internals`, read here in a hidden page; should a newer one no longer do so, the names of
//! the directories in the profile tell of IndexedDB at least.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;
use tokio::time::{Duration, Instant, sleep};

use crate::cdp::{CdpError, Client};
use crate::hidden_page::HiddenPage;
use crate::local_storage::LocalStorageError;
use crate::page_storage::evaluate;
use crate::refusal::is_web_origin;

const PAGE: &str = "chrome://quota-internals/";

/// What the page's own script does to fill its table. The numbers of 64 bits have no JSON form.
const SCRIPT: &str = "import('chrome://quota-internals/quota_internals_browser_proxy.js')
    .then(module => module.QuotaInternalsBrowserProxy.getInstance().retrieveBucketsTable())
    .then(table => JSON.stringify(table.entries.map(({ name, storageKey }) => ({ name, storageKey }))))";

/// How often the page is asked whether it is there.
const POLL: Duration = Duration::from_millis(10);

/// The bucket that pages use unless they name another; Playwright knows no other either.
const DEFAULT_BUCKET: &str = "_default";

/// The web origins with a bucket, as the running browser lists them.
pub(crate) async fn origins(client: &mut Client) -> Result<BTreeSet<String>, CdpError> {
    let page = HiddenPage::open_at(client, PAGE).await?;
    let listed = list(client, &page).await;
    // After a time-out this may take another one, and the end of the connection closes the page, too.
    let closed = page.close(client).await;
    let listed = listed?;
    closed?;
    parse(&listed).ok_or_else(|| CdpError::Shape {
        method: PAGE.into(),
    })
}

async fn list(client: &mut Client, page: &HiddenPage) -> Result<String, CdpError> {
    let deadline = Instant::now() + client.limit();
    let ready = "location.protocol + document.readyState";
    loop {
        match evaluate(client, page.session(), None, ready.to_owned()).await {
            Ok(state) if state == "chrome:complete" => break,
            // The first document was replaced while it was asked.
            Ok(_) | Err(CdpError::Refused { .. }) if Instant::now() < deadline => sleep(POLL).await,
            Ok(_) => {
                return Err(CdpError::Timeout {
                    method: PAGE.into(),
                    limit: client.limit(),
                });
            }
            Err(error) => return Err(error),
        }
    }
    evaluate(client, page.session(), None, SCRIPT.to_owned()).await
}

fn parse(listed: &str) -> Option<BTreeSet<String>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Bucket {
        name: String,
        storage_key: String,
    }
    let buckets: Vec<Bucket> = serde_json::from_str(listed).ok()?;
    let origins = buckets
        .into_iter()
        .filter(|bucket| bucket.name == DEFAULT_BUCKET)
        // What follows the origin tells of a partition, which no storage state can hold.
        .filter_map(|bucket| Some(bucket.storage_key.strip_suffix('/')?.to_owned()))
        .filter(|origin| is_web_origin(origin));
    Some(origins.collect())
}

/// The origins with IndexedDB in a profile: `https_a.example_0.indexeddb.leveldb`. Blocks on the disk.
pub(crate) fn origins_on_disk(user_data_dir: &Path) -> Result<BTreeSet<String>, LocalStorageError> {
    let path = user_data_dir.join("Default/IndexedDB");
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(source) => return Err(LocalStorageError::Copy { path, source }),
    };
    let mut origins = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(|source| LocalStorageError::Copy {
            path: path.clone(),
            source,
        })?;
        origins.extend(entry.file_name().to_str().and_then(of_directory));
    }
    Ok(origins)
}

fn of_directory(name: &str) -> Option<String> {
    let (name, _kind) = name.split_once(".indexeddb.")?;
    let (scheme, rest) = name.split_once('_')?;
    let (host, port) = rest.rsplit_once('_')?;
    let host = if host.starts_with('[') {
        host.replace('_', ":")
    } else {
        host.to_owned()
    };
    let origin = match port {
        "0" => format!("{scheme}://{host}"),
        port => format!("{scheme}://{host}:{port}"),
    };
    is_web_origin(&origin).then_some(origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_buckets_of_whole_origins_are_listed() {
        let table = r#"[{"name":"_default","storageKey":"https://a.example/"},
            {"name":"_default","storageKey":"http://b.localhost:8080/"},
            {"name":"drafts","storageKey":"https://c.example/"},
            {"name":"_default","storageKey":"https://d.example/^0https://top.example"},
            {"name":"_default","storageKey":"chrome-extension://abc/"}]"#;
        assert_eq!(
            Vec::from_iter(parse(table).unwrap()),
            ["http://b.localhost:8080", "https://a.example"]
        );
        assert_eq!(parse("{}"), None);
    }

    #[test]
    fn directories_of_a_profile_name_origins() {
        let profile = tempfile::tempdir().unwrap();
        assert!(origins_on_disk(profile.path()).unwrap().is_empty());
        for name in [
            "https_a.example_0.indexeddb.leveldb",
            "https_a.example_0.indexeddb.blob",
            "http_under_score.example_8080.indexeddb.leveldb",
            "http_[__1]_80.indexeddb.leveldb",
            "chrome-extension_abc_0.indexeddb.leveldb",
            "file__0.indexeddb.leveldb",
            "other",
        ] {
            fs::create_dir_all(profile.path().join("Default/IndexedDB").join(name)).unwrap();
        }
        assert_eq!(
            Vec::from_iter(origins_on_disk(profile.path()).unwrap()),
            [
                "http://[::1]:80",
                "http://under_score.example:8080",
                "https://a.example"
            ]
        );
    }
}
