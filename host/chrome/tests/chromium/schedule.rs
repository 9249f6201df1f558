//! Harvests by the clock.

use tokio::sync::watch;
use witgate_chrome::snapshot::{self, Publication, Status};
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
    assert_eq!(outcome.last_success, Some(outcome.at));
    assert!(outcome.next_due.is_some_and(|due| due > outcome.at));
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

#[tokio::test]
async fn the_last_success_is_known_to_the_next_process_and_a_failure_does_not_hide_it() {
    let chrome = Chrome::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.json");
    let mut harvest = chrome.harvest_into(&file);
    harvest.publication = Publication {
        history: 2,
        status: true,
        ..Publication::default()
    };
    let harvested = snapshot::take(&harvest).await.unwrap();
    let status = Status::read(&file).unwrap().unwrap();
    let success = status.last_success.clone().unwrap();
    assert_eq!(success.harvested, harvested);
    assert_eq!(snapshot::history::list(&file).unwrap().len(), 1);
    chrome.stop().await;

    snapshot::take(&harvest).await.unwrap_err();
    let status = Status::read(&file).unwrap().unwrap();
    assert!(status.last_attempt.as_ref().unwrap().error.is_some());

    let config = ScheduleConfig::new("0 0 1 1 *".parse().unwrap(), harvest);
    let (_starting, state) = watch::channel(State::Starting);
    let (outcome, mut outcomes) = watch::channel(None);
    let task = tokio::spawn(schedule::run(
        config,
        state,
        outcome,
        std::future::pending(),
    ));
    let known = outcomes
        .wait_for(Option::is_some)
        .await
        .unwrap()
        .clone()
        .unwrap();
    assert_eq!(known.last_success, Some(success.at.into()));
    assert!(known.result.is_err());
    task.abort();
}
