//! Harvests by the clock.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use witgate_chrome::snapshot::{self, Publication, Status};
use witgate_chrome::{ScheduleConfig, State, StorageState, schedule};

use crate::support::{Chrome, until};

fn status(file: &Path) -> Status {
    Status::read(file).unwrap().unwrap_or_default()
}

#[tokio::test]
async fn the_first_harvest_waits_for_chromium_to_be_ready_and_its_outcome_is_told() {
    let chrome = Chrome::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.json");
    let mut harvest = chrome.harvest_into(&file);
    harvest.publication.status = true;
    let config = ScheduleConfig::new("0 0 1 1 *".parse().unwrap(), harvest);
    let (told, state) = watch::channel(State::Starting);
    let task = tokio::spawn(schedule::run(config, state, std::future::pending()));
    until("the schedule has begun", || {
        status(&file).next_due.is_some()
    })
    .await;
    assert!(!file.exists(), "not before chromium is ready");
    told.send_replace(chrome.state.borrow().clone());
    let next_is_later = || {
        let Status {
            last_success,
            next_due,
            ..
        } = status(&file);
        last_success.is_some_and(|success| next_due > Some(success.at))
    };
    until("the harvest and the next one are told", next_is_later).await;
    let success = status(&file).last_success.unwrap();
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(success.harvested.bytes, bytes.len());
    StorageState::parse(&bytes).unwrap();
    task.abort();
    chrome.stop().await;
}

#[tokio::test]
async fn a_failed_harvest_is_tried_again_until_it_succeeds() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.json");
    // A directory in the place of the file cannot be replaced, and leaves room for the status beside it.
    std::fs::create_dir(&file).unwrap();
    let chrome = Chrome::start().await;
    let mut harvest = chrome.harvest_into(&file);
    harvest.publication.status = true;
    let mut config = ScheduleConfig::new("0 0 1 1 *".parse().unwrap(), harvest);
    config.retry = Duration::from_millis(10);
    let task = tokio::spawn(schedule::run(
        config,
        chrome.state.clone(),
        std::future::pending(),
    ));
    until("an attempt fails", || status(&file).failures_in_a_row > 0).await;
    std::fs::remove_dir(&file).unwrap();
    until("a later attempt succeeds", || {
        status(&file).last_success.is_some()
    })
    .await;
    assert!(file.is_file());
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
    let task = tokio::spawn(schedule::run(config, state, std::future::pending()));
    until("the schedule has begun", || {
        self::status(&file).next_due.is_some()
    })
    .await;
    let known = self::status(&file);
    assert_eq!(known.last_success, Some(success));
    assert!(known.last_attempt.unwrap().error.is_some());
    task.abort();
}
