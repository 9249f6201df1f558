//! A browser that runs and is of no use, and one that is only busy.

use std::path::Path;
use std::time::Duration;

use chromiumoxide::cdp::browser_protocol::target::{
    GetTargetsParams, SetAutoAttachParams, TargetFilter, TargetInfo,
};
use rustix::process::{Pid, Signal, kill_process};
use witgate_chrome::cdp::Client;
use witgate_chrome::{ChromeConfig, HealthConfig, State, harvest};

use crate::support::{Chrome, PATIENCE, Site, Tab, config, flush_cookies, until};

/// Probes often, and finds no fault with a browser that is merely slow.
fn watched(profile: &Path, timeout: Duration, failures: u32) -> ChromeConfig {
    ChromeConfig {
        health: Some(HealthConfig {
            interval: Duration::from_millis(100),
            timeout,
            failures,
        }),
        ..config(profile)
    }
}

async fn unhealthy(chrome: &Chrome) -> String {
    let mut state = chrome.state.clone();
    let wait = state.wait_for(|state| matches!(state, State::Unhealthy { .. }));
    let state = tokio::time::timeout(PATIENCE * 2, wait)
        .await
        .expect("found out in time")
        .unwrap()
        .clone();
    let State::Unhealthy { reason, .. } = state else {
        unreachable!("waited for")
    };
    reason
}

async fn targets(client: &mut Client) -> Vec<TargetInfo> {
    let all = GetTargetsParams::builder().filter(TargetFilter::new(vec![
        chromiumoxide::cdp::browser_protocol::target::FilterEntry::default(),
    ]));
    client.call(None, all.build()).await.unwrap().target_infos
}

#[tokio::test]
async fn a_stopped_browser_is_started_again_with_its_cookies_and_local_storage() {
    let site = Site::serve().await;
    let profile = tempfile::tempdir().unwrap();
    let mut settings = watched(profile.path(), Duration::from_secs(12), 2);
    settings.stop_timeout = Duration::from_millis(500);
    let mut chrome = Chrome::start_with(settings).await;
    let before = chrome.ready().await;
    let mut client = chrome.client().await;
    let tab = Tab::open(&mut client, &format!("{}/?log-in", site.origin("shop"))).await;
    tab.evaluate(&mut client, "localStorage.setItem('basket', 'apples')")
        .await;
    flush_cookies(&mut client).await;
    chrome.on_disk("Cookies", "shop.localhost").await;
    chrome.on_disk("Local Storage/leveldb", "apples").await;

    kill_process(Pid::from_raw(before.pid).unwrap(), Signal::STOP).unwrap();
    let reason = unhealthy(&chrome).await;
    assert!(reason.contains("probes in a row failed"), "{reason}");
    let after = chrome.ready().await;
    assert_ne!(after.pid, before.pid);
    assert!(chrome.counters.restarts() >= 1);
    assert!(chrome.counters.probe_failures() >= 2);

    let mut client = chrome.client().await;
    let tab = Tab::open(&mut client, &format!("{}/", site.origin("shop"))).await;
    let kept = tab
        .evaluate(&mut client, "localStorage.getItem('basket')")
        .await;
    assert_eq!(kept, "apples");
    assert!(crate::support::is_signed_in(&mut client).await);
    chrome.stop().await;
}

#[tokio::test]
async fn a_browser_that_opens_no_pages_any_more_is_started_again() {
    let profile = tempfile::tempdir().unwrap();
    let mut chrome = Chrome::start_with(watched(profile.path(), Duration::from_secs(5), 2)).await;
    let before = chrome.ready().await;
    // What a client does that waits for every new target's debugger and is then stopped.
    let mut holding_up = chrome.client().await;
    let attach = SetAutoAttachParams::builder()
        .auto_attach(true)
        .wait_for_debugger_on_start(true)
        .flatten(true);
    holding_up
        .call(None, attach.build().unwrap())
        .await
        .unwrap();
    unhealthy(&chrome).await;
    assert_ne!(chrome.ready().await.pid, before.pid);
    chrome.stop().await;
}

#[tokio::test]
async fn a_client_that_lets_go_in_time_costs_nobody_the_browser_and_no_target_stays() {
    let profile = tempfile::tempdir().unwrap();
    let mut chrome =
        Chrome::start_with(watched(profile.path(), Duration::from_secs(2), 1000)).await;
    let mut client = chrome.client().await;
    let before = targets(&mut client).await.len();
    let mut holding_up = chrome.client().await;
    let attach = SetAutoAttachParams::builder()
        .auto_attach(true)
        .wait_for_debugger_on_start(true)
        .flatten(true);
    holding_up
        .call(None, attach.build().unwrap())
        .await
        .unwrap();
    until("a probe fails", || chrome.counters.probe_failures() > 0).await;
    // It answers all the same, which is why that is not asked.
    let answer = witgate_chrome::endpoint::version(chrome.endpoint, PATIENCE).await;
    let path = answer.unwrap().websocket_path;
    assert_eq!(path, chrome.ready().await.websocket_path);
    drop(holding_up);
    let well = |chrome: &Chrome| chrome.counters.probes() - chrome.counters.probe_failures();
    let so_far = well(&chrome);
    until("probes succeed again", || well(&chrome) > so_far + 2).await;
    assert_eq!(chrome.counters.restarts(), 0);
    // A probe may be under way at any one look.
    let deadline = std::time::Instant::now() + PATIENCE;
    while targets(&mut client).await.len() > before {
        assert!(
            std::time::Instant::now() < deadline,
            "a target was left behind"
        );
    }
    chrome.stop().await;
}

#[tokio::test]
async fn a_busy_browser_with_a_dialog_and_harvests_is_never_started_again() {
    let site = Site::serve().await;
    let profile = tempfile::tempdir().unwrap();
    let mut chrome = Chrome::start_with(watched(profile.path(), Duration::from_secs(20), 2)).await;
    let before = chrome.ready().await;
    let mut client = chrome.client().await;
    let busy = Tab::open(&mut client, &format!("{}/", site.origin("busy"))).await;
    let asking = Tab::open(&mut client, &format!("{}/", site.origin("asking"))).await;
    let script = "localStorage.setItem('x', 'y'), setTimeout(() => { for (;;); }), 0";
    busy.evaluate(&mut client, script).await;
    asking
        .evaluate(&mut client, "setTimeout(() => alert('well?')), 0")
        .await;
    let file = profile.path().join("state.json");
    let so_far = chrome.counters.probes();
    while chrome.counters.probes() < so_far + 3 {
        harvest(&chrome.harvest_into(&file)).await.unwrap();
    }
    assert_eq!(chrome.counters.restarts(), 0);
    assert_eq!(chrome.ready().await.pid, before.pid);
    chrome.stop().await;
}
