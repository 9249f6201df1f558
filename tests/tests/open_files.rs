//! Promise: files run out late, and when they do, whoever is served goes on being served and the others wait.

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use witgate_tests::upstream::response;
use witgate_tests::{Upstream, Witgate, config, wait};

fn pid(witgate: &mut Witgate) -> Option<Pid> {
    Pid::from_raw(i32::try_from(witgate.process().id()).expect("it fits, as pid_t is an i32"))
}

#[test]
fn as_many_files_may_be_open_as_the_system_allows() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let mut witgate = Witgate::start(&config::relay(upstream.address()));

    let limits = std::fs::read_to_string(format!("/proc/{}/limits", witgate.process().id()))
        .expect("the process is there");

    let files = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .expect("Linux lists the limit");
    let [soft, hard] = [0, 1].map(|n| files.split_whitespace().nth(n));
    assert_eq!(soft, hard, "{limits}");
}

#[test]
fn without_a_file_left_a_client_waits_and_the_others_are_served() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let mut witgate = Witgate::start(&config::relay(upstream.address()));
    let mut early = witgate.connect("main");
    early.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(early.read_response().text(), "hello");
    let process = pid(&mut witgate);
    let open = std::fs::read_dir(format!("/proc/{}/fd", witgate.process().id()))
        .expect("the process is there")
        .count() as u64;
    let few = Rlimit {
        current: Some(open + 3),
        maximum: Some(open + 3),
    };
    prlimit(process, Resource::Nofile, few).expect("it is our child");

    let crowd: Vec<_> = (0..16).map(|_| witgate.connect("main")).collect();
    witgate.log_line("that files have run out", |line| {
        line.message().contains("the listener pauses")
    });
    early.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(early.read_response().text(), "hello");

    drop(crowd);
    let served = wait::within(std::time::Duration::from_secs(30), || {
        let mut late = witgate.connect("main");
        late.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        (late.read_response().status() == 200).then_some(())
    });
    assert!(served.is_some(), "nobody is served any more");
}
