//! Which of several upstreams a request goes to, by their weights.

use std::cell::Cell;
use std::rc::Rc;

use http::{HeaderMap, header};

use crate::config::Sticky;
use crate::upstream::WorkerUpstream;

/// The upstreams that share a route's requests, on this worker. There is one with a weight.
#[derive(Debug)]
pub(crate) struct Split {
    pub(crate) shares: Vec<Share>,
    pub(crate) sticky: Option<Sticky>,
}

#[derive(Debug)]
pub(crate) struct Share {
    upstream: Rc<WorkerUpstream>,
    weight: i64,
    /// How much of its weight it has not had yet.
    credit: Cell<i64>,
}

impl Share {
    pub(crate) fn new(upstream: Rc<WorkerUpstream>, weight: u32) -> Self {
        Self {
            upstream,
            weight: weight.into(),
            credit: Cell::new(0),
        }
    }
}

impl Split {
    /// The upstream for a request: always the same for the same value of the sticky cookie or field, on each worker and
    /// machine, as long as the weights are the same; in turn by weight for all others.
    pub(crate) fn choose(&self, headers: &HeaderMap) -> &WorkerUpstream {
        let key = self.sticky.as_ref().and_then(|sticky| key(sticky, headers));
        let at = match key {
            Some(key) => by_hash(self.weights(), hash(key)),
            None => in_turn(&self.shares),
        };
        &self.shares[at].upstream
    }

    fn weights(&self) -> impl Iterator<Item = u64> {
        let weights = self.shares.iter().map(|share| share.weight);
        weights.map(|weight| weight.unsigned_abs())
    }
}

/// Each share gains its weight, and the richest pays for all: over as many requests as the weights add up to, each has
/// its exact part, spread evenly.
fn in_turn(shares: &[Share]) -> usize {
    let mut chosen = 0;
    let mut total = 0;
    for (at, share) in shares.iter().enumerate() {
        total += share.weight;
        share.credit.set(share.credit.get() + share.weight);
        if share.credit.get() > shares[chosen].credit.get() || shares[chosen].weight == 0 {
            chosen = at;
        }
    }
    let credit = &shares[chosen].credit;
    credit.set(credit.get() - total);
    chosen
}

fn by_hash(weights: impl Iterator<Item = u64>, hash: u64) -> usize {
    let weights: Vec<u64> = weights.collect();
    let mut left = hash % weights.iter().sum::<u64>().max(1);
    for (at, weight) in weights.iter().enumerate() {
        match left.checked_sub(*weight) {
            Some(rest) => left = rest,
            None => return at,
        }
    }
    0
}

fn key<'a>(sticky: &Sticky, headers: &'a HeaderMap) -> Option<&'a [u8]> {
    match sticky {
        Sticky::Header(name) => headers.get(name).map(AsRef::as_ref),
        Sticky::Cookie(name) => {
            let cookies = headers.get_all(header::COOKIE).iter();
            let pairs = cookies.flat_map(|cookie| cookie.as_bytes().split(|byte| *byte == b';'));
            let mut values = pairs.filter_map(|pair| {
                let value = pair.trim_ascii().strip_prefix(name.as_bytes())?;
                value.strip_prefix(b"=")
            });
            values.next()
        }
    }
}

/// FNV-1a, mixed once more (as murmur3 ends), since keys may differ in their last byte alone. It need not withstand
/// anybody: a client may choose its upstream.
fn hash(key: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let mut hash = key.iter().fold(0xcbf2_9ce4_8422_2325, step);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_falls_on_a_share_as_often_as_its_weight_says() {
        let mut counts = [0; 3];
        for number in 0..10_000 {
            let key = format!("session-{number}");
            counts[by_hash([9, 0, 1].into_iter(), hash(key.as_bytes()))] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((800..1200).contains(&counts[2]), "{counts:?}");
    }

    #[test]
    fn a_key_is_the_value_of_a_cookie_or_field() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "xid=1; id=2;id=3".parse().expect("a value"));
        headers.append("x-user", "u".parse().expect("a value"));
        let cookie = |name: &str| Sticky::Cookie(name.into());
        assert_eq!(key(&cookie("id"), &headers), Some(&b"2"[..]));
        assert_eq!(key(&cookie("x"), &headers), None);
        let field = Sticky::Header("x-user".parse().expect("a name"));
        assert_eq!(key(&field, &headers), Some(&b"u"[..]));
    }
}
