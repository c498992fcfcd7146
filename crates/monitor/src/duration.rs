//! How durations are written: `"30s"` in a configuration, seconds in a report.

use std::{fmt, time::Duration};

use serde::{Deserializer, Serializer, de};

const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
    ("d", 86_400 * 1_000_000_000),
];

/// Nanoseconds, as a `u64` that stays at its maximum after 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn parse(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit.trim())?;
    let nanos = number.parse::<u64>().ok()?.checked_mul(*scale)?;
    Some(Duration::from_nanos(nanos))
}

fn print(duration: Duration) -> String {
    let nanos = nanos(duration);
    let (unit, scale) = UNITS
        .iter()
        .rev()
        .find(|(_, scale)| nanos >= *scale && nanos.is_multiple_of(*scale))
        .unwrap_or(&UNITS[3]);
    format!("{}{unit}", nanos / scale)
}

/// A duration of a configuration: a whole number and its unit, such as `"30s"`, or a number of seconds.
pub(crate) mod text {
    use super::{Deserializer, Duration, Serializer, Text, print};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&print(*value))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        from.deserialize_any(Text)
    }
}

/// A duration of a report, in seconds.
pub(crate) mod seconds {
    use super::{Duration, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(value.as_secs_f64())
    }
}

/// A duration of a report that may be missing, in seconds.
pub(crate) mod maybe_seconds {
    use super::{Duration, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.serialize_some(&value.as_secs_f64()),
            None => to.serialize_none(),
        }
    }
}

struct Text;

impl de::Visitor<'_> for Text {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a duration such as \"30s\" (units ns, us, ms, s, m, h, d), or a number of seconds",
        )
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Duration, E> {
        Ok(Duration::from_secs(seconds))
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Duration, E> {
        let whole = u64::try_from(seconds)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(seconds), &self))?;
        Ok(Duration::from_secs(whole))
    }

    fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Duration, E> {
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| E::invalid_value(de::Unexpected::Float(seconds), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_read_as_it_is_written() {
        for text in ["1ns", "250us", "1500ms", "30s", "5m", "1h", "2d", "0s"] {
            assert_eq!(print(parse(text).unwrap()), text);
        }
        assert_eq!(parse("60s"), parse("1 m"));
    }

    #[test]
    fn nonsense_is_no_duration() {
        for text in ["", "s", "30", "-1s", "30 parsecs", "99999999999d"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
