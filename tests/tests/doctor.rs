//! Promise: `witgate doctor` says what is wrong with the machine for a configuration, what it would change, and how sure
//! it is of it, to people and to programs; and `witgate fmt` lays a file out in one step.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use witgate_tests::process::Ended;
use witgate_tests::tls::Certificates;
use witgate_tests::witgate::Setup;

fn findings(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).expect("it is JSON")
}

/// The finding whose message has these words in it.
#[track_caller]
fn finding<'f>(findings: &'f Value, words: &str) -> &'f Value {
    let list = findings["findings"].as_array().expect("a list");
    let found = list.iter().find(|finding| {
        let message = finding["message"]
            .as_str()
            .expect("a finding says something");
        message.contains(words)
    });
    found.unwrap_or_else(|| panic!("nothing says {words:?}: {findings:#}"))
}

#[test]
fn what_is_taken_cannot_be_resolved_or_ends_soon_is_told_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().expect("it is bound");
    let upstream = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let there = upstream.local_addr().expect("it is bound");
    let certificate = Certificates::new(&["DNS:localhost", "IP:127.0.0.1"]);
    let read = |file: &str| fs::read(certificate.directory().join(file)).expect("openssl made it");
    let config = format!(
        "[[listener]]\nname = \"main\"\nbind = \"{taken}\"\n\
         tls.certificates = [{{ cert = \"certificate.pem\", key = \"key.pem\" }}]\n\n\
         [[route]]\nupstream = [\"there\", \"nowhere\"]\n\n\
         [upstream.there]\nendpoints = [\"http://{there}\"]\n\n\
         [upstream.nowhere]\nendpoints = [\"http://no-such-host.invalid\"]\n"
    );
    let setup = Setup::new()
        .file("certificate.pem", read("certificate.pem"))
        .secret("key.pem", read("key.pem"))
        .file("witgate.toml", &config);

    let ended = setup.run_to_end(&["doctor", "--format", "json"]);

    assert_eq!(ended.status.code(), Some(1), "{}", ended.output());
    let findings = findings(&ended);
    assert_eq!(findings["file"], "witgate.toml");
    assert_eq!(finding(&findings, "is in use")["standing"], "doubtful");
    assert_eq!(finding(&findings, "takes connections")["standing"], "good");
    let name = finding(&findings, "no-such-host.invalid:80");
    assert_eq!(name["standing"], "wrong", "{findings:#}");
    assert!(name["change"].is_string(), "{findings:#}");
    // It is made for two days.
    let certificate = finding(&findings, "(localhost, 127.0.0.1) expires in ");
    assert_eq!(certificate["about"], "certificates");
    for about in [
        "open files",
        "clock",
        "code cache",
        "toolchains",
        "Chromium",
    ] {
        let list = findings["findings"].as_array().expect("a list");
        assert!(
            list.iter().any(|finding| finding["about"] == about),
            "{about}: {findings:#}"
        );
    }
}

#[test]
fn a_machine_is_looked_at_without_a_configuration_and_a_broken_one_is_sent_to_check() {
    let setup = Setup::new();
    let ended = setup.run_to_end(&["doctor"]);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output());
    assert!(ended.stdout.contains("open files"), "{}", ended.output());

    let setup = setup.file("broken.toml", "[[listener]]\nnmae = 1\n");
    let ended = setup.run_to_end(&["doctor", "broken.toml"]);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.output());
    let told = "WRONG  configuration   broken.toml has";
    assert!(ended.stdout.contains(told), "{}", ended.output());
    assert!(
        ended.stdout.contains("→ `witgate check broken.toml`"),
        "{}",
        ended.output()
    );
}

#[test]
fn a_file_is_laid_out_with_its_comments_and_mode_and_what_is_no_toml_is_left_alone() {
    let text = "# why\n[[listener]]\nname='main' # here\nbind   = \"127.0.0.1:0\"\n";
    let laid_out = "# why\n[[listener]]\nname = 'main' # here\nbind = \"127.0.0.1:0\"\n";
    let setup = Setup::new()
        .secret("witgate.toml", text)
        .file("broken.toml", "a = [\n");
    let path = setup.path().join("witgate.toml");
    let read = || fs::read_to_string(&path).expect("it is there");

    let checked = setup.run_to_end(&["fmt", "--check"]);
    assert_eq!(checked.status.code(), Some(1), "{}", checked.output());
    assert_eq!(
        (checked.stdout.as_str(), read()),
        ("witgate.toml\n", text.to_owned())
    );

    let done = setup.run_to_end(&["fmt"]);
    assert!(done.status.success(), "{}", done.output());
    assert_eq!(read(), laid_out);
    let mode = fs::metadata(&path)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let checked = setup.run_to_end(&["fmt", "--check"]);
    assert!(
        checked.status.success() && checked.stdout.is_empty(),
        "{}",
        checked.output()
    );

    let refused = setup.run_to_end(&["fmt", "broken.toml"]);
    assert_eq!(refused.status.code(), Some(1), "{}", refused.output());
    assert!(
        refused.stderr.contains("it stays as it was"),
        "{}",
        refused.output()
    );
}
