//! A recording, read.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
pub(super) struct Scenario {
    pub(super) steps: Vec<Step>,
    pub(super) stats: BTreeMap<String, Stats>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Step {
    /// Milliseconds since the start, at the end of the step.
    pub(super) t: u64,
    #[serde(flatten)]
    pub(super) op: Op,
    pub(super) result: Value,
    /// Whether the body of a `run` was called.
    pub(super) ran: Option<bool>,
    pub(super) events: Vec<(String, String)>,
    pub(super) state: BTreeMap<String, String>,
    /// The fuses with an alarm, in scenarios about alarms.
    pub(super) alarms: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(super) enum Op {
    Install {
        fuse: String,
        #[serde(flatten)]
        limits: Limits,
    },
    InstallFaultInjection {
        fuse: String,
        rate_percent: f64,
        #[serde(flatten)]
        limits: Limits,
    },
    Ask {
        fuse: String,
    },
    Melt {
        fuse: String,
    },
    Run {
        fuse: String,
        body: Body,
    },
    Reset {
        fuse: String,
    },
    Disable {
        fuse: String,
    },
    Enable {
        fuse: String,
    },
    Remove {
        fuse: String,
    },
    Advance {
        ms: u64,
    },
}

/// The options of a fuse; negative ones are refused.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Limits {
    pub(super) max_r: i64,
    pub(super) max_t: i64,
    pub(super) reset: i64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Body {
    Ok,
    Melt,
    Raise,
    Throw,
    Other,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stats {
    pub(super) ok: u64,
    pub(super) blown: u64,
    pub(super) melt: u64,
}

impl Scenario {
    pub(super) fn read(record: &Value) -> Result<Self, String> {
        Self::deserialize(record).map_err(|error| error.to_string())
    }
}
