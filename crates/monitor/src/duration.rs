//! How durations are written in a report: in seconds.

use std::time::Duration;

use serde::Serializer;

/// Nanoseconds, as a `u64` that stays at its maximum after 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
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
