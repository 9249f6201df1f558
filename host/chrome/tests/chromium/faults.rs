//! Harvests of a browser that dies, or that must not be sent somewhere.

use std::path::Path;
use std::time::Duration;

use chromiumoxide::cdp::browser_protocol::network::CookieParam;
use chromiumoxide::cdp::browser_protocol::storage::SetCookiesParams;
use chromiumoxide::cdp::browser_protocol::target::GetTargetsParams;
use witgate_chrome::cdp::{CdpError, Client};
use witgate_chrome::{HarvestError, StorageState, harvest};

use crate::support::{Chrome, PATIENCE, Site, Tab};

fn read(file: &Path) -> StorageState {
    StorageState::parse(&std::fs::read(file).unwrap()).unwrap()
}

/// A database that does not open again while the tab is there: an upgrade waits for a connection that stays open.
async fn lock_a_database(client: &mut Client, origin: &str) -> Tab {
    let tab = Tab::open(client, &format!("{origin}/")).await;
    let script = "new Promise(done => {
        const one = indexedDB.open('db', 1);
        one.onsuccess = () => {
            window.connection = one.result;
            indexedDB.open('db', 2).onblocked = () => done('locked');
        };
    })";
    assert_eq!(tab.evaluate(client, script).await, "locked");
    tab
}

async fn hidden_page_stands_on(client: &mut Client, origin: &str) -> bool {
    let targets = client
        .call(None, GetTargetsParams::default())
        .await
        .unwrap()
        .target_infos;
    targets
        .iter()
        .any(|target| target.r#type == "other" && target.url.starts_with(origin))
}

#[tokio::test]
async fn a_chromium_that_is_killed_during_a_harvest_costs_that_harvest_alone() {
    let site = Site::serve().await;
    let mut chrome = Chrome::start().await;
    let mut client = chrome.client().await;
    let kept = Tab::open(&mut client, &format!("{}/", site.origin("kept"))).await;
    kept.evaluate(&mut client, "localStorage.setItem('who', 'stored-before')")
        .await;
    chrome
        .on_disk("Local Storage/leveldb", "stored-before")
        .await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.json");
    harvest(&chrome.harvest_into(&file)).await.unwrap();
    let last = std::fs::read(&file).unwrap();
    let files = || std::fs::read_dir(directory.path()).unwrap().count();
    let files_before = files();

    // The harvest waits for the locked database when the browser is killed.
    let locked = site.origin("locked");
    lock_a_database(&mut client, &locked).await;
    let mut config = chrome.harvest_into(&file);
    config.step_timeout = PATIENCE;
    let under_way = tokio::spawn(async move { harvest(&config).await });
    let waiting = async {
        while !hidden_page_stands_on(&mut client, &locked).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    let killed = chrome.ready().await.pid;
    let pid = rustix::process::Pid::from_raw(killed).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();

    let error = under_way.await.unwrap().unwrap_err();
    assert!(
        matches!(error, HarvestError::Cdp(CdpError::Closed { .. })),
        "{error}"
    );
    assert!(last == std::fs::read(&file).unwrap());
    assert_eq!(files(), files_before, "nothing half-written stays");

    let again = chrome
        .state
        .wait_for(|state| state.ready().is_some_and(|ready| ready.pid != killed));
    tokio::time::timeout(PATIENCE, again)
        .await
        .unwrap()
        .unwrap();
    harvest(&chrome.harvest_into(&file)).await.unwrap();
    let state = read(&file);
    let kept = state
        .origins
        .iter()
        .find(|storage| storage.origin == site.origin("kept"));
    assert_eq!(kept.unwrap().local_storage[0].value, "stored-before");
    chrome.stop().await;
}

#[tokio::test]
async fn the_web_store_is_never_opened_because_chromium_crashes_on_it() {
    let mut chrome = Chrome::start().await;
    let mut client = chrome.client().await;
    let before = chrome.ready().await.pid;
    let cookies = [
        "chrome.google.com",
        "chromewebstore.google.com",
        "a.example",
    ]
    .map(|domain| {
        let mut cookie = CookieParam::new("n", "v");
        cookie.domain = Some(domain.into());
        cookie.path = Some("/".into());
        cookie.secure = Some(true);
        cookie
    });
    client
        .call(None, SetCookiesParams::new(cookies.into()))
        .await
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.json");
    let mut config = chrome.harvest_into(&file);
    // Then the origins are guessed from the cookies.
    config.profile = None;
    let harvested = harvest(&config).await.unwrap();
    assert_eq!((harvested.cookies, harvested.left_out), (3, 2));
    assert_eq!(chrome.ready().await.pid, before);
    chrome.stop().await;
}
