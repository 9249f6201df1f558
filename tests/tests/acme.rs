//! Promise: certificates are had by ACME from an authority that validates, shown without a restart, kept over restarts, and
//! what there is stays when the authority fails.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha1::{Digest as _, Sha1};
use witgate_tests::admin::{self, ADMIN};
use witgate_tests::pebble::Pebble;
use witgate_tests::process::Process;
use witgate_tests::tls;
use witgate_tests::wait::{PATIENCE, within};
use witgate_tests::witgate::Setup;
use witgate_tests::{Witgate, http};

/// Back-off included: attempts follow one another after at most 1, 2, 4, 8 and 16 seconds.
const SOON: std::time::Duration = PATIENCE.saturating_mul(3);

fn config(pebble: &Pebble, challenge: &str, domains: &str) -> String {
    format!(
        "[server]\nworkers = 2\n\
         [[listener]]\nname = \"plain\"\nbind = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"tls\"\nbind = \"127.0.0.1:0\"\n\
         [listener.tls.acme]\ndomains = {domains}\nterms-agreed = true\nstorage = \"acme\"\n\
         contact = [\"mailto:nobody@witgate.test\"]\ndirectory = \"{}\"\nca = \"{}\"\nchallenge = \"{challenge}\"\n\
         [[route]]\nlistener = \"plain\"\nreply = {{ status = 200, body = \"hello\" }}\n\
         [[route]]\nlistener = \"tls\"\nreply = {{ status = 200, body = \"hello\" }}\n{ADMIN}",
        pebble.url(),
        pebble.ca().display(),
    )
}

/// Who signed what a client is shown that asks for this name; `None` when it is shown nothing.
fn issuer(witgate: &Witgate, name: &str) -> Option<String> {
    let mut command = Command::new("openssl");
    let address = witgate.address("tls").to_string();
    command.args(["s_client", "-connect", &address, "-servername", name]);
    let ended = Process::start("openssl", command).wait(PATIENCE);
    let mut lines = ended.stdout.lines();
    let line = lines.find_map(|line| line.strip_prefix("issuer="));
    line.map(|line| line.trim().to_owned())
}

fn is_shown(witgate: &Witgate, name: &str, by: &str) {
    let shown = within(SOON, || {
        issuer(witgate, name).filter(|issuer| issuer.contains(by))
    });
    assert!(shown.is_some(), "{name} is shown no certificate of {by}");
}

/// The files of the storage that end so.
fn stored(setup: &Setup, end: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(setup.path().join("acme")).expect("it was made");
    let files = files.map(|file| file.expect("it can be read").path());
    files
        .filter(|file| file.to_string_lossy().ends_with(end))
        .collect()
}

fn mode(path: &Path) -> u32 {
    let metadata = fs::metadata(path).expect("it is there");
    metadata.permissions().mode() & 0o777
}

#[test]
fn a_certificate_is_had_kept_and_renewed_and_survives_its_authority() {
    const NAME: &str = "one.witgate.test";
    let pebble = Pebble::new();
    pebble.set_name(NAME);
    pebble.set_name("two.witgate.test");
    let config = config(
        &pebble,
        "tls-alpn-01",
        "[\"one.witgate.test\", \"Two.witgate.test\"]",
    );

    // One that has expired is stored, and nobody answers at the directory: it is shown all the same.
    let (key, expired) = tls::expired(NAME);
    let stored_as = stored_as(&pebble, &[NAME, "two.witgate.test"]);
    let setup = Setup::new().secret(&format!("acme/{stored_as}"), key + &expired);
    let witgate = setup.start(&config);
    let admin = admin::address(&witgate);
    assert_eq!(witgate.get("plain", "/").text(), "hello");
    let failed = witgate.log_line("a failed attempt", |line| {
        line.message().starts_with("a certificate could not be had")
    });
    assert_eq!(failed.text("domain"), Some(NAME));
    is_shown(&witgate, NAME, "witgate expired");
    let ready = http::get(admin, "/ready");
    assert!(ready.text().contains(NAME), "{}", ready.text());

    // It answers, validates both names, and each is shown the new certificate.
    let running = pebble.run(witgate.address("tls"), witgate.address("plain"));
    is_shown(&witgate, NAME, "Pebble");
    is_shown(&witgate, "two.witgate.test", "Pebble");
    let obtained = "witgate_acme_orders_total{domain=\"one.witgate.test\",outcome=\"obtained\"}";
    assert_eq!(admin::metric(admin, obtained), 1.0);
    let expiry = "witgate_acme_certificate_expiry_timestamp_seconds{domain=\"one.witgate.test\"}";
    assert!(admin::metric(admin, expiry) > 1.7e9);
    assert!(!http::get(admin, "/ready").text().contains(NAME));
    let setup = witgate.setup();
    let (account, certificate) = (stored(setup, ".json"), stored(setup, ".pem"));
    assert_eq!((account.len(), certificate.len()), (1, 1));
    assert_eq!((mode(&account[0]), mode(&certificate[0])), (0o600, 0o600));
    running.kill();

    // Another process starts with what is stored; the authority is not there, nor needed.
    is_shown(&beside(setup, &config), NAME, "Pebble");
}

/// The name of a certificate's file.
fn stored_as(pebble: &Pebble, names: &[&str]) -> String {
    let of = format!("{}\n{}", pebble.url(), names.join("\n"));
    let digest = Sha1::digest(of);
    let digest: String = digest[..4].iter().map(|b| format!("{b:02x}")).collect();
    format!("{}-{digest}.pem", names[0])
}

/// Another process with the same storage.
fn beside(setup: &Setup, config: &str) -> Witgate {
    let storage = setup.path().join("acme");
    let storage = format!("storage = \"{}\"", storage.display());
    Witgate::start(&config.replace("storage = \"acme\"", &storage))
}

#[test]
fn a_name_is_validated_over_http_before_any_route() {
    let pebble = Pebble::new();
    pebble.set_name("one.witgate.test");
    let witgate = Witgate::start(&config(&pebble, "http-01", "[\"one.witgate.test\"]"));
    let _running = pebble.run(witgate.address("tls"), witgate.address("plain"));
    is_shown(&witgate, "one.witgate.test", "Pebble");
    // Nothing is expected there any more.
    let path = "/.well-known/acme-challenge/token";
    assert_eq!(witgate.get("plain", path).text(), "hello");
}

#[test]
fn a_name_that_leads_elsewhere_is_refused_with_the_words_of_the_authority() {
    let pebble = Pebble::new();
    let witgate = Witgate::start(&config(&pebble, "tls-alpn-01", "[\"gone.witgate.test\"]"));
    let _running = pebble.run(witgate.address("tls"), witgate.address("plain"));
    let refused = witgate.log_line_within(SOON, "a refused order", |line| {
        line.text("reason")
            .is_some_and(|reason| reason.starts_with("gone.witgate.test: "))
    });
    assert_eq!(refused.level(), "WARN");
    assert_eq!(issuer(&witgate, "gone.witgate.test"), None);
}
