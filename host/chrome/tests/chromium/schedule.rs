//! Harvests by the clock.

use tokio::sync::watch;
use witgate_chrome::{ScheduleConfig, State, StorageState, schedule};

use crate::support::Chrome;

#[tokio::test]
async fn the_first_harvest_waits_for_chromium_to_be_ready_and_its_outcome_is_told() {
    let chrome = Chrome::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.json");
    let config = ScheduleConfig::new("0 0 1 1 *".parse().unwrap(), chrome.harvest_into(&file));
    let (told, state) = watch::channel(State::Starting);
    let (outcome, mut outcomes) = watch::channel(None);
    let task = tokio::spawn(schedule::run(
        config,
        state,
        outcome,
        std::future::pending(),
    ));
    tokio::task::yield_now().await;
    assert!(!file.exists(), "not before chromium is ready");
    told.send_replace(chrome.state.borrow().clone());
    let outcome = outcomes
        .wait_for(Option::is_some)
        .await
        .unwrap()
        .clone()
        .unwrap();
    assert!(outcome.result.unwrap().bytes > 0);
    StorageState::parse(&std::fs::read(&file).unwrap()).unwrap();
    task.abort();
    chrome.stop().await;
}

#[tokio::test]
async fn a_failed_harvest_is_told_and_the_schedule_goes_on() {
    let blocked = tempfile::NamedTempFile::new().unwrap();
    let chrome = Chrome::start().await;
    let harvest = chrome.harvest_into(&blocked.path().join("state.json"));
    let config = ScheduleConfig::new("0 0 1 1 *".parse().unwrap(), harvest);
    let (outcome, mut outcomes) = watch::channel(None);
    let task = tokio::spawn(schedule::run(
        config,
        chrome.state.clone(),
        outcome,
        std::future::pending(),
    ));
    let outcome = outcomes
        .wait_for(Option::is_some)
        .await
        .unwrap()
        .clone()
        .unwrap();
    assert!(
        outcome
            .result
            .unwrap_err()
            .contains(&blocked.path().display().to_string())
    );
    assert!(!task.is_finished());
    task.abort();
    chrome.stop().await;
}
