use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::ConfigSchema;

/// A duration as configurations write it: `"500ms"`, `"10s"`, `"5m"`, `"1h"`, `"7d"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ConfigDuration(pub Duration);

/// As the proxy's own durations.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

const RULE: &str = "a duration with its unit, such as \"500ms\", \"10s\", \"5m\", \"1h\" or \"7d\"";

impl ConfigDuration {
    fn parse(text: &str) -> Option<Duration> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        Some(Duration::from_millis(number.checked_mul(milliseconds)?))
    }
}

impl<'de> Deserialize<'de> for ConfigDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = ConfigDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(RULE)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ConfigDuration, E> {
                match ConfigDuration::parse(text) {
                    Some(duration) if duration <= LONGEST => Ok(ConfigDuration(duration)),
                    Some(_) => Err(E::custom("is too long; at most \"366d\"")),
                    None => Err(E::custom(format_args!("expected {RULE}"))),
                }
            }
        }

        deserializer.deserialize_str(Text)
    }
}

impl ConfigSchema for ConfigDuration {
    fn members(to: &mut String) {
        to.push_str(r#""type":"string","pattern":"^[0-9]+(ms|s|m|h|d)$""#);
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn a_duration_has_a_unit_and_an_end() {
        for (text, milliseconds) in [
            ("0s", 0),
            ("500ms", 500),
            ("2m", 120_000),
            ("366d", 31_622_400_000),
        ] {
            let read = parse::<ConfigDuration>(&format!("{text:?}")).expect("a duration");
            assert_eq!(read.0, Duration::from_millis(milliseconds), "{text}");
        }
        for wrong in [
            "\"\"",
            "\"5\"",
            "5",
            "\"5 s\"",
            "\"-1s\"",
            "\"1.5h\"",
            "\"367d\"",
            "\"99999999999999999999s\"",
        ] {
            assert!(parse::<ConfigDuration>(wrong).is_err(), "{wrong}");
        }
    }
}
