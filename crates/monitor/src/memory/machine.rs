use std::fmt;

use serde::{Deserialize, Serialize};

use super::{MemoryConfig, Trigger};

/// How close the process is to its memory limit.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Pressure {
    /// Nothing to do. Also the level when no manager runs.
    #[default]
    Low,
    /// Worth knowing.
    Medium,
    /// Clean-ups run ahead of need.
    High,
    /// Clean-ups run, and protected operations are refused.
    Critical,
}

impl Pressure {
    /// Every level, lowest first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The level's name, as it is serialized.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    pub(crate) fn to_u8(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Low,
            1 => Self::Medium,
            2 => Self::High,
            _ => Self::Critical,
        }
    }
}

impl fmt::Display for Pressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The only place where a ratio becomes a level.
pub(crate) fn level(config: &MemoryConfig, ratio: f64) -> Pressure {
    if ratio >= config.critical() {
        Pressure::Critical
    } else if ratio >= config.warning() {
        Pressure::High
    } else if ratio >= config.medium() {
        Pressure::Medium
    } else {
        Pressure::Low
    }
}

/// The clean-up that a check at this level starts.
pub(crate) fn cleanup(config: &MemoryConfig, level: Pressure) -> Option<Trigger> {
    if !config.automatic_cleanup() {
        return None;
    }
    match level {
        Pressure::Low | Pressure::Medium => None,
        Pressure::High => Some(Trigger::Proactive),
        Pressure::Critical => Some(Trigger::Emergency),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_level_begins_exactly_at_its_threshold() {
        let config = MemoryConfig::default();
        for (ratio, expected) in [
            (0.0, Pressure::Low),
            (0.499, Pressure::Low),
            (0.5, Pressure::Medium),
            (0.7, Pressure::High),
            (0.899, Pressure::High),
            (0.9, Pressure::Critical),
            (3.0, Pressure::Critical),
        ] {
            assert_eq!(level(&config, ratio), expected, "{ratio}");
        }
    }

    #[test]
    fn automatic_clean_ups_can_be_turned_off() {
        let off = MemoryConfig::builder()
            .automatic_cleanup(false)
            .build()
            .unwrap();
        for pressure in Pressure::ALL {
            assert_eq!(cleanup(&off, pressure), None);
        }
        let on = MemoryConfig::default();
        assert_eq!(cleanup(&on, Pressure::Medium), None);
        assert_eq!(cleanup(&on, Pressure::High), Some(Trigger::Proactive));
        assert_eq!(cleanup(&on, Pressure::Critical), Some(Trigger::Emergency));
    }

    proptest! {
        #[test]
        fn more_use_never_means_less_pressure(
            mut thresholds in proptest::array::uniform3(1u32..1_000),
            low in 0.0f64..1.5,
            more in 0.0f64..1.5,
        ) {
            thresholds.sort_unstable();
            let [medium, warning, critical] = thresholds.map(|step| f64::from(step) / 1_000.0);
            let config = MemoryConfig::builder()
                .medium(medium).warning(warning).critical(critical).build();
            prop_assume!(config.is_ok());
            let config = config.unwrap();
            prop_assert!(level(&config, low) <= level(&config, low + more));
            prop_assert_eq!(level(&config, warning), Pressure::High);
        }
    }

    #[test]
    fn a_level_survives_its_atomic() {
        for pressure in Pressure::ALL {
            assert_eq!(Pressure::from_u8(pressure.to_u8()), pressure);
        }
    }
}
