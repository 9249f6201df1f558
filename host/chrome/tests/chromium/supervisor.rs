//! Starting, crashing, coming back and ending.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, test_kill_process_group};
use tokio::sync::watch;
use witgate_chrome::{ChromeConfig, ConfigError, StartError, State, Supervisor};

use crate::support::{Chrome, PATIENCE, Site, Tab, config, flush_cookies, is_signed_in, until};

/// A configuration whose browser is a shell script.
fn scripted(profile: &Path, script: &str) -> ChromeConfig {
    let binary = profile.join("chromium");
    std::fs::write(&binary, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
    ChromeConfig {
        binary: Some(binary),
        ..config(profile)
    }
}

/// Why the next start is waited for.
async fn backing_off(state: &mut watch::Receiver<State>) -> String {
    let wait = state.wait_for(|state| matches!(state, State::BackingOff { .. }));
    let state = tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap()
        .unwrap()
        .clone();
    let State::BackingOff { reason, .. } = state else {
        unreachable!("waited for")
    };
    reason
}

fn pid(raw: i32) -> Pid {
    Pid::from_raw(raw).unwrap()
}

/// Processes whose command line names the profile: the browser, its crash handler, its helpers.
fn processes_on(profile: &Path) -> Vec<String> {
    let profile = profile.to_str().unwrap();
    let command_lines = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let bytes = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
    });
    command_lines
        .filter(|line| line.contains(profile))
        .collect()
}

#[tokio::test]
async fn a_stopped_chromium_leaves_no_process_and_no_lock() {
    let profile = tempfile::tempdir().unwrap();
    let mut chrome = Chrome::start_with(config(profile.path())).await;
    let ready = chrome.ready().await;
    assert!(ready.browser.starts_with("Chrome/"), "{ready:?}");
    assert!(
        ready.websocket_path.starts_with("/devtools/browser/"),
        "{ready:?}"
    );
    assert!(!processes_on(profile.path()).is_empty());
    let state = chrome.state.clone();
    chrome.stop().await;
    assert_eq!(test_kill_process_group(pid(ready.pid)), Err(Errno::SRCH));
    assert_eq!(processes_on(profile.path()), Vec::<String>::new());
    assert_eq!(*state.borrow(), State::Stopped);
    assert!(
        std::fs::symlink_metadata(profile.path().join("SingletonLock")).is_err(),
        "an orderly end"
    );
}

#[tokio::test]
async fn a_killed_chromium_comes_back_with_cookies_and_local_storage() {
    let site = Site::serve().await;
    let mut chrome = Chrome::start().await;
    let before = chrome.ready().await;
    let mut client = chrome.client().await;
    let tab = Tab::open(&mut client, &format!("{}/?log-in", site.origin("shop"))).await;
    tab.evaluate(
        &mut client,
        "localStorage.setItem('basket', 'three-apples')",
    )
    .await;
    flush_cookies(&mut client).await;
    chrome.on_disk("Cookies", "shop.localhost").await;
    chrome
        .on_disk("Local Storage/leveldb", "three-apples")
        .await;

    kill_process(pid(before.pid), Signal::KILL).unwrap();
    let reason = backing_off(&mut chrome.state.clone()).await;
    assert!(reason.contains("signal: 9"), "{reason}");
    let after = chrome.ready().await;
    assert_ne!(after.pid, before.pid);
    assert_ne!(after.websocket_path, before.websocket_path);
    assert_eq!(
        test_kill_process_group(pid(before.pid)),
        Err(Errno::SRCH),
        "no helper of the first is left"
    );

    let mut client = chrome.client().await;
    let tab = Tab::open(&mut client, &format!("{}/", site.origin("shop"))).await;
    assert_eq!(
        tab.evaluate(&mut client, "localStorage.getItem('basket')")
            .await,
        "three-apples"
    );
    let cookies = client
        .call(
            None,
            chromiumoxide::cdp::browser_protocol::storage::GetCookiesParams::default(),
        )
        .await;
    assert!(
        cookies
            .unwrap()
            .cookies
            .iter()
            .any(|cookie| cookie.name == "id" && cookie.value == "of-the-user")
    );
    chrome.stop().await;
}

#[tokio::test]
async fn an_orderly_stop_writes_what_was_set_a_moment_ago() {
    let site = Site::serve().await;
    let profile = tempfile::tempdir().unwrap();
    let mut chrome = Chrome::start_with(config(profile.path())).await;
    let mut client = chrome.client().await;
    let tab = Tab::open(&mut client, &format!("{}/?log-in", site.origin("shop"))).await;
    tab.evaluate(&mut client, "localStorage.setItem('basket', 'just-now')")
        .await;
    chrome.stop().await;
    let mut chrome = Chrome::start_with(config(profile.path())).await;
    let mut client = chrome.client().await;
    let tab = Tab::open(&mut client, &format!("{}/", site.origin("shop"))).await;
    assert_eq!(
        tab.evaluate(&mut client, "localStorage.getItem('basket')")
            .await,
        "just-now"
    );
    let cookies = client
        .call(
            None,
            chromiumoxide::cdp::browser_protocol::storage::GetCookiesParams::default(),
        )
        .await;
    assert!(
        cookies
            .unwrap()
            .cookies
            .iter()
            .any(|cookie| cookie.name == "id")
    );
    chrome.stop().await;
}

#[tokio::test]
async fn a_stop_while_chromium_hangs_kills_it_after_the_limit() {
    let profile = tempfile::tempdir().unwrap();
    let mut config = config(profile.path());
    config.stop_timeout = Duration::from_millis(300);
    let mut chrome = Chrome::start_with(config).await;
    let ready = chrome.ready().await;
    kill_process(pid(ready.pid), Signal::STOP).unwrap();
    chrome.stop().await;
    assert_eq!(test_kill_process_group(pid(ready.pid)), Err(Errno::SRCH));
    assert_eq!(processes_on(profile.path()), Vec::<String>::new());
}

#[tokio::test]
async fn the_stale_lock_of_another_host_does_not_block_a_start() {
    let profile = tempfile::tempdir().unwrap();
    // As after a container was made anew on the same volume.
    std::os::unix::fs::symlink("other-container-7", profile.path().join("SingletonLock")).unwrap();
    let chrome = Chrome::start_with(config(profile.path())).await;
    chrome.stop().await;
}

#[tokio::test]
async fn another_chromium_on_the_profile_is_named_while_it_lives_and_no_obstacle_once_it_is_dead() {
    let profile = tempfile::tempdir().unwrap();
    let lock = profile.path().join("SingletonLock");
    let other = config(profile.path());
    let mut user_data_dir = std::ffi::OsString::from("--user-data-dir=");
    user_data_dir.push(profile.path());
    let mut browser = std::process::Command::new("chromium")
        .arg(user_data_dir)
        .arg(format!("--remote-debugging-port={}", other.port))
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "about:blank",
        ])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until("it holds the profile", || {
        std::fs::symlink_metadata(&lock).is_ok()
    })
    .await;
    let error = Supervisor::new(config(profile.path()))
        .unwrap_err()
        .to_string();
    let named = format!("process {}", browser.id());
    assert!(
        error.contains(&named) && error.contains("close that one"),
        "{error}"
    );

    browser.kill().unwrap();
    browser.wait().unwrap();
    assert!(std::fs::symlink_metadata(&lock).is_ok(), "left behind");
    let chrome = Chrome::start_with(config(profile.path())).await;
    chrome.stop().await;
}

#[tokio::test]
async fn the_state_of_an_older_chromium_is_there_in_a_newer_one() {
    let site = Site::serve().await;
    let profile = tempfile::tempdir().unwrap();
    let mut chrome = Chrome::start_with(config(profile.path())).await;
    let mut client = chrome.client().await;
    Tab::open(&mut client, &format!("{}/?log-in", site.origin("shop"))).await;
    chrome.stop().await;
    // What an update of the package looks like to the profile.
    std::fs::write(profile.path().join("Last Version"), "120.0.6099.109").unwrap();
    let mut chrome = Chrome::start_with(config(profile.path())).await;
    let mut client = chrome.client().await;
    assert!(is_signed_in(&mut client).await);
    let noted = std::fs::read_to_string(profile.path().join("Last Version")).unwrap();
    assert!(
        chrome.ready().await.browser.ends_with(noted.trim()),
        "{noted}"
    );
    chrome.stop().await;
}

#[tokio::test]
async fn a_chromium_that_is_older_than_its_profile_is_not_started() {
    let profile = tempfile::tempdir().unwrap();
    let started = profile.path().join("started");
    let script = format!(
        "[ \"$*\" = --version ] && exec echo Chromium 150.0.1.2; touch {}; exit 3",
        started.display()
    );
    std::fs::write(profile.path().join("Last Version"), "156.0.8078.79").unwrap();
    for (allow_downgrade, expected) in [(false, "allow-downgrade"), (true, "exit status: 3")] {
        let config = ChromeConfig {
            allow_downgrade,
            ..scripted(profile.path(), &script)
        };
        let (supervisor, mut state) = crate::support::supervisor(config).await;
        let task = tokio::spawn(supervisor.run(std::future::pending()));
        let reason = backing_off(&mut state).await;
        assert!(reason.contains(expected), "{reason}");
        assert_eq!(started.exists(), allow_downgrade);
        task.abort();
        // The profile is free once the supervisor is dropped.
        assert!(task.await.unwrap_err().is_cancelled());
    }
}

#[tokio::test]
async fn one_profile_has_one_supervisor() {
    let profile = tempfile::tempdir().unwrap();
    let (first, _state) = Supervisor::new(config(profile.path())).unwrap();
    let error = Supervisor::new(config(profile.path())).unwrap_err();
    assert!(error.to_string().contains("another witgate"), "{error}");
    drop(first);
}

#[test]
fn a_missing_browser_is_said_before_anything_is_started() {
    let profile = tempfile::tempdir().unwrap();
    let config = ChromeConfig {
        binary: Some("/nonexistent/chromium".into()),
        ..config(profile.path())
    };
    let error = Supervisor::new(config).unwrap_err();
    assert!(
        matches!(error, StartError::Config(ConfigError::NotExecutable(_))),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(profile.path()).unwrap().count(), 0);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let profile = tempfile::tempdir().unwrap();
    let config = config(profile.path());
    let _listener = TcpListener::bind(("127.0.0.1", config.port)).unwrap();
    let port = config.port;
    let error = Supervisor::new(config).unwrap_err();
    assert!(
        matches!(error, StartError::PortTaken(taken) if taken == port),
        "{error}"
    );
}

#[tokio::test]
async fn a_port_that_is_taken_later_is_waited_for() {
    let profile = tempfile::tempdir().unwrap();
    let config = config(profile.path());
    let port = config.port;
    let (supervisor, mut state) = Supervisor::new(config).unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(supervisor.run(async move { stopped.await.unwrap_or_default() }));
    let reason = backing_off(&mut state).await;
    assert!(
        reason.contains(&format!("port {port}")) && reason.contains("taken"),
        "{reason}"
    );
    drop(listener);
    state
        .wait_for(|state| state.ready().is_some())
        .await
        .unwrap();
    stop.send(()).unwrap();
    task.await.unwrap();
}

#[tokio::test]
async fn a_browser_that_ends_at_once_is_tried_again_with_its_last_words_as_the_reason() {
    let profile = tempfile::tempdir().unwrap();
    let mut config = scripted(profile.path(), "echo no display >&2; exit 3");
    config.min_backoff = Duration::from_millis(1);
    config.max_backoff = Duration::from_millis(2);
    let (supervisor, mut state) = Supervisor::new(config).unwrap();
    let task = tokio::spawn(supervisor.run(std::future::pending()));
    for _ in 0..3 {
        let reason = backing_off(&mut state).await;
        assert!(
            reason.contains("exit status: 3") && reason.contains("no display"),
            "{reason}"
        );
        state
            .wait_for(|state| *state == State::Starting)
            .await
            .unwrap();
    }
    task.abort();
    until("the state is told when the supervisor is gone", || {
        *state.borrow() == State::Stopped
    })
    .await;
}

#[tokio::test]
async fn a_stop_is_heeded_while_waiting_to_start_again() {
    let profile = tempfile::tempdir().unwrap();
    let mut config = scripted(profile.path(), "exit 1");
    config.min_backoff = Duration::from_secs(3600);
    config.max_backoff = config.min_backoff;
    let (supervisor, mut state) = Supervisor::new(config).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(supervisor.run(async move { stopped.await.unwrap_or_default() }));
    backing_off(&mut state).await;
    stop.send(()).unwrap();
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
    assert_eq!(*state.borrow(), State::Stopped);
}

#[tokio::test]
async fn a_browser_that_never_listens_is_given_up_after_the_limit() {
    let profile = tempfile::tempdir().unwrap();
    let mut config = scripted(profile.path(), "exec sleep 600");
    config.start_timeout = Duration::from_millis(100);
    let (supervisor, mut state) = Supervisor::new(config).unwrap();
    let task = tokio::spawn(supervisor.run(std::future::pending()));
    let reason = backing_off(&mut state).await;
    assert!(reason.contains("not ready within 100ms"), "{reason}");
    task.abort();
}

#[tokio::test]
async fn another_browser_on_the_port_is_never_taken_for_the_own_one() {
    let profile = tempfile::tempdir().unwrap();
    // As Chromium does when 127.0.0.1 is taken between the check and its start.
    let announce =
        "echo DevTools listening on ws://[::1]:9/devtools/browser/own >&2; exec sleep 600";
    let (supervisor, mut state) = Supervisor::new(scripted(profile.path(), announce)).unwrap();
    let task = tokio::spawn(supervisor.run(std::future::pending()));
    let reason = backing_off(&mut state).await;
    assert!(reason.contains("another browser answers"), "{reason}");
    task.abort();
}

#[tokio::test]
async fn a_session_cookie_survives_a_restart_when_the_session_is_restored() {
    use chromiumoxide::cdp::browser_protocol::storage::GetCookiesParams;
    let site = Site::serve().await;
    let profile = tempfile::tempdir().unwrap();
    let mut config = config(profile.path());
    config.args.push("--restore-last-session".into());
    let mut chrome = Chrome::start_with(config.clone()).await;
    let mut client = chrome.client().await;
    let tab = Tab::open(&mut client, &format!("{}/", site.origin("shop"))).await;
    tab.evaluate(&mut client, "document.cookie = 'session=of-today'")
        .await;
    chrome.stop().await;
    let mut chrome = Chrome::start_with(config).await;
    let mut client = chrome.client().await;
    let cookies = client
        .call(None, GetCookiesParams::default())
        .await
        .unwrap()
        .cookies;
    assert!(
        cookies.iter().any(|cookie| cookie.name == "session"),
        "{cookies:?}"
    );
    chrome.stop().await;
}

/// A supervisor in a process of its own, which can be killed.
fn supervise(profile: &Path, port: u16) -> std::process::Child {
    // Cargo builds examples for the tests, in the directory beside theirs.
    let test = std::env::current_exe().unwrap();
    let program = test
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/supervise");
    std::process::Command::new(&program)
        .arg(profile)
        .arg(port.to_string())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

#[tokio::test]
async fn the_chromium_of_a_killed_supervisor_is_ended_by_the_next() {
    let profile = tempfile::tempdir().unwrap();
    let config = config(profile.path());
    let endpoint = ([127, 0, 0, 1], config.port).into();
    let mut first = supervise(profile.path(), config.port);
    let answered = async {
        loop {
            if let Ok(version) = witgate_chrome::endpoint::version(endpoint, PATIENCE).await {
                return version;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let orphan = tokio::time::timeout(PATIENCE, answered).await.unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(
        !processes_on(profile.path()).is_empty(),
        "chromium outlives its supervisor"
    );

    let mut chrome = Chrome::start_with(config).await;
    let ready = chrome.ready().await;
    assert_ne!(ready.websocket_path, orphan.websocket_path);
    chrome.stop().await;
    assert_eq!(processes_on(profile.path()), Vec::<String>::new());
}

#[tokio::test]
async fn an_interrupted_supervisor_leaves_nothing() {
    let profile = tempfile::tempdir().unwrap();
    let config = config(profile.path());
    let endpoint = ([127, 0, 0, 1], config.port).into();
    let mut supervisor = supervise(profile.path(), config.port);
    let ready = async {
        while witgate_chrome::endpoint::version(endpoint, PATIENCE)
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.unwrap();
    kill_process(pid(supervisor.id().cast_signed()), Signal::INT).unwrap();
    assert!(supervisor.wait().unwrap().success());
    assert_eq!(processes_on(profile.path()), Vec::<String>::new());
}
