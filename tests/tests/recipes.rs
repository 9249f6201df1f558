//! Promise: the recipes of docs/migration.md connect the clients that they name. A block that begins with
//! "```LANGUAGE,run=CLIENT" is run from the page; only host, port, token and the page to open are replaced.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use witgate_tests::chrome_service::{ChromeService, TOKEN, replaced};
use witgate_tests::process::Process;
use witgate_tests::site::{SIGNED_IN, Site};
use witgate_tests::{clients, port};

/// A client's own limits are shorter, so that it can say what it waited for.
const BOUND: Duration = Duration::from_secs(90);

/// A client that is run from a file: the word after `run=`, its interpreter, the file's name, and packages that the
/// recipe imports, each with the name under which this version is installed.
struct Client {
    name: &'static str,
    interpreter: &'static str,
    file: &'static str,
    packages: &'static [(&'static str, &'static str)],
}

const CLIENTS: [Client; 6] = [
    Client {
        name: "playwright-node",
        interpreter: "node",
        file: "recipe.mjs",
        packages: &[("playwright-core", "playwright-core")],
    },
    Client {
        name: "playwright-python",
        interpreter: "python",
        file: "recipe.py",
        packages: &[],
    },
    Client {
        name: "puppeteer-25",
        interpreter: "node",
        file: "recipe.mjs",
        packages: &[("puppeteer-core", "puppeteer-core")],
    },
    Client {
        name: "puppeteer-24",
        interpreter: "node",
        file: "recipe.mjs",
        packages: &[("puppeteer-core", "puppeteer-core-24")],
    },
    Client {
        name: "selenium",
        interpreter: "python",
        file: "recipe.py",
        packages: &[],
    },
    Client {
        name: "chrome-remote-interface",
        interpreter: "node",
        file: "recipe.mjs",
        packages: &[("chrome-remote-interface", "chrome-remote-interface")],
    },
];

fn page() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/migration.md");
    fs::read_to_string(page).expect("the page is there")
}

/// The blocks of the page whose fence ends like this.
fn blocks(page: &str, fence_ends: &str) -> Vec<String> {
    // Every second part between fences is a block; its first line says what it is.
    let blocks = page.split("\n```").skip(1).step_by(2);
    let wanted = blocks.filter_map(|block| {
        block
            .split_once('\n')
            .filter(|(fence, _)| fence.ends_with(fence_ends))
    });
    wanted.map(|(_, text)| format!("{text}\n")).collect()
}

#[track_caller]
fn recipe(page: &str, client: &str) -> String {
    let mut found = blocks(page, &format!(",run={client}"));
    assert_eq!(found.len(), 1, "the page has not one recipe for {client}");
    found.remove(0)
}

/// The service with the page's second port, and the URL of a page that shows who is signed in.
struct Place {
    service: ChromeService,
    inside: u16,
    page_url: String,
}

impl Place {
    fn start(page: &str, site: &Site) -> Self {
        let inside = port::unused();
        let snippet = blocks(page, "toml,no-check").remove(0);
        let snippet = replaced(&snippet, "127.0.0.1:9224", &format!("0.0.0.0:{inside}"));
        let service = ChromeService::start(|config| format!("{config}\n{snippet}"));
        let page_url = format!("{}/home", site.origin("shop"));
        Self {
            service,
            inside,
            page_url,
        }
    }

    fn cdp(&self) -> String {
        format!("{}:{}", clients::host_name(), self.service.ports().cdp)
    }

    fn adapted(&self, recipe: &str) -> String {
        let inside = format!("{}:{}", clients::host_name(), self.inside);
        recipe
            .replace("chrome:9222", &self.cdp())
            .replace("chrome:9224", &inside)
            .replace("TOKEN", TOKEN)
            .replace("https://example.com/", &self.page_url)
    }

    #[track_caller]
    fn run(&self, client: &Client, recipe: &str) -> String {
        let directory = TempDir::new().expect("the temporary directory can be written");
        let file = directory.path().join(client.file);
        fs::write(&file, self.adapted(recipe)).expect("the directory is ours");
        let modules = directory.path().join("node_modules");
        fs::create_dir(&modules).expect("the directory is ours");
        for (imported, installed) in client.packages {
            let installed = clients::directory().join("node_modules").join(installed);
            symlink(installed, modules.join(imported)).expect("the directory is ours");
        }
        let mut command = clients::interpreter(client.interpreter);
        command.arg(&file).current_dir(directory.path());
        let ended = Process::start(client.name, command).wait(BOUND);
        assert!(
            ended.status.success(),
            "{}:\n{}",
            client.name,
            ended.output()
        );
        ended.stdout
    }

    /// The ids of all tabs.
    fn tabs(&self) -> Vec<String> {
        let mut connection =
            witgate_tests::http::Connection::open(([127, 0, 0, 1], self.inside).into());
        connection.send("GET /json/list HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let list: serde_json::Value =
            serde_json::from_slice(&connection.read_response().body).expect("JSON");
        let tabs = list.as_array().expect("a list").iter();
        let mut ids: Vec<_> = tabs
            .filter(|tab| tab["type"] == "page")
            .map(|tab| tab["id"].to_string())
            .collect();
        ids.sort();
        ids
    }
}

/// The page's text, as a function.
mod chromiumoxide_recipe {
    include!("recipes/chromiumoxide.rs");

    pub(super) fn run(cdp_url: &str, page_url: &str) -> Option<String> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().expect("a runtime");
        runtime
            .block_on(text_of(cdp_url, page_url))
            .expect("it connects and reads the page")
    }
}

#[test]
fn every_recipe_of_the_migration_page_shares_the_sign_in_and_leaves_the_browser_as_it_was() {
    let page = page();
    let site = Site::start();
    let place = Place::start(&page, &site);
    let inside = format!("http://{}:{}", clients::host_name(), place.inside);
    let seen = clients::node(
        "playwright_connect.mjs",
        &[&inside, "sign-in", &site.origin("shop")],
    );
    assert_eq!(seen["who"], SIGNED_IN, "{seen}");
    let tabs = place.tabs();

    for client in &CLIENTS {
        let printed = place.run(client, &recipe(&page, client.name));
        assert!(printed.contains(SIGNED_IN), "{}: {printed}", client.name);
        witgate_tests::eventually(client.name, || (place.tabs() == tabs).then_some(()));
    }

    assert_eq!(
        recipe(&page, "chromiumoxide"),
        include_str!("recipes/chromiumoxide.rs"),
        "the page does not show what is compiled here"
    );
    let url = format!("ws://{}/?token={TOKEN}", place.cdp());
    let text = chromiumoxide_recipe::run(&url, &place.page_url);
    assert!(
        text.as_ref().is_some_and(|text| text.contains(SIGNED_IN)),
        "chromiumoxide: {text:?}"
    );
    witgate_tests::eventually("chromiumoxide", || (place.tabs() == tabs).then_some(()));
    let run = CLIENTS.len() + 1;
    assert_eq!(
        page.matches(",run=").count(),
        run,
        "a recipe of the page is not run"
    );
}
