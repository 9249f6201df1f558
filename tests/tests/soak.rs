//! Promise: while Chromium, witgate and clients are killed and stopped under work, everybody else goes on, and
//! afterwards nothing is lost but what was in flight, no connection and no file is left open, and no process remains.
//!
//! `make soak` runs it with twenty clients for five minutes; here it is one round of everything with a few.
//! `WITGATE_SOAK_SEED` repeats the choices of an earlier run.

use std::collections::BTreeSet;
use std::env;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::Value;
use witgate_tests::chrome_service::{ChromeService, TOKEN, replaced};
use witgate_tests::process::Process;
use witgate_tests::site::Site;
use witgate_tests::wait::within;
use witgate_tests::{chromium, clients, eventually};

/// How long every client may need to finish a round that it began after a fault: a start of Chromium, an attached client
/// that hangs until it is cut off, and its own time limits before, on a busy machine.
const RECOVERY: Duration = Duration::from_secs(180);

/// Chromium writes cookies up to 30 s late and localStorage 5 s; a busy machine takes its time. What was confirmed in
/// these milliseconds before a sudden death may be lost with it.
const IN_FLIGHT: u64 = 60_000;

/// The rounds of a client that was started again are numbered from another million on.
const LIFE: u64 = 1_000_000;

/// One client in so many is Playwright; the others speak the protocol themselves, which costs less.
const PLAYWRIGHT: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Fault {
    KillClient,
    StopClient,
    RestartWitgate,
    KillWitgate,
    KillChromium,
}

/// Every fault once. The restart comes before the kills, because all that was confirmed before it is on the disk then.
const ROUND: [Fault; 5] = [
    Fault::KillClient,
    Fault::RestartWitgate,
    Fault::StopClient,
    Fault::KillWitgate,
    Fault::KillChromium,
];

/// Steele, Lea and Flood's SplitMix64: a few lines, and the same choices for the same seed.
struct Choices(u64);

impl Choices {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % bound as u64).expect("below a usize")
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.expect("the clock is past 1970");
    u64::try_from(since.as_millis()).expect("some centuries fit")
}

fn number(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value} is no number")),
    )
}

/// What a client saw with its own eyes: it wrote `n`, and read it back, between two moments.
#[derive(Clone, Copy, Debug)]
struct Confirmed {
    n: u64,
    began: u64,
    done: u64,
}

impl Confirmed {
    fn parse(line: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok()?;
        let field = |name: &str| line.get(name)?.as_u64();
        Some(Self {
            n: field("n")?,
            began: field("began")?,
            done: field("done")?,
        })
    }
}

/// A client, in one life after the other, and what its lives confirmed.
struct Worker {
    kind: &'static str,
    cdp_url: String,
    site: String,
    pause: &'static str,
    lives: u64,
    process: Option<Process>,
    earlier: Vec<Confirmed>,
}

impl Worker {
    fn start(&mut self) {
        let first = (self.lives * LIFE).to_string();
        self.lives += 1;
        let arguments = [
            self.kind,
            &self.cdp_url,
            TOKEN,
            &self.site,
            &first,
            self.pause,
        ];
        self.process = Some(clients::start_node("soak_client.mjs", &arguments));
    }

    fn signal(&self, signal: Signal) {
        let process = self
            .process
            .as_ref()
            .expect("every worker runs between faults");
        process.signal_group(signal);
    }

    fn kill(&mut self) {
        let process = self
            .process
            .take()
            .expect("every worker runs between faults");
        process.signal_group(Signal::KILL);
        let ended = process.wait(RECOVERY);
        self.earlier
            .extend(ended.stdout.lines().filter_map(Confirmed::parse));
    }

    /// Waits until it confirmed a round that it began after `moment`.
    #[track_caller]
    fn expect_progress(&self, moment: u64, after: &str) {
        let process = self
            .process
            .as_ref()
            .expect("every worker runs between faults");
        let progress = process.find_line(RECOVERY, |line| {
            Confirmed::parse(line).filter(|confirmed| confirmed.began > moment)
        });
        assert!(
            progress.is_some(),
            "after {after}, {} does not go on:\n{process}",
            self.site
        );
    }
}

/// The moments at which something may have been lost, or was made safe.
#[derive(Default)]
struct History {
    sudden: Vec<u64>,
    orderly: Vec<u64>,
}

impl History {
    /// Whether the write has to be there: no sudden death came upon it before it was on the disk.
    fn keeps(&self, write: &Confirmed) -> bool {
        let safe_after = |death: u64| {
            let stops = &self.orderly;
            stops.iter().any(|&stop| write.done < stop && stop < death)
        };
        let in_flight =
            |death: u64| write.began <= death && death < write.done.saturating_add(IN_FLIGHT);
        !self
            .sudden
            .iter()
            .any(|&death| in_flight(death) && !safe_after(death))
    }
}

struct Soak {
    service: ChromeService,
    workers: Vec<Worker>,
    history: History,
    choices: Choices,
    began: Instant,
}

impl Soak {
    fn start(site: &Site, workers: usize, seed: u64, long: bool) -> Self {
        let service = ChromeService::start(|config| {
            let config = patient(&config);
            if long { config } else { quicker(&config) }
        });
        let cdp_url = service.url();
        let worker = |number: usize| Worker {
            kind: if number.is_multiple_of(PLAYWRIGHT) {
                "playwright"
            } else {
                "cdp"
            },
            cdp_url: cdp_url.clone(),
            site: site.origin(&format!("w{number}")),
            pause: if long { "500" } else { "100" },
            lives: 0,
            process: None,
            earlier: Vec::new(),
        };
        Self {
            workers: (0..workers).map(worker).collect(),
            service,
            history: History::default(),
            choices: Choices(seed),
            began: Instant::now(),
        }
    }

    #[track_caller]
    fn expect_progress_of_all(&self, moment: u64, after: &str) {
        for worker in &self.workers {
            worker.expect_progress(moment, after);
        }
    }

    #[track_caller]
    fn inflict(&mut self, fault: Fault) {
        let victim = self.choices.below(self.workers.len());
        eprintln!("{:.1?}: {fault:?}, client {victim}", self.began.elapsed());
        match fault {
            Fault::KillClient => {
                self.workers[victim].kill();
                self.workers[victim].start();
            }
            // Playwright asks the browser to hold every new tab until it has seen it: nobody could do more harm.
            Fault::StopClient => self.stop_client(victim - victim % PLAYWRIGHT),
            Fault::RestartWitgate => {
                let ended = self.service.stop();
                assert!(ended.status.success(), "{}", ended.output());
                self.expect_no_browser();
                self.history.orderly.push(now());
                self.service.start_again();
            }
            Fault::KillWitgate => {
                self.history.sudden.push(now());
                drop(self.service.kill());
                self.service.start_again();
            }
            Fault::KillChromium => {
                self.history.sudden.push(now());
                let killed = chromium::kill(&self.service.profile());
                let again = within(RECOVERY, || {
                    chromium::browser_process(&self.service.profile())
                        .filter(|&browser| browser != killed)
                });
                assert!(again.is_some(), "Chromium was not started again");
            }
        }
        self.expect_progress_of_all(now(), &format!("{fault:?}"));
    }

    /// A client that is stopped keeps its connection and answers nothing. The others go on all the same.
    #[track_caller]
    fn stop_client(&mut self, victim: usize) {
        self.workers[victim].signal(Signal::STOP);
        let stopped = now();
        for (number, worker) in self.workers.iter().enumerate() {
            if number != victim {
                worker.expect_progress(stopped, "a client was stopped");
            }
        }
        self.workers[victim].kill();
        self.workers[victim].start();
    }

    /// No process of a browser with our profile is left.
    #[track_caller]
    fn expect_no_browser(&self) {
        assert_eq!(chromium::processes(&self.service.profile()), []);
    }

    #[track_caller]
    fn wait_until_nobody_is_connected(&self) {
        // Longer than the time that an unused connection is kept for the next request.
        let nobody = within(RECOVERY, || {
            (self.service.connections_to_chromium() == 0).then_some(())
        });
        assert!(nobody.is_some(), "a connection to Chromium was leaked");
    }

    /// What each worker's site has stored, as one more client finds it.
    #[track_caller]
    fn read(&self) -> Vec<(BTreeSet<u64>, Option<u64>)> {
        let url = self.service.url();
        let sites = self.workers.iter().map(|worker| worker.site.as_str());
        let arguments: Vec<&str> = [url.as_str(), TOKEN].into_iter().chain(sites).collect();
        let found = clients::node("soak_read.mjs", &arguments);
        let sites = found["sites"].as_array().expect("a list").iter();
        let stored = |site: &Value| -> BTreeSet<u64> {
            let stored = site["stored"].as_array().expect("a list").iter();
            stored.filter_map(Value::as_u64).collect()
        };
        sites
            .map(|site| (stored(site), site["last"].as_u64()))
            .collect()
    }

    /// All that was confirmed and could not have been lost is there. Gives how many writes that are.
    #[track_caller]
    fn expect_everything_kept(&self) -> usize {
        let mut kept = 0;
        for (worker, (stored, last)) in self.workers.iter().zip(self.read()) {
            let has_to_be_there = worker
                .earlier
                .iter()
                .filter(|write| self.history.keeps(write));
            let has_to_be_there: BTreeSet<u64> = has_to_be_there.map(|write| write.n).collect();
            let lost: Vec<_> = has_to_be_there.difference(&stored).collect();
            assert!(
                lost.is_empty(),
                "{} lost {lost:?} of localStorage",
                worker.site
            );
            assert!(
                last >= has_to_be_there.last().copied(),
                "{} has the cookie {last:?}, and wrote {:?}",
                worker.site,
                has_to_be_there.last()
            );
            kept += has_to_be_there.len();
        }
        kept
    }
}

/// The same configuration for a busy machine, where Chromium may need a while to write everything at an orderly stop.
fn patient(config: &str) -> String {
    replaced(config, "[chrome]\n", "[chrome]\nstop-timeout = \"60s\"\n")
}

/// The same configuration with times that fit into a short test.
fn quicker(config: &str) -> String {
    let config = replaced(
        config,
        "shutdown-grace = \"20s\"",
        "shutdown-grace = \"1s\"",
    );
    let watched = "ping-interval = \"10s\", ping-timeout = \"10s\"";
    let config = replaced(
        &config,
        watched,
        "ping-interval = \"1s\", ping-timeout = \"5s\"",
    );
    let upstream = "[upstream.chromium]\n";
    replaced(
        &config,
        upstream,
        &format!("{upstream}idle-timeout = \"1s\"\n"),
    )
}

#[test]
fn clients_go_on_and_nothing_is_lost_while_chromium_witgate_and_clients_are_killed() {
    let seed = number("WITGATE_SOAK_SEED").unwrap_or_else(now);
    let length = number("WITGATE_SOAK_SECONDS").map(Duration::from_secs);
    let workers = number("WITGATE_SOAK_CLIENTS").map_or(4, |workers| workers as usize);
    eprintln!("WITGATE_SOAK_SEED={seed}");
    let site = Site::start();
    let mut soak = Soak::start(&site, workers, seed, length.is_some());
    // One client has come and gone, so that what is opened once and kept is open.
    assert!(soak.read().iter().all(|(stored, _)| stored.is_empty()));
    soak.wait_until_nobody_is_connected();
    let open_files = soak.service.open_files();

    soak.began = Instant::now();
    soak.workers.iter_mut().for_each(Worker::start);
    soak.expect_progress_of_all(0, "the start");
    for fault in ROUND {
        soak.inflict(fault);
    }
    while length.is_some_and(|length| soak.began.elapsed() < length) {
        let fault = ROUND[soak.choices.below(ROUND.len())];
        soak.inflict(fault);
    }

    soak.workers.iter_mut().for_each(Worker::kill);
    soak.wait_until_nobody_is_connected();
    eventually(
        "witgate to have no more files open than at the start",
        || (soak.service.open_files() <= open_files).then_some(()),
    );
    let kept = soak.expect_everything_kept();
    let confirmed: usize = soak.workers.iter().map(|worker| worker.earlier.len()).sum();
    let lives: u64 = soak.workers.iter().map(|worker| worker.lives).sum();
    eprintln!(
        "{:?}: {confirmed} writes of {lives} clients, {kept} of them had to be there",
        soak.began.elapsed()
    );
    assert!(kept >= soak.workers.len(), "hardly anything was checked");
    let ended = soak.service.stop();
    assert!(ended.status.success(), "{}", ended.output());
    soak.expect_no_browser();
}
