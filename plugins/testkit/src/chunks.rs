//! Where a body is cut into pieces has no meaning, and depends on the network. A transform that keeps to that gives the
//! same however its input is cut.

use proptest::collection::btree_set;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

use crate::Body;
use crate::diff::diff;

/// How many ways to cut a body are tried, the whole body and single bytes among them.
#[derive(Debug, Clone, Copy)]
pub struct Cuts(pub u32);

impl Default for Cuts {
    /// 64: each is a run of the body through the plugin.
    fn default() -> Self {
        Self(64)
    }
}

/// Asserts that a transform makes the same of `body` wherever that is cut into pieces, and gives what it makes of it.
///
/// `start` is called for each way to cut it: it calls the hook and gives the transform. The ways are the same in each
/// run. Of one that fails, the fewest cuts that still make it fail are shown.
///
/// ```no_run
/// # fn of(plugin: &witgate_testkit::Plugin) {
/// use witgate_testkit::{Cuts, Exchange, assert_chunks_do_not_matter};
///
/// let start = || {
///     let mut exchange = Exchange::get("/").response(200, &[]);
///     plugin.on_response(&mut exchange).expect_transform()
/// };
/// let made = assert_chunks_do_not_matter(b"the whole body", Cuts::default(), start);
/// assert_eq!(made, b"THE WHOLE BODY");
/// # }
/// ```
///
/// # Panics
///
/// When the results differ, and when the plugin fails.
#[track_caller]
pub fn assert_chunks_do_not_matter(body: &[u8], cuts: Cuts, start: impl Fn() -> Body) -> Vec<u8> {
    let whole = start().send([body]);
    let single = start().send(body.chunks(1));
    assert!(
        single == whole,
        "byte by byte, the transform makes something else of the body:\n{}",
        shown(&whole, &single)
    );
    let mut runner = TestRunner::new_with_rng(
        Config {
            cases: cuts.0.saturating_sub(2),
            failure_persistence: None,
            ..Config::default()
        },
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let ran = runner.run(&places(body.len()), |places| {
        let made = start().send(pieces(body, &places));
        match made == whole {
            true => Ok(()),
            false => Err(TestCaseError::fail(shown(&whole, &made))),
        }
    });
    match ran {
        Ok(()) => whole,
        Err(TestError::Fail(reason, places)) => {
            panic!(
                "cut at {places:?}, the transform makes something else of the body:\n{}",
                reason.message()
            )
        }
        Err(TestError::Abort(reason)) => panic!("{}", reason.message()),
    }
}

/// Up to eight places within a body.
fn places(length: usize) -> impl Strategy<Value = Vec<usize>> {
    let most = length.saturating_sub(1).min(8);
    btree_set(1..length.max(2), 0..=most).prop_map(|places| places.into_iter().collect())
}

fn pieces<'a>(body: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::with_capacity(places.len() + 1);
    let mut rest = body;
    let mut at = 0;
    for &place in places.iter().filter(|place| **place < body.len()) {
        let (piece, behind) = rest.split_at(place - at);
        pieces.push(piece);
        (rest, at) = (behind, place);
    }
    pieces.push(rest);
    pieces
}

/// `-` as from the whole body, `+` as from the pieces.
fn shown(whole: &[u8], made: &[u8]) -> String {
    diff(
        &String::from_utf8_lossy(whole),
        &String::from_utf8_lossy(made),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_body_again() {
        assert_eq!(
            pieces(b"abcde", &[1, 4]),
            [&b"a"[..], &b"bcd"[..], &b"e"[..]]
        );
        assert_eq!(pieces(b"a", &[1]), [b"a"]);
        assert_eq!(pieces(b"", &[]), [b""]);
    }
}
