//! The two forms of an open time: `"30s"`, or a table.

use std::fmt;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::OpenTime;

/// The table form of [`OpenTime`].
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Growing {
    #[serde(with = "humantime_serde")]
    first: Duration,
    factor: f64,
    #[serde(with = "humantime_serde")]
    cap: Duration,
}

impl Serialize for OpenTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Constant(time) => humantime_serde::serialize(&time, serializer),
            Self::Growing { first, factor, cap } => {
                Growing { first, factor, cap }.serialize(serializer)
            }
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
        f.write_str(
            "a duration such as \"30s\" or \"1m30s\", or a table of `first`, `factor` and `cap`",
        )
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<OpenTime, E> {
        let time = humantime::parse_duration(text)
            .map_err(|_| E::invalid_value(Unexpected::Str(text), &self))?;
        Ok(OpenTime::Constant(time))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OpenTime, A::Error> {
        let Growing { first, factor, cap } = Growing::deserialize(MapAccessDeserializer::new(map))?;
        Ok(OpenTime::Growing { first, factor, cap })
    }
}
