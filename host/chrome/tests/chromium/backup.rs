//! A backup of a browser that runs, and what is left of its state after a loss.

use std::path::PathBuf;

use witgate_chrome::{BackupConfig, ProfileError, RestoreError, backup, restore};

use crate::support::{Chrome, Site, Tab, config, flush_cookies, is_signed_in};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_signed_in_to_is_there_after_the_profile_was_lost_and_restored() {
    let site = Site::serve().await;
    let root = tempfile::tempdir().unwrap();
    let profile = root.path().join("profile");
    let mut chrome = Chrome::start_with(config(&profile)).await;
    let mut client = chrome.client().await;
    let url = format!("{}/?log-in", site.origin("shop"));
    let tab = Tab::open(&mut client, &url).await;
    tab.evaluate(&mut client, "localStorage.setItem('basket', 'apples')")
        .await;
    let stored = "new Promise(done => { const open = indexedDB.open('d', 1); \
                  open.onupgradeneeded = () => open.result.createObjectStore('s').put('kept', 'k'); \
                  open.onsuccess = () => done('stored') })";
    assert_eq!(tab.evaluate(&mut client, stored).await, "stored");
    flush_cookies(&mut client).await;
    chrome.on_disk("Cookies", "shop.localhost").await;
    chrome.on_disk("Local Storage/leveldb", "apples").await;
    chrome.on_disk("IndexedDB", "kept").await;

    // Writes go on meanwhile.
    let writing = "setInterval(() => localStorage.setItem('n', Math.random()), 10), 0";
    tab.evaluate(&mut client, writing).await;
    let backed_up = BackupConfig {
        profile: profile.clone(),
        directory: root.path().join("backups"),
        keep: None,
        recipients: Vec::new(),
    };
    let taken = tokio::task::spawn_blocking(move || backup(&backed_up, |_| ()));
    let taken = taken.await.unwrap().unwrap();
    assert_eq!(taken.restless, Vec::<PathBuf>::new());

    let error = restore(&taken.archive, &profile, None).unwrap_err();
    let supervised = matches!(error, RestoreError::Profile(ProfileError::Supervised(_)));
    assert!(supervised, "{error}");
    chrome.stop().await;
    std::fs::remove_dir_all(&profile).unwrap();
    restore(&taken.archive, &profile, None).unwrap();

    let mut chrome = Chrome::start_with(config(&profile)).await;
    let mut client = chrome.client().await;
    let tab = Tab::open(&mut client, &format!("{}/", site.origin("shop"))).await;
    let basket = tab
        .evaluate(&mut client, "localStorage.getItem('basket')")
        .await;
    assert_eq!(basket, "apples");
    let read = "new Promise(done => { const open = indexedDB.open('d'); \
                open.onsuccess = () => { const get = open.result.transaction('s').objectStore('s').get('k'); \
                get.onsuccess = () => done(get.result) } })";
    assert_eq!(tab.evaluate(&mut client, read).await, "kept");
    assert!(is_signed_in(&mut client).await);
    chrome.stop().await;
}
