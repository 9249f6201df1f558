//! What a value can look like: functions from an [`Item`] to a Rust value, which report what does not fit.
//!
//! They are given to the getters of a [`Section`] and combine: `list(duration)` is a list of durations.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::suggest::{did_you_mean, enumerate};
use super::value::Value;
use super::{Item, Location, Section};

/// Any text.
pub fn string(item: &Item<'_>) -> Option<String> {
    item.text("a string").map(str::to_owned)
}

/// A name that other tables refer to: 1 to 64 letters of ASCII, digits, `-` and `_`.
pub fn name(item: &Item<'_>) -> Option<String> {
    let text = item.text("a name")?;
    if is_name(text) {
        Some(text.to_owned())
    } else {
        item.reject(format!("{} is no name", item.shown()), NAME_RULE)
    }
}

/// What a name is made of, for reports.
const NAME_RULE: &str = "a name is 1 to 64 characters of `a`-`z`, `A`-`Z`, `0`-`9`, `-` and `_`";

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// `true` or `false`, or a `${…}` that becomes one of them.
pub fn boolean(item: &Item<'_>) -> Option<bool> {
    match item.value() {
        Value::Boolean(value) => Some(*value),
        Value::String(text) if item.is_interpolated() => match text.parse() {
            Ok(value) => Some(value),
            Err(_) => item.reject(
                "this does not become `true` or `false`",
                "set it to one of them",
            ),
        },
        _ => item.mismatch("`true` or `false`"),
    }
}

/// An integer of the range, or a `${…}` that becomes one. The range has to fit `T`.
pub fn integer<T: TryFrom<i64>>(range: RangeInclusive<i64>) -> impl Fn(&Item<'_>) -> Option<T> {
    move |item| {
        let (from, to) = (range.start(), range.end());
        let number = match item.value() {
            Value::Integer(number) => *number,
            Value::String(text) if item.is_interpolated() => match text.parse() {
                Ok(number) => Some(number),
                Err(_) => {
                    let help = format!("set it to an integer from {from} to {to}");
                    return item.reject("this does not become an integer", help);
                }
            },
            _ => return item.mismatch(&format!("an integer from {from} to {to}")),
        };
        number
            .filter(|number| range.contains(number))
            .and_then(|number| T::try_from(number).ok())
            .or_else(|| {
                let message = format!("{} is out of range", item.shown());
                item.reject(message, format!("write an integer from {from} to {to}"))
            })
    }
}

/// A length of time with its unit: `50ms`, `10s`, `5m`, `1h`. From 0 to 366 days.
pub fn duration(item: &Item<'_>) -> Option<Duration> {
    const DURATION: Quantity = Quantity {
        noun: "duration",
        example: "30s",
        usual: ("s", "seconds"),
        units: &[
            ("us", 1),
            ("ms", 1_000),
            ("s", 1_000_000),
            ("m", 60_000_000),
            ("h", 3_600_000_000),
            ("d", 86_400_000_000),
        ],
    };
    const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
    let duration = Duration::from_micros(DURATION.read(item)?);
    if duration > LONGEST {
        return item.reject(format!("{} is too long", item.shown()), "at most \"366d\"");
    }
    Some(duration)
}

/// A [`duration`] of more than 0.
pub fn positive_duration(item: &Item<'_>) -> Option<Duration> {
    let duration = duration(item)?;
    if duration.is_zero() {
        return item.reject(
            "a duration of 0 would end everything at once",
            "write a longer one: \"10s\"",
        );
    }
    Some(duration)
}

/// A number of bytes with its unit: `512B`, `100kB`, `64KiB`, `1MiB`.
pub fn size(item: &Item<'_>) -> Option<u64> {
    const SIZE: Quantity = Quantity {
        noun: "size",
        example: "64KiB",
        usual: ("B", "bytes"),
        units: &[
            ("B", 1),
            ("kB", 1_000),
            ("MB", 1_000_000),
            ("GB", 1_000_000_000),
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
        ],
    };
    SIZE.read(item)
}

/// A number that means nothing without its unit.
struct Quantity {
    noun: &'static str,
    example: &'static str,
    /// The unit that whoever left it out most likely meant, and its name.
    usual: (&'static str, &'static str),
    /// Each unit with its worth in the smallest one.
    units: &'static [(&'static str, u64)],
}

impl Quantity {
    fn read(&self, item: &Item<'_>) -> Option<u64> {
        let expected = format!(
            "a {} with its unit, such as \"{}\"",
            self.noun, self.example
        );
        if let Value::Integer(Some(number @ 0..)) = item.value() {
            let (unit, name) = self.usual;
            return item.reject(
                format!("expected {expected}; found the integer {number}"),
                format!("write \"{number}{unit}\" if {name} are meant"),
            );
        }
        let Some((number, unit)) = number_and_unit(item.text(&expected)?) else {
            return item.reject(format!("{} is no {}", item.shown(), self.noun), self.help());
        };
        let Some((_, worth)) = self.units.iter().find(|(name, _)| *name == unit) else {
            let message = match unit {
                "" => format!("{} has no unit", item.shown()),
                _ => format!("{} is no {}", item.shown(), self.noun),
            };
            return item.reject(message, self.help());
        };
        number
            .checked_mul(*worth)
            .or_else(|| item.reject(format!("{} is too large", item.shown()), self.help()))
    }

    fn help(&self) -> String {
        let units = enumerate(self.units.iter().map(|(unit, _)| *unit));
        format!(
            "write an integer and one of the units {units}: \"{}\"",
            self.example
        )
    }
}

/// A [`size`] of the range, in bytes. The range has to fit `usize`.
pub fn size_within(range: RangeInclusive<u64>) -> impl Fn(&Item<'_>) -> Option<usize> {
    move |item| {
        let bytes = size(item)?;
        let fitting = Some(bytes).filter(|bytes| range.contains(bytes));
        fitting
            .and_then(|bytes| usize::try_from(bytes).ok())
            .or_else(|| {
                let (from, to) = (in_words(*range.start()), in_words(*range.end()));
                let message = format!("{} is out of range", item.shown());
                item.reject(message, format!("write a size from \"{from}\" to \"{to}\""))
            })
    }
}

fn in_words(bytes: u64) -> String {
    let units = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units
        .into_iter()
        .find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    match unit {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim_start()))
}

/// One of a few words, each with what it stands for.
pub fn word<T: Copy>(words: &[(&str, T)]) -> impl Fn(&Item<'_>) -> Option<T> {
    move |item| {
        let known = || words.iter().map(|(word, _)| *word);
        let one_of = format!("one of {}", enumerate(known()));
        let text = item.text(&one_of)?;
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).or_else(|| {
            let problem = item.problem(format!("expected {one_of}; found {}", item.shown()));
            item.reader().report(match did_you_mean(text, known()) {
                Some(suggestion) if !item.is_interpolated() => problem.with_help(suggestion),
                _ => problem,
            });
            None
        })
    }
}

/// A path; a relative one starts at the configuration file's directory. It need not exist.
pub fn path(item: &Item<'_>) -> Option<PathBuf> {
    let text = item.text("a path")?;
    if text.is_empty() || text.contains('\0') {
        return item.reject("this is no path", "write the path of a file or directory");
    }
    Some(item.reader().directory().join(text))
}

/// `false`, which gives `None`, or what `shape` reads.
pub fn or_false<'r, T>(
    mut shape: impl FnMut(&Item<'r>) -> Option<T>,
) -> impl FnMut(&Item<'r>) -> Option<Option<T>> {
    move |item| match item.value() {
        Value::Boolean(false) => Some(None),
        _ => shape(item).map(Some),
    }
}

/// A list whose items have one shape.
pub fn list<'r, T>(
    mut shape: impl FnMut(&Item<'r>) -> Option<T>,
) -> impl FnMut(&Item<'r>) -> Option<Vec<T>> {
    move |item| {
        let elements = item.elements("a list in brackets")?;
        Some(elements.iter().filter_map(&mut shape).collect())
    }
}

/// A list, or one item of it without brackets.
pub fn one_or_many<'r, T>(
    mut shape: impl FnMut(&Item<'r>) -> Option<T>,
) -> impl FnMut(&Item<'r>) -> Option<Vec<T>> {
    move |item| {
        if item.is_list() {
            list(&mut shape)(item)
        } else {
            shape(item).map(|value| vec![value])
        }
    }
}

/// A table. Keys that `read` does not ask for are reported.
pub fn table<'r, T>(
    mut read: impl FnMut(&mut Section<'r>) -> Option<T>,
) -> impl FnMut(&Item<'r>) -> Option<T> {
    move |item| {
        let mut section = item.section("a table")?;
        let value = read(&mut section);
        section.finish();
        value
    }
}

/// An array of tables, each under a header of its own: `[[listener]]`.
pub fn tables<'r, T>(
    header: &str,
    read: impl FnMut(&mut Section<'r>) -> Option<T>,
) -> impl FnMut(&Item<'r>) -> Option<Vec<T>> {
    let mut read = list(table(read));
    move |item| {
        if item.is_table() {
            return item.reject(
                format!("there can be several of `{header}`, so it is a list of tables"),
                format!("write `[[{header}]]`"),
            );
        }
        read(item)
    }
}

/// A table of tables under names that the operator chooses: `[plugin.NAME]`. `read` is given NAME.
pub fn named<'r, T>(
    header: &str,
    mut read: impl FnMut(&str, &mut Section<'r>) -> Option<T>,
) -> impl FnMut(&Item<'r>) -> Option<Vec<T>> {
    move |item| {
        let expected = format!("a table for each name, `[{header}.NAME]`");
        let mut section = item.section(&expected)?;
        let read = section.items().into_iter().filter_map(|item| {
            if !is_name(item.name()) {
                let message = format!("`{}` is no name", item.name());
                let problem = item.problem(message).with_help(NAME_RULE);
                item.reader().report(problem);
            }
            table(|section| read(item.name(), section))(&item)
        });
        Some(read.collect())
    }
}

/// A table whose keys are names of whatever kind, and whose values have one shape.
pub fn named_values<'r, T>(
    mut shape: impl FnMut(&Item<'r>) -> Option<T>,
) -> impl FnMut(&Item<'r>) -> Option<BTreeMap<String, T>> {
    move |item| {
        let mut section = item.section("a table")?;
        let values = section.items().into_iter();
        let value = |item: Item<'r>| Some((item.name().to_owned(), shape(&item)?));
        Some(values.filter_map(value).collect())
    }
}

/// A value together with the place of what it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub location: Location,
    /// Its dotted path from the top of the file.
    pub path: String,
}

/// Keeps the place along with the value, for problems that show only when values are compared.
pub fn located<'r, T>(
    mut shape: impl FnMut(&Item<'r>) -> Option<T>,
) -> impl FnMut(&Item<'r>) -> Option<Located<T>> {
    move |item| {
        Some(Located {
            value: shape(item)?,
            location: item.location(),
            path: item.path().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::Path;

    use super::super::Document;
    use super::*;

    /// Reads `a = TEXT` as `shape`; the variable `SECRET` holds `s3cret`, `NUMBER` holds `7`.
    fn read<T>(text: &str, shape: impl Fn(&Item<'_>) -> Option<T>) -> Result<T, String> {
        let environment = |name: &str| match name {
            "SECRET" => Some(OsString::from("s3cret")),
            "NUMBER" => Some(OsString::from("7")),
            _ => None,
        };
        let text = format!("a = {text}");
        let document =
            Document::parse_with(Path::new("a.toml"), &text, &environment).expect("this is TOML");
        let reader = document.reader();
        let value = reader.root().required("a", "", |item| shape(item));
        reader
            .finish(value)
            .map(|(value, _)| value)
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn durations_carry_their_unit() {
        for (text, expected) in [
            ("'500us'", Duration::from_micros(500)),
            ("'50ms'", Duration::from_millis(50)),
            ("'0s'", Duration::ZERO),
            ("'10 s'", Duration::from_secs(10)),
            ("'5m'", Duration::from_secs(300)),
            ("'1h'", Duration::from_secs(3_600)),
            ("'366d'", Duration::from_secs(366 * 86_400)),
        ] {
            assert_eq!(read(text, duration), Ok(expected), "{text}");
        }
        for (text, message) in [
            ("30", "found the integer 30"),
            ("'30'", "'30' has no unit"),
            ("'s'", "'s' is no duration"),
            ("'-1s'", "'-1s' is no duration"),
            ("'1.5s'", "'1.5s' is no duration"),
            ("'1w'", "'1w' is no duration"),
            ("'367d'", "'367d' is too long"),
            ("'99999999999999d'", "'99999999999999d' is too large"),
            ("-30", "found the integer -30"),
            ("'99999999999999999999s'", "is no duration"),
        ] {
            let report = read(text, duration).expect_err(text);
            assert!(report.contains(message), "{report}");
        }
        let report = read("'0s'", positive_duration).expect_err("zero is too short");
        assert!(report.contains("a duration of 0"), "{report}");
    }

    #[test]
    fn sizes_carry_their_unit() {
        for (text, expected) in [
            ("'0B'", 0),
            ("'100kB'", 100_000),
            ("'64KiB'", 65_536),
            ("'1MiB'", 1_048_576),
            ("'2 GB'", 2_000_000_000),
        ] {
            assert_eq!(read(text, size), Ok(expected), "{text}");
        }
        for (text, message) in [
            ("64", "write \"64B\" if bytes are meant"),
            ("'64'", "'64' has no unit"),
            ("'64kb'", "'64kb' is no size"),
            ("'99999999999GiB'", "is too large"),
        ] {
            let report = read(text, size).expect_err(text);
            assert!(report.contains(message), "{report}");
        }
        let report = read("'2MiB'", size_within(1..=1 << 20)).expect_err("it is too large");
        assert!(report.contains("from \"1B\" to \"1MiB\""), "{report}");
    }

    #[test]
    fn integers_keep_to_their_range() {
        assert_eq!(read("7", integer::<u8>(1..=7)), Ok(7));
        assert_eq!(read("0x07", integer::<u8>(1..=7)), Ok(7));
        for text in ["0", "8", "99999999999999999999"] {
            let report = read(text, integer::<u8>(1..=7)).expect_err(text);
            assert!(
                report.contains(&format!("{text} is out of range")),
                "{report}"
            );
            assert!(report.contains("write an integer from 1 to 7"), "{report}");
        }
    }

    #[test]
    fn an_integer_may_come_from_the_environment_but_not_from_a_plain_string() {
        assert_eq!(read("'${env:NUMBER}'", integer::<u8>(1..=7)), Ok(7));
        assert!(read("'7'", integer::<u8>(1..=7)).is_err());
    }

    #[test]
    fn a_value_that_came_from_the_environment_is_never_shown() {
        let refused = [
            read("'${env:SECRET}'", |item| duration(item).map(drop)),
            read("'${env:SECRET}'", |item| size(item).map(drop)),
            read("'${env:SECRET}'", |item| boolean(item).map(drop)),
            read("'${env:SECRET}'", |item| {
                integer::<u8>(0..=9)(item).map(drop)
            }),
            read("'${env:SECRET}'", |item| word(&[("s4cret", ())])(item)),
            read("'${env:SECRET}!'", |item| name(item).map(drop)),
            read("'${env:SECRET}'", |item| list(string)(item).map(drop)),
        ];
        for result in refused {
            let report = result.expect_err("the value does not fit");
            assert!(report.contains("${env:SECRET}"), "{report}");
            assert!(
                !report.contains("s3cret") && !report.contains("s4cret`?"),
                "{report}"
            );
        }
    }

    #[test]
    fn a_word_is_one_of_those_listed() {
        let words = [("open", 1), ("closed", 2)];
        assert_eq!(read("'closed'", word(&words)), Ok(2));
        let report = read("'close'", word(&words)).expect_err("there is no such word");
        assert!(
            report.contains("expected one of `open` and `closed`; found 'close'"),
            "{report}"
        );
        assert!(report.contains("did you mean `closed`?"), "{report}");
    }

    #[test]
    fn names_are_short_and_plain() {
        assert_eq!(read("'a-B_9'", name).as_deref(), Ok("a-B_9"));
        for text in ["''", "'a.b'", "'a b'", "'ä'"] {
            assert!(read(text, name).is_err(), "{text}");
        }
        assert!(read(&format!("'{}'", "a".repeat(65)), name).is_err());
    }

    #[test]
    fn every_item_of_a_list_is_checked() {
        assert_eq!(
            read("['a', 'b']", |item| list(string)(item)),
            Ok(vec!["a".into(), "b".into()])
        );
        assert_eq!(
            read("'a'", |item| one_or_many(string)(item)),
            Ok(vec!["a".into()])
        );
        let report =
            read("['a', 1, 2]", |item| list(string)(item)).expect_err("two are no strings");
        assert!(report.contains("a.1") && report.contains("a.2"), "{report}");
    }
}
