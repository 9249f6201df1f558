//! Harvests of a browser in use.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chromiumoxide::cdp::browser_protocol::input::InsertTextParams;
use chromiumoxide::cdp::browser_protocol::network::{
    CookieParam, CookiePartitionKey, CookieSameSite,
};
use chromiumoxide::cdp::browser_protocol::page::HandleJavaScriptDialogParams;
use chromiumoxide::cdp::browser_protocol::storage::SetCookiesParams;
use chromiumoxide::cdp::browser_protocol::target::{
    CloseTargetParams, GetTargetsParams, SetAutoAttachParams,
};
use witgate_chrome::cdp::{CdpError, Client, Event, Reaction};
use witgate_chrome::storage_state::SESSION;
use witgate_chrome::{HarvestConfig, HarvestError, StorageState, harvest};
use witgate_tests::port;

use crate::support::{Chrome, PATIENCE, Site, Tab};

fn read(file: &Path) -> StorageState {
    StorageState::parse(&std::fs::read(file).unwrap()).unwrap()
}

/// The value of an item, if the snapshot has it.
fn item<'a>(state: &'a StorageState, origin: &str, name: &str) -> Option<&'a str> {
    let storage = state
        .origins
        .iter()
        .find(|storage| storage.origin == origin)?;
    storage
        .local_storage
        .iter()
        .find(|item| item.name == name)
        .map(|item| item.value.as_str())
}

/// Stores an item in each origin and closes the tabs again; returns when all of it is on the disk.
async fn visit(chrome: &Chrome, client: &mut Client, site: &Site, names: &[&str]) {
    for name in names {
        let tab = Tab::open(client, &format!("{}/", site.origin(name))).await;
        tab.evaluate(
            client,
            &format!("localStorage.setItem('who', 'stored-by-{name}')"),
        )
        .await;
        client
            .call(None, CloseTargetParams::new(tab.target))
            .await
            .unwrap();
    }
    for name in names {
        chrome
            .on_disk("Local Storage/leveldb", &format!("stored-by-{name}"))
            .await;
    }
}

async fn targets(client: &mut Client) -> Vec<(String, String)> {
    let infos = client
        .call(None, GetTargetsParams::default())
        .await
        .unwrap()
        .target_infos;
    let mut targets: Vec<_> = infos
        .into_iter()
        .map(|info| (info.r#type, info.url))
        .collect();
    targets.sort();
    targets
}

#[tokio::test]
async fn origins_that_are_open_in_no_tab_are_harvested_without_a_request_to_them() {
    let site = Site::serve().await;
    let mut chrome = Chrome::start().await;
    let mut client = chrome.client().await;
    visit(&chrome, &mut client, &site, &["a", "b", "c"]).await;
    let (requests, targets_before) = (site.requests(), targets(&mut client).await);

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.json");
    let harvested = harvest(&chrome.harvest_into(&file)).await.unwrap();
    let state = read(&file);
    for name in ["a", "b", "c"] {
        assert_eq!(
            item(&state, &site.origin(name), "who"),
            Some(format!("stored-by-{name}").as_str())
        );
    }
    assert_eq!(
        (harvested.origins, harvested.items, harvested.left_out),
        (3, 3, 0)
    );
    assert_eq!(harvested.bytes as u64, file.metadata().unwrap().len());
    assert_eq!(site.requests(), requests, "the sites saw nothing of it");
    // Chromium answers before a page is gone.
    let deadline = Instant::now() + PATIENCE;
    while targets(&mut client).await != targets_before {
        assert!(Instant::now() < deadline, "the hidden page stays");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let first = std::fs::read(&file).unwrap();
    harvest(&chrome.harvest_into(&file)).await.unwrap();
    assert!(
        first == std::fs::read(&file).unwrap(),
        "an unchanged state gives equal bytes"
    );
    chrome.stop().await;
}

#[tokio::test]
async fn what_an_open_page_stored_a_moment_ago_is_harvested() {
    let site = Site::serve().await;
    let mut chrome = Chrome::start().await;
    let mut client = chrome.client().await;
    let tab = Tab::open(&mut client, &format!("{}/path?query", site.origin("fresh"))).await;
    tab.evaluate(&mut client, "localStorage.setItem('k', 'v'), localStorage.setItem('odd \\u0000 \\ud83d\\ude00', 'a\\ud800b')")
        .await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.json");
    let mut config = chrome.harvest_into(&file);
    harvest(&config).await.unwrap();
    assert_eq!(item(&read(&file), &site.origin("fresh"), "k"), Some("v"));
    assert_eq!(
        item(&read(&file), &site.origin("fresh"), "odd \0 \u{1F600}"),
        Some("a\u{FFFD}b")
    );

    config.profile = None;
    harvest(&config).await.unwrap();
    assert_eq!(
        item(&read(&file), &site.origin("fresh"), "k"),
        Some("v"),
        "without the profile, too"
    );
    chrome.stop().await;
}

#[tokio::test]
async fn cookies_are_harvested_with_all_that_playwright_knows_of_them() {
    let site = Site::serve().await;
    let mut chrome = Chrome::start().await;
    let mut client = chrome.client().await;
    Tab::open(&mut client, &format!("{}/?log-in", site.origin("shop"))).await;
    let mut partitioned = CookieParam::new("__Host-chips", "v");
    partitioned.url = Some("https://widget.example/".into());
    partitioned.secure = Some(true);
    partitioned.path = Some("/".into());
    partitioned.same_site = Some(CookieSameSite::None);
    partitioned.partition_key = Some(CookiePartitionKey::new("https://top.example", true));
    let mut wide = CookieParam::new("wide", "v");
    wide.domain = Some(".wide.example".into());
    wide.path = Some("/only".into());
    client
        .call(None, SetCookiesParams::new(vec![partitioned, wide]))
        .await
        .unwrap();

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("new/state.json");
    let harvested = harvest(&chrome.harvest_into(&file)).await.unwrap();
    assert_eq!(harvested.cookies, 3);
    let state = read(&file);
    let cookie = |name: &str| {
        state
            .cookies
            .iter()
            .find(|cookie| cookie.name == name)
            .unwrap()
    };
    let id = cookie("id");
    assert_eq!(
        (id.value.as_str(), id.domain.as_str(), id.http_only),
        ("of-the-user", "shop.localhost", true)
    );
    assert!(id.expires > 1.7e9);
    let chips = cookie("__Host-chips");
    assert_eq!(chips.partition_key.as_deref(), Some("https://top.example"));
    assert_eq!(chips.has_cross_site_ancestor, Some(true));
    let wide = cookie("wide");
    assert_eq!(
        (wide.domain.as_str(), wide.path.as_str(), wide.expires),
        (".wide.example", "/only", SESSION)
    );

    use std::os::unix::fs::PermissionsExt;
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        file.parent()
            .unwrap()
            .metadata()
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o700
    );
    chrome.stop().await;
}

/// Whether some page of [`a_dialog_in_one_tab_and_a_user_in_another_do_not_matter`] has shown its dialog.
static DIALOG: AtomicBool = AtomicBool::new(false);

fn note_dialogs(event: &Event) -> Option<Reaction> {
    if event.method == "Page.javascriptDialogOpening" {
        DIALOG.store(true, Ordering::SeqCst);
    }
    None
}

#[tokio::test]
async fn a_dialog_in_one_tab_and_a_user_in_another_do_not_matter() {
    let site = Site::serve().await;
    let mut chrome = Chrome::start().await;
    let mut client = chrome.client().await;
    visit(&chrome, &mut client, &site, &["a", "dialog"]).await;

    // A dialog blocks the process of its page, so the script that opens it is never answered.
    let mut stuck = chrome.client_with(PATIENCE, note_dialogs).await;
    let dialog = Tab::open(&mut stuck, &format!("{}/", site.origin("dialog"))).await;
    let asked = dialog.evaluate(&mut stuck, "alert('are you there?')");
    let answered = tokio::time::timeout(Duration::from_secs(2), asked).await;
    assert!(answered.is_err(), "{answered:?}");
    let deadline = Instant::now() + PATIENCE;
    while !DIALOG.load(Ordering::SeqCst) {
        assert!(Instant::now() < deadline, "no dialog opens");
        // Events are seen while a command is under way.
        targets(&mut stuck).await;
    }

    let url = format!("{}/form", site.origin("user"));
    let user = Tab::open(&mut client, &url).await;
    let watch = "window.log = []; for (const name of ['blur', 'focus', 'visibilitychange', 'pagehide'])
                 window.addEventListener(name, () => log.push(name), true); document.getElementById('field').focus();
                 log.length = 0";
    user.evaluate(&mut client, watch).await;
    client
        .call(Some(&user.session), InsertTextParams::new("half-typed te"))
        .await
        .unwrap();
    let look = "JSON.stringify([location.href, document.activeElement.id, document.visibilityState,
                document.hasFocus(), document.getElementById('field').value, history.length, log])";
    let before = user.evaluate(&mut client, look).await;
    assert!(
        before.as_str().unwrap().contains("half-typed te"),
        "{before}"
    );

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.json");
    harvest(&chrome.harvest_into(&file)).await.unwrap();
    let state = read(&file);
    assert_eq!(item(&state, &site.origin("a"), "who"), Some("stored-by-a"));
    assert_eq!(
        item(&state, &site.origin("dialog"), "who"),
        Some("stored-by-dialog")
    );
    assert_eq!(
        user.evaluate(&mut client, look).await,
        before,
        "the user's tab is as it was"
    );

    // The dialog is still there, and can still be answered.
    stuck
        .call(
            Some(&dialog.session),
            HandleJavaScriptDialogParams::new(true),
        )
        .await
        .unwrap();
    chrome.stop().await;
}

#[tokio::test]
async fn an_origin_whose_process_hangs_is_read_from_the_disk() {
    let site = Site::serve().await;
    let profile = tempfile::tempdir().unwrap();
    let mut config = crate::support::config(profile.path());
    // Pages of one site share a process, as they do on a machine short of memory.
    config.args.push("--process-per-site".into());
    let mut chrome = Chrome::start_with(config).await;
    let mut client = chrome.client().await;
    visit(&chrome, &mut client, &site, &["busy", "idle"]).await;
    let mut stuck = chrome.client().await;
    let busy = Tab::open(&mut stuck, &format!("{}/", site.origin("busy"))).await;
    let hung = busy.evaluate(&mut stuck, "for (;;);");
    let answered = tokio::time::timeout(Duration::from_secs(2), hung).await;
    assert!(answered.is_err(), "{answered:?}");

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.json");
    let mut config = chrome.harvest_into(&file);
    config.step_timeout = Duration::from_secs(10);
    let harvested = harvest(&config).await.unwrap();
    let state = read(&file);
    assert_eq!(
        item(&state, &site.origin("busy"), "who"),
        Some("stored-by-busy"),
        "{harvested:?}"
    );
    assert!(harvested.from_disk >= 1, "{harvested:?}");
    assert_eq!(
        item(&state, &site.origin("idle"), "who"),
        Some("stored-by-idle"),
        "{harvested:?}"
    );
    chrome.stop().await;
}

#[tokio::test]
async fn a_client_that_stopped_answering_does_not_keep_a_harvest_from_ending() {
    let site = Site::serve().await;
    let mut chrome = Chrome::start().await;
    let mut client = chrome.client().await;
    let names = ["a", "b", "c", "d", "e"];
    visit(&chrome, &mut client, &site, &names).await;
    // As Playwright does; every new page then waits for this client to let it go, which never happens.
    let mut frozen = chrome.client().await;
    let watch = SetAutoAttachParams::builder()
        .auto_attach(true)
        .wait_for_debugger_on_start(true)
        .flatten(true);
    frozen.call(None, watch.build().unwrap()).await.unwrap();

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.json");
    let mut config = chrome.harvest_into(&file);
    config.step_timeout = Duration::from_secs(5);
    let harvested = harvest(&config).await.unwrap();
    assert_eq!((harvested.origins, harvested.from_disk), (5, 5));
    for name in names {
        let stored = format!("stored-by-{name}");
        assert_eq!(
            item(&read(&file), &site.origin(name), "who"),
            Some(stored.as_str())
        );
    }

    // Without the disk the values cannot be had, and a file without them must not replace one that has them.
    let last = std::fs::read(&file).unwrap();
    let mut cookie = CookieParam::new("n", "v");
    cookie.url = Some("https://a.example/".into());
    client
        .call(None, SetCookiesParams::new(vec![cookie]))
        .await
        .unwrap();
    config.profile = None;
    let error = harvest(&config).await.unwrap_err();
    assert!(
        matches!(error, HarvestError::Cdp(CdpError::Timeout { .. })),
        "{error}"
    );
    assert!(last == std::fs::read(&file).unwrap());
    drop(frozen);
    chrome.stop().await;
}

#[tokio::test]
async fn a_failed_harvest_leaves_the_last_file_byte_for_byte() {
    let mut chrome = Chrome::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.json");
    std::fs::write(&file, "the last good one").unwrap();
    let last = || std::fs::read_to_string(&file).unwrap();

    let nobody = HarvestConfig::new(([127, 0, 0, 1], port::unused()).into(), None, file.clone());
    let error = harvest(&nobody).await.unwrap_err();
    assert!(matches!(error, HarvestError::Endpoint(_)), "{error}");
    assert_eq!(last(), "the last good one");

    let damaged = tempfile::tempdir().unwrap();
    let database = damaged.path().join("Default/Local Storage/leveldb");
    std::fs::create_dir_all(&database).unwrap();
    std::fs::write(database.join("CURRENT"), "MANIFEST-000001\n").unwrap();
    std::fs::write(database.join("MANIFEST-000001"), "no manifest").unwrap();
    let mut config = chrome.harvest_into(&file);
    config.profile = Some(damaged.path().to_owned());
    let error = harvest(&config).await.unwrap_err();
    assert!(matches!(error, HarvestError::LocalStorage(_)), "{error}");
    assert_eq!(last(), "the last good one");

    let mut config = chrome.harvest_into(&file);
    config.total_timeout = Duration::from_millis(1);
    let error = harvest(&config).await.unwrap_err();
    assert!(matches!(error, HarvestError::Timeout { .. }), "{error}");
    assert_eq!(last(), "the last good one");

    let pid = rustix::process::Pid::from_raw(chrome.ready().await.pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let mut config = chrome.harvest_into(&file);
    config.step_timeout = Duration::from_millis(200);
    let error = harvest(&config).await.unwrap_err();
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    assert!(error.to_string().contains("200ms"), "{error}");
    assert_eq!(last(), "the last good one");
    assert!(
        std::fs::read_dir(directory.path()).unwrap().count() <= 2,
        "the file and its lock, nothing half-written"
    );
    chrome.stop().await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_named_before_the_browser_is_asked() {
    let blocked = tempfile::NamedTempFile::new().unwrap();
    let file = blocked.path().join("state.json");
    let error = harvest(&HarvestConfig::new(
        ([127, 0, 0, 1], port::unused()).into(),
        None,
        file,
    ))
    .await
    .unwrap_err();
    assert!(matches!(error, HarvestError::Write(_)), "{error}");
    assert!(
        error
            .to_string()
            .contains(&blocked.path().display().to_string()),
        "{error}"
    );
}

/// A log that is kept in memory.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_cookie_and_no_item_is_logged_at_any_level() {
    let site = Site::serve().await;
    let mut chrome = Chrome::start().await;
    let mut client = chrome.client().await;
    let tab = Tab::open(&mut client, &format!("{}/?log-in", site.origin("shop"))).await;
    tab.evaluate(&mut client, "localStorage.setItem('token', 'hunter2')")
        .await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.json");

    let kept = Kept::default();
    let writer = kept.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    harvest(&chrome.harvest_into(&file)).await.unwrap();
    let log = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("origins to read"), "the log is kept: {log}");
    assert!(
        !log.contains("of-the-user") && !log.contains("hunter2"),
        "{log}"
    );
    assert_eq!(
        item(&read(&file), &site.origin("shop"), "token"),
        Some("hunter2")
    );
    chrome.stop().await;
}

#[tokio::test]
async fn two_harvests_into_one_file_take_turns() {
    let chrome = Chrome::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.json");
    let config = chrome.harvest_into(&file);
    let (one, two) = tokio::join!(harvest(&config), harvest(&config));
    one.unwrap();
    two.unwrap();

    let lock = std::fs::File::open(directory.path().join(".state.json.lock")).unwrap();
    lock.lock().unwrap();
    let busy = HarvestConfig {
        total_timeout: Duration::from_millis(100),
        ..config
    };
    let error = harvest(&busy).await.unwrap_err();
    assert!(matches!(error, HarvestError::Busy { .. }), "{error}");
    chrome.stop().await;
}

#[tokio::test]
async fn harvests_survive_a_browser_that_keeps_writing() {
    let site = Site::serve().await;
    let mut chrome = Chrome::start().await;
    let mut client = chrome.client().await;
    visit(&chrome, &mut client, &site, &["a"]).await;
    let tab = Tab::open(&mut client, &format!("{}/", site.origin("writer"))).await;
    let write = "setInterval(() => localStorage.setItem('n' + Math.floor(Math.random() * 50), 'x'.repeat(20000)), 1); 1";
    assert_eq!(tab.evaluate(&mut client, write).await, 1);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.json");
    for _ in 0..5 {
        tokio::time::timeout(PATIENCE, harvest(&chrome.harvest_into(&file)))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            item(&read(&file), &site.origin("a"), "who"),
            Some("stored-by-a")
        );
    }
    chrome.stop().await;
}
