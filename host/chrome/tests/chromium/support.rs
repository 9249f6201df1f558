//! A Chromium of one's own, a web site to visit with it, and a tab to visit it in.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chromiumoxide::cdp::browser_protocol::network::CookieParam;
use chromiumoxide::cdp::browser_protocol::page;
use chromiumoxide::cdp::browser_protocol::storage::{GetCookiesParams, SetCookiesParams};
use chromiumoxide::cdp::browser_protocol::target::{
    AttachToTargetParams, CreateTargetParams, SessionId, TargetId,
};
use chromiumoxide::cdp::js_protocol::runtime::EvaluateParams;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use witgate_chrome::cdp::{Client, React, ignore};
use witgate_chrome::{
    ChromeConfig, Counters, HarvestConfig, ProfileError, Ready, StartError, State, Supervisor,
};
use witgate_tests::port;

/// Starting Chromium takes a second or two; more only where many tests share few cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Polls until `condition` holds, and fails with `what` when it never does.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Prints the log of a test when it fails.
fn log_to_the_test() {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_test_writer();
    // Only the first test of the process sets it, for all.
    drop(subscriber.try_init());
}

/// The configuration of a test's Chromium.
pub(crate) fn config(profile: &Path) -> ChromeConfig {
    log_to_the_test();
    let mut config = ChromeConfig::new(profile.to_owned());
    config.port = port::unused();
    config.sandbox = !rustix::process::geteuid().is_root();
    // Containers have a small /dev/shm.
    config.args.push("--disable-dev-shm-usage".into());
    config.start_timeout = PATIENCE;
    config
}

/// A supervisor of a profile that another one may have had before. What a test beside this one is about to start holds
/// the lock of that one too, until it runs its program.
pub(crate) async fn supervisor(config: ChromeConfig) -> (Supervisor, watch::Receiver<State>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Supervisor::new(config.clone()) {
            Err(StartError::Profile(ProfileError::Supervised(_))) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            taken => return taken.unwrap(),
        }
    }
}

/// A supervised Chromium with a profile of its own.
pub(crate) struct Chrome {
    pub(crate) state: watch::Receiver<State>,
    pub(crate) endpoint: SocketAddr,
    pub(crate) counters: Arc<Counters>,
    profile: PathBuf,
    _own: Option<TempDir>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Chrome {
    /// Starts Chromium on a fresh profile and waits until it is ready.
    pub(crate) async fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut chrome = Self::start_with(config(profile.path())).await;
        chrome._own = Some(profile);
        chrome
    }

    pub(crate) async fn start_with(config: ChromeConfig) -> Self {
        let profile = config.profile.clone();
        let (supervisor, state) = supervisor(config).await;
        let endpoint = supervisor.endpoint();
        let counters = supervisor.counters();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(supervisor.run(async move { stopped.await.unwrap_or_default() }));
        let mut chrome = Self {
            state,
            endpoint,
            counters,
            profile,
            _own: None,
            stop,
            task,
        };
        chrome.ready().await;
        chrome
    }

    /// Waits until Chromium is ready.
    pub(crate) async fn ready(&mut self) -> Ready {
        let ready = self.state.wait_for(|state| state.ready().is_some());
        let state = tokio::time::timeout(PATIENCE, ready)
            .await
            .expect("chromium is ready in time")
            .unwrap()
            .clone();
        state.ready().unwrap().clone()
    }

    /// Stops Chromium and waits for the supervisor to return.
    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("chromium stops in time")
            .unwrap();
    }

    /// A connection to the browser.
    pub(crate) async fn client(&mut self) -> Client {
        self.client_with(PATIENCE, ignore).await
    }

    pub(crate) async fn client_with(&mut self, limit: Duration, react: React) -> Client {
        let ready = self.ready().await;
        Client::connect(self.endpoint, &ready.websocket_path, limit, react)
            .await
            .unwrap()
    }

    /// A harvest of this browser into `file`.
    pub(crate) fn harvest_into(&self, file: &Path) -> HarvestConfig {
        let mut config =
            HarvestConfig::new(self.endpoint, Some(self.profile.clone()), file.to_owned());
        config.step_timeout = Duration::from_secs(20);
        config
    }

    /// Waits until the profile's files of the given directory or name contain `text`.
    pub(crate) async fn on_disk(&self, name: &str, text: &str) {
        let path = self.profile.join("Default").join(name);
        until(&format!("{text} is in {name}"), || {
            contains(&path, text.as_bytes())
        })
        .await;
    }
}

fn contains(path: &Path, text: &[u8]) -> bool {
    if path.is_dir() {
        return std::fs::read_dir(path)
            .unwrap()
            .any(|entry| contains(&entry.unwrap().path(), text));
    }
    std::fs::read(path).is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text))
}

/// A tab that a test opened, with a session attached.
pub(crate) struct Tab {
    pub(crate) target: TargetId,
    pub(crate) session: SessionId,
}

impl Tab {
    /// Opens a visible tab and waits until its page is loaded.
    pub(crate) async fn open(client: &mut Client, url: &str) -> Self {
        let target = client
            .call(None, CreateTargetParams::new(url))
            .await
            .unwrap()
            .target_id;
        let attach = AttachToTargetParams::builder()
            .target_id(target.clone())
            .flatten(true)
            .build()
            .unwrap();
        let session = client.call(None, attach).await.unwrap().session_id;
        let tab = Self { target, session };
        client
            .call(Some(&tab.session), page::EnableParams::default())
            .await
            .unwrap();
        let loaded = "new Promise(done => document.readyState == 'complete' && location.protocol != 'about:' \
                      ? done() : setTimeout(() => done(), 20)).then(() => document.readyState + location.href)";
        let deadline = Instant::now() + PATIENCE;
        while tab.evaluate(client, loaded).await != format!("complete{url}") {
            assert!(Instant::now() < deadline, "{url} is not loaded");
        }
        tab
    }

    /// The value of a script, after its promise.
    pub(crate) async fn evaluate(&self, client: &mut Client, script: &str) -> Value {
        let evaluate = EvaluateParams::builder()
            .expression(script)
            .await_promise(true)
            .return_by_value(true);
        // A navigation under way ends the script's context: the value is then none.
        match client
            .call(Some(&self.session), evaluate.build().unwrap())
            .await
        {
            Ok(answer) => {
                assert_eq!(answer.exception_details, None, "{script}");
                answer.result.value.unwrap_or_default()
            }
            Err(_) => Value::Null,
        }
    }
}

/// Whether the browser has the cookie of [`Site`]'s `?log-in`.
pub(crate) async fn is_signed_in(client: &mut Client) -> bool {
    let cookies = client
        .call(None, GetCookiesParams::default())
        .await
        .unwrap();
    cookies
        .cookies
        .iter()
        .any(|cookie| cookie.name == "id" && cookie.value == "of-the-user")
}

/// Makes Chromium write its cookies to the disk now rather than within 30 s: it does so after 512 changes.
pub(crate) async fn flush_cookies(client: &mut Client) {
    let filler = |number| {
        let mut cookie = CookieParam::new("filler", "x");
        cookie.url = Some(format!("http://filler{number}.localhost/"));
        cookie.expires =
            Some(chromiumoxide::cdp::browser_protocol::network::TimeSinceEpoch::new(4e9));
        cookie
    };
    client
        .call(
            None,
            SetCookiesParams::new((0..600).map(filler).collect::<Vec<_>>()),
        )
        .await
        .unwrap();
}

/// A web site on 127.0.0.1, reached as any `NAME.localhost`. Every path is the same page with a text field; a request
/// with `?log-in` gets a persistent cookie that scripts cannot see, too.
pub(crate) struct Site {
    port: u16,
    requests: Arc<AtomicUsize>,
}

const PAGE: &str = "<!doctype html><title>site</title><input id=field>";

impl Site {
    pub(crate) async fn serve() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    let head = String::from_utf8_lossy(&head);
                    let line = head.lines().next().unwrap_or_default();
                    let cookie = if line.contains("?log-in") {
                        "Set-Cookie: id=of-the-user; Max-Age=86400; HttpOnly\r\n"
                    } else {
                        ""
                    };
                    let length = PAGE.len();
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\n{cookie}Content-Type: text/html\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{PAGE}"
                    );
                    // A browser that went away is no failure of the site.
                    stream
                        .write_all(answer.as_bytes())
                        .await
                        .unwrap_or_default();
                });
            }
        });
        Self { port, requests }
    }

    /// The origin of one of the site's names.
    pub(crate) fn origin(&self, name: &str) -> String {
        format!("http://{name}.localhost:{}", self.port)
    }

    /// How many requests came so far.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}
