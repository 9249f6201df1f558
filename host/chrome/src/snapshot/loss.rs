//! Whether a snapshot lost so much against the last good one that a fault is likelier than a sign-out.

use std::fmt;
use std::time::Duration;

/// Fewer than this are no measure: whoever has three cookies and signs out of one site loses most of them.
const ENOUGH: usize = 5;

/// What a snapshot may lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LossLimit {
    /// A snapshot that lost a larger share, of the cookies or of the origins with stored data, is suspicious. In
    /// percent, 1 to 100; at 100 nothing but an empty snapshot is.
    pub percent: u8,
    /// A suspicious snapshot is published after all once at least three harvests in a row have come to the like of it,
    /// over this long: then it is what the browser holds. One that failed in another way in between starts over.
    pub accept_after: Duration,
    /// Harvests that are further apart are not in a row: what happened in between is not known.
    pub gap: Duration,
}

impl Default for LossLimit {
    /// 80 %, accepted after 2 h: with a harvest every hour, by the third or fourth in a row.
    fn default() -> Self {
        Self {
            percent: 80,
            accept_after: Duration::from_secs(2 * 60 * 60),
            gap: Duration::from_secs(2 * 60 * 60),
        }
    }
}

/// How much a snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Cookies.
    pub cookies: usize,
    /// Origins with stored data.
    pub origins: usize,
}

/// What was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    what: &'static str,
    before: usize,
    now: usize,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, before, now } = self;
        write!(f, "of {before} {what} {now} are left")
    }
}

impl LossLimit {
    /// The first loss that is beyond the limit.
    ///
    /// A share counts where there were at least five before. A snapshot that holds nothing at all after one that held
    /// something is beyond every limit.
    pub fn exceeded(&self, before: Counts, now: Counts) -> Option<Loss> {
        let pairs = [
            ("cookies", before.cookies, now.cookies),
            ("origins", before.origins, now.origins),
        ];
        let empty = now.cookies == 0 && now.origins == 0;
        let loss = pairs.into_iter().find(|&(_, before, now)| {
            let lost = before.saturating_sub(now);
            let over = lost.saturating_mul(100) > before.saturating_mul(self.percent.into());
            (before >= ENOUGH && over) || (empty && before > 0)
        });
        loss.map(|(what, before, now)| Loss { what, before, now })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_counts_from_five_on_and_emptiness_always() {
        let limit = LossLimit::default();
        let exceeded = |before: (usize, usize), now: (usize, usize)| {
            let counts = |(cookies, origins)| Counts { cookies, origins };
            limit.exceeded(counts(before), counts(now)).is_some()
        };
        assert!(exceeded((100, 10), (19, 10)));
        assert!(
            !exceeded((100, 10), (20, 10)),
            "exactly 80 % is within the limit"
        );
        assert!(exceeded((100, 10), (100, 1)));
        assert!(exceeded((5, 0), (0, 0)));
        assert!(!exceeded((4, 0), (0, 1)), "too few to tell");
        assert!(exceeded((1, 0), (0, 0)), "nothing is left at all");
        assert!(!exceeded((0, 0), (0, 0)));
        assert!(!exceeded((3, 3), (300, 300)));
        let never = LossLimit {
            percent: 100,
            ..limit
        };
        let of = |cookies, origins| Counts { cookies, origins };
        assert_eq!(never.exceeded(of(100, 1), of(0, 1)), None);
        let loss = never.exceeded(of(100, 1), of(0, 0)).unwrap();
        assert_eq!(loss.to_string(), "of 100 cookies 0 are left");
    }
}
