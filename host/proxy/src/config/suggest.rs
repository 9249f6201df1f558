//! "Did you mean": the known word that a wrong one is most likely to stand for.

/// Longer words are no misspellings of ours, and the distance costs the product of both lengths.
const LONGEST: usize = 64;

/// The closest of `known`, when it is close enough to be what was meant: at most a third of its characters differ.
/// Upper and lower case, and `_` and `-`, count as the same.
pub(super) fn closest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if word.len() > LONGEST {
        return None;
    }
    let word = fold(word);
    known
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| (strsim::osa_distance(&word, &fold(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `did you mean …?` for a report, when one of the known words is close to this one.
pub fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    closest(word, known).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// `a`, `b` and `c` for a report.
pub(super) fn enumerate<'k>(words: impl IntoIterator<Item = &'k str>) -> String {
    let quoted: Vec<_> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => "none".into(),
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

fn fold(word: &str) -> String {
    word.to_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_word_finds_the_closest_known_one() {
        let known = ["listener", "route", "upstream"];
        assert_eq!(closest("lisener", known), Some("listener"));
        assert_eq!(closest("Upstreams", known), Some("upstream"));
        assert_eq!(
            closest("connect_timeout", ["connect-timeout"]),
            Some("connect-timeout")
        );
        assert_eq!(closest("abc", ["cab", "acb"]), Some("acb"));
    }

    #[test]
    fn a_word_that_is_close_to_nothing_finds_nothing() {
        assert_eq!(closest("tls", ["listener", "bind"]), None);
        assert_eq!(closest(&"listener".repeat(1_000), ["listener"]), None);
    }

    #[test]
    fn words_are_enumerated_with_an_and_before_the_last() {
        assert_eq!(enumerate([]), "none");
        assert_eq!(enumerate(["a"]), "`a`");
        assert_eq!(enumerate(["a", "b", "c"]), "`a`, `b` and `c`");
    }
}
