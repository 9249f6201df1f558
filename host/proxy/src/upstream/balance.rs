//! Which target a request goes to.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use http::header;
use http::request::Parts;
use witgate_runtime::ClientAddress;

use super::pool::WorkerTarget;
use super::target::Standing;
use crate::config::{Balance, HashKey};

/// What one worker remembers of its choices.
#[derive(Debug)]
pub(super) struct Chooser {
    next: Cell<usize>,
    random: Random,
}

impl Chooser {
    pub(super) fn new() -> Self {
        let random = Random::new();
        Self {
            // Elsewhere on each worker, so that they do not all begin with the same one.
            next: Cell::new(random.next() as usize),
            random,
        }
    }

    pub(super) fn random(&self) -> &Random {
        &self.random
    }

    /// One of the targets, and whether anything speaks against it. Good ones first; then those that are just back; then
    /// those that answered already, if nothing else speaks against them; then all: what is believed of them may be
    /// wrong, and an answer is better than none. One that nothing could be sent to is not tried again.
    pub(super) fn choose(
        &self,
        targets: &[Rc<WorkerTarget>],
        slow_start: Duration,
        (balance, key): (&Balance, Option<u64>),
        tried: &Tried,
    ) -> Option<Choice> {
        let reachable = |at: usize| !tried.unsent.contains(&at);
        let fresh = |at: usize| reachable(at) && !tried.answered.contains(&at);
        let good = |at: usize| {
            fresh(at)
                && match targets[at].shared.standing(slow_start) {
                    Standing::Good => true,
                    Standing::Warming(share) => self.random.share() < share,
                    Standing::Bad => false,
                }
        };
        if let Some(at) = self.pick(targets, balance, key, good) {
            return Some(Choice { at, good: true });
        }
        let not_bad = |at: usize| targets[at].shared.standing(slow_start) != Standing::Bad;
        let found = (self.pick(targets, balance, key, |at| fresh(at) && not_bad(at)))
            .or_else(|| self.pick(targets, balance, key, |at| reachable(at) && not_bad(at)));
        if let Some(at) = found {
            return Some(Choice { at, good: true });
        }
        let at = (self.pick(targets, balance, key, fresh))
            .or_else(|| self.pick(targets, balance, key, reachable))?;
        Some(Choice { at, good: false })
    }

    fn pick(
        &self,
        targets: &[Rc<WorkerTarget>],
        balance: &Balance,
        key: Option<u64>,
        may: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        match (balance, key) {
            (Balance::Hash(_), Some(key)) => of_key(targets, key, may),
            (Balance::LeastRequest, _) => self.of_two(targets, may),
            // A request without the key that is hashed may go anywhere.
            (Balance::RoundRobin | Balance::Hash(_), _) => self.in_turn(targets, may),
        }
    }

    fn in_turn(&self, targets: &[Rc<WorkerTarget>], may: impl Fn(usize) -> bool) -> Option<usize> {
        let weight = |target: &WorkerTarget| target.shared.endpoint.weight;
        let first = weight(targets.first()?);
        if targets.iter().any(|target| weight(target) != first) {
            return smooth(targets, may);
        }
        let count = targets.len();
        let start = self.next.get();
        let at = (0..count)
            .map(|n| start.wrapping_add(n) % count)
            .find(|at| may(*at))?;
        // Behind the one that was found, so that the one after a bad one has no double share.
        self.next.set(at + 1);
        Some(at)
    }

    /// Two at random by their weights, and of these the one with less under way for its weight (Mitzenmacher, "The
    /// power of two choices").
    fn of_two(&self, targets: &[Rc<WorkerTarget>], may: impl Fn(usize) -> bool) -> Option<usize> {
        let one = self.at_random(targets, &may)?;
        let other = self.at_random(targets, &may)?;
        let load = |at: usize, by: usize| {
            u64::from(targets[at].in_flight.get() + 1)
                * u64::from(targets[by].shared.endpoint.weight)
        };
        match load(other, one) < load(one, other) {
            true => Some(other),
            false => Some(one),
        }
    }

    fn at_random(
        &self,
        targets: &[Rc<WorkerTarget>],
        may: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let weight = |at: usize| u64::from(targets[at].shared.endpoint.weight);
        let total: u64 = (0..targets.len()).map(weight).sum();
        let mut drawn = self.random.below(total.max(1));
        let at = (0..targets.len()).find(|at| match drawn.checked_sub(weight(*at)) {
            Some(rest) => {
                drawn = rest;
                false
            }
            None => true,
        })?;
        // Beside one that may not be chosen stands the next that may.
        (0..targets.len())
            .map(|n| (at + n) % targets.len())
            .find(|at| may(*at))
    }
}

/// Targets, by their place, that were tried for a request.
#[derive(Debug, Default)]
pub(super) struct Tried {
    /// They could not be connected to.
    pub(super) unsent: Vec<usize>,
    /// They answered, though not well, or broke off.
    pub(super) answered: Vec<usize>,
}

/// What was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) at: usize,
    /// Nothing speaks against it.
    pub(super) good: bool,
}

/// In turn by weight, without runs of the same one, as nginx does it.
fn smooth(targets: &[Rc<WorkerTarget>], may: impl Fn(usize) -> bool) -> Option<usize> {
    let mut total = 0;
    let mut best: Option<usize> = None;
    for (at, target) in targets.iter().enumerate().filter(|(at, _)| may(*at)) {
        let weight = i64::from(target.shared.endpoint.weight);
        target.turn.set(target.turn.get() + weight);
        total += weight;
        if best.is_none_or(|best| target.turn.get() > targets[best].turn.get()) {
            best = Some(at);
        }
    }
    let chosen = &targets[best?];
    chosen.turn.set(chosen.turn.get() - total);
    best
}

/// Rendezvous hashing by weight (Thaler and Ravishankar; Schindelhauer and Schomaker): each key has its order of
/// targets, so one that leaves moves the keys that it had and no others, and one that comes takes its share.
fn of_key(targets: &[Rc<WorkerTarget>], key: u64, may: impl Fn(usize) -> bool) -> Option<usize> {
    let score = |at: usize| {
        let shared = &targets[at].shared;
        // In (0, 1]: 53 bits, as a double holds.
        let drawn = ((mix(key ^ shared.seed) >> 11) + 1) as f64 / (1u64 << 53) as f64;
        f64::from(shared.endpoint.weight) / -drawn.ln()
    };
    let may_be = (0..targets.len()).filter(|at| may(*at));
    may_be
        .map(|at| (at, score(at)))
        .max_by(|one, other| one.1.total_cmp(&other.1))
        .map(|(at, _)| at)
}

/// What `balance.hash` goes by; `None` when the request does not have it.
pub(super) fn key(balance: &Balance, head: &Parts, client: ClientAddress) -> Option<u64> {
    let Balance::Hash(by) = balance else {
        return None;
    };
    match by {
        HashKey::Header(name) => Some(hash(head.headers.get(name)?.as_bytes())),
        HashKey::Path => Some(hash(head.uri.path().as_bytes())),
        HashKey::ClientAddress => match client {
            ClientAddress::Ip(IpAddr::V4(address)) => Some(hash(&address.octets())),
            ClientAddress::Ip(IpAddr::V6(address)) => Some(hash(&address.octets())),
            ClientAddress::Unix => None,
        },
        HashKey::Cookie(name) => {
            let fields = head.headers.get_all(header::COOKIE).iter();
            let mut pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
            pairs.find_map(|pair| {
                let value = pair.trim_ascii().strip_prefix(name.as_bytes())?;
                Some(hash(value.strip_prefix(b"=")?))
            })
        }
    }
}

/// FNV-1a, mixed: the same in every process and version, so that several proxies agree. Keys are not secret, and who
/// makes many that go to one target could as well repeat one.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let offset = 0xcbf2_9ce4_8422_2325;
    let hashed = bytes.iter().fold(offset, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    mix(hashed)
}

/// The end of splitmix64.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// splitmix64. Chance here spreads load and guards nothing.
#[derive(Debug)]
pub(super) struct Random(Cell<u64>);

impl Random {
    fn new() -> Self {
        Self(Cell::new(RandomState::new().hash_one(0)))
    }

    fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        mix(state)
    }

    fn below(&self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// From 0 to 1.
    pub(super) fn share(&self) -> f32 {
        (self.next() >> 40) as f32 / (1u32 << 24) as f32
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue, Request};

    use super::*;
    use crate::config::{Endpoint, Place};
    use crate::upstream::target::{Address, Target};

    fn targets(weights: &[u32]) -> Vec<Rc<WorkerTarget>> {
        let target = |(n, weight): (usize, &u32)| {
            let address = format!("10.0.0.{n}:80").parse().expect("an address");
            let endpoint = Endpoint {
                place: Place::Address(address),
                authority: HeaderValue::from_static("a"),
                weight: *weight,
            };
            let target = Target::new("a".into(), Address::Internet(address), endpoint);
            Rc::new(WorkerTarget::new(target.into(), 1, Duration::from_secs(1)))
        };
        weights.iter().enumerate().map(target).collect()
    }

    fn chosen(
        chooser: &Chooser,
        targets: &[Rc<WorkerTarget>],
        balance: &Balance,
        key: Option<u64>,
    ) -> usize {
        let choice = chooser.choose(targets, Duration::ZERO, (balance, key), &Tried::default());
        choice.expect("there are targets").at
    }

    #[test]
    fn in_turn_each_gets_its_weight_and_none_a_run() {
        let (chooser, targets) = (Chooser::new(), targets(&[3, 1, 1]));
        let order: Vec<_> = (0..10)
            .map(|_| chosen(&chooser, &targets, &Balance::RoundRobin, None))
            .collect();
        assert_eq!(order, [0, 1, 0, 2, 0, 0, 1, 0, 2, 0]);
    }

    #[test]
    fn what_was_tried_is_not_chosen_again() {
        let (chooser, targets) = (Chooser::new(), targets(&[1, 1, 1]));
        for balance in [
            Balance::RoundRobin,
            Balance::LeastRequest,
            Balance::Hash(HashKey::Path),
        ] {
            let choose = |unsent: &[usize], answered: &[usize]| {
                let (unsent, answered) = (unsent.to_vec(), answered.to_vec());
                let tried = Tried { unsent, answered };
                let choice = chooser.choose(&targets, Duration::ZERO, (&balance, Some(7)), &tried);
                choice.map(|choice| choice.at)
            };
            assert_eq!(choose(&[0], &[2]), Some(1));
            assert_eq!(choose(&[0, 1], &[2]), Some(2), "it answered before");
            assert_eq!(choose(&[0, 1, 2], &[]), None);
        }
    }

    #[test]
    fn of_two_the_one_with_less_under_way_is_taken() {
        let (chooser, targets) = (Chooser::new(), targets(&[1, 1]));
        targets[0].in_flight.set(5);
        let picks =
            (0..200).filter(|_| chosen(&chooser, &targets, &Balance::LeastRequest, None) == 0);
        // Only when both draws are the first: a quarter.
        assert!(picks.count() < 100);
    }

    #[test]
    fn a_target_that_leaves_moves_its_own_keys_and_no_others() {
        let (chooser, five) = (Chooser::new(), targets(&[1, 1, 1, 1, 2]));
        let balance = Balance::Hash(HashKey::Path);
        let of = |targets: &[Rc<WorkerTarget>], key: u64| {
            let at = chosen(&chooser, targets, &balance, Some(hash(&key.to_le_bytes())));
            targets[at].shared.name.clone()
        };
        let mut counts = [0; 5];
        for key in 0..6000 {
            let before = of(&five, key);
            let at = five.iter().position(|target| target.shared.name == before);
            counts[at.expect("one of them")] += 1;
            let after = of(&five[1..], key);
            assert!(
                before == five[0].shared.name || before == after,
                "key {key} moved"
            );
        }
        assert!(
            counts[..4].iter().all(|count| (800..1200).contains(count)),
            "{counts:?}"
        );
        assert!((1800..2200).contains(&counts[4]), "{counts:?}");
    }

    #[test]
    fn a_key_is_read_from_where_the_operator_says() {
        let request = Request::get("/a?b")
            .header("cookie", "x=1; session=abc")
            .header("x-user", "ada");
        let (head, ()) = request.body(()).expect("a request").into_parts();
        let client = IpAddr::from([127, 0, 0, 1]).into();
        let of = |by: HashKey| key(&Balance::Hash(by), &head, client);
        assert_eq!(of(HashKey::Cookie("session".into())), Some(hash(b"abc")));
        assert_eq!(of(HashKey::Cookie("sess".into())), None);
        assert_eq!(
            of(HashKey::Header(HeaderName::from_static("x-user"))),
            Some(hash(b"ada"))
        );
        assert_eq!(of(HashKey::Path), Some(hash(b"/a")));
        assert_eq!(of(HashKey::ClientAddress), Some(hash(&[127, 0, 0, 1])));
        assert_eq!(key(&Balance::RoundRobin, &head, client), None);
    }
}
