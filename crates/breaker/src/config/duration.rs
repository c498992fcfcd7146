//! Durations as people write them: `"250ms"`, `"1m30s"`, or a number of seconds.

use std::fmt;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::OpenTime;

/// A duration that reads and writes as text.
#[derive(Clone, Copy, Deserialize, Serialize)]
pub(super) struct Text(#[serde(with = "self")] pub(super) Duration);

/// Largest first, so that writing takes the fewest parts.
const UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() {
            return f.write_str("0s");
        }
        let mut rest = self.0.as_nanos();
        for (unit, nanos) in UNITS {
            let nanos = u128::from(nanos);
            if rest >= nanos {
                write!(f, "{}{unit}", rest / nanos)?;
                rest %= nanos;
            }
        }
        Ok(())
    }
}

/// Reads whole numbers, each followed by its unit.
fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let nanos = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        let part = number.parse::<u64>().ok()?.checked_mul(nanos)?;
        total = total.checked_add(Duration::from_nanos(part))?;
        rest = tail.trim_start();
    }
    Some(total)
}

struct Written;

impl Visitor<'_> for Written {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"30s\", \"250ms\" or \"1m30s\", or a number of seconds")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Duration, E> {
        Ok(Duration::from_secs(seconds))
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<Duration, E> {
        let whole = u64::try_from(seconds)
            .map_err(|_| E::invalid_value(Unexpected::Signed(seconds), &self))?;
        Ok(Duration::from_secs(whole))
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<Duration, E> {
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| E::invalid_value(Unexpected::Float(seconds), &self))
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(Written)
}

pub(super) fn serialize<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Text(*duration))
}

/// The table form of [`OpenTime`].
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Growing {
    first: Text,
    factor: f64,
    cap: Text,
}

impl Serialize for OpenTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Constant(time) => Text(time).serialize(serializer),
            Self::Growing { first, factor, cap } => Growing {
                first: Text(first),
                factor,
                cap: Text(cap),
            }
            .serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for OpenTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OpenTimeWritten)
    }
}

struct OpenTimeWritten;

impl<'de> Visitor<'de> for OpenTimeWritten {
    type Value = OpenTime;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Written.expecting(f)?;
        f.write_str(", or a table of `first`, `factor` and `cap`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<OpenTime, E> {
        let time = parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))?;
        Ok(OpenTime::Constant(time))
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<OpenTime, E> {
        Written.visit_u64(seconds).map(OpenTime::Constant)
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<OpenTime, E> {
        Written.visit_i64(seconds).map(OpenTime::Constant)
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<OpenTime, E> {
        Written.visit_f64(seconds).map(OpenTime::Constant)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OpenTime, A::Error> {
        let Growing { first, factor, cap } = Growing::deserialize(MapAccessDeserializer::new(map))?;
        Ok(OpenTime::Growing {
            first: first.0,
            factor,
            cap: cap.0,
        })
    }
}
