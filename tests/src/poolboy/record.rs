//! What a recording says.

use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
pub(crate) struct Scenario {
    pub(crate) config: Config,
    pub(crate) start: Observation,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Config {
    pub(crate) size: i64,
    pub(crate) max_overflow: i64,
    pub(crate) strategy: Option<Strategy>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Strategy {
    Lifo,
    Fifo,
}

/// What is seen once everything has come to rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Observation {
    pub(crate) created: Vec<String>,
    pub(crate) dead: Vec<String>,
    pub(crate) status: Option<(String, usize, usize, usize)>,
    pub(crate) idle: Option<Vec<String>>,
    pub(crate) out: Option<Vec<String>>,
    pub(crate) pending: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Step {
    #[serde(flatten)]
    pub(crate) operation: Operation,
    pub(crate) result: Option<String>,
    #[serde(default)]
    pub(crate) resolved: Vec<Resolved>,
    #[serde(flatten)]
    pub(crate) seen: Observation,
    /// As recorded, for messages.
    #[serde(skip)]
    pub(crate) text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Resolved {
    pub(crate) call: String,
    pub(crate) client: String,
    pub(crate) result: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Operation {
    Checkout {
        client: String,
        call: String,
        mode: Mode,
        timeout: Option<u64>,
    },
    Checkin {
        client: String,
        worker: String,
    },
    TxBegin {
        client: String,
        call: String,
        timeout: Option<u64>,
    },
    TxEnd {
        client: String,
        call: String,
        how: How,
    },
    KillWorker {
        worker: String,
        how: Death,
    },
    KillClient {
        client: String,
        lost: Vec<String>,
    },
    Wait {
        ms: u64,
    },
    Stop,
    KillPool,
    Stall,
    Resume,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    Block,
    Nonblock,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    Return,
    Throw,
    Error,
    Exit,
}

/// How a worker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Death {
    Kill,
    Normal,
    Error,
}

impl Operation {
    pub(crate) fn call(&self) -> Option<&str> {
        match self {
            Self::Checkout { call, .. } | Self::TxBegin { call, .. } => Some(call),
            _ => None,
        }
    }

    /// In milliseconds.
    pub(crate) fn timeout(&self) -> Option<u64> {
        match self {
            Self::Checkout { timeout, .. } | Self::TxBegin { timeout, .. } => *timeout,
            _ => None,
        }
    }

    /// Whether it is a call that waits for a worker if there is none.
    pub(crate) fn waits(&self) -> bool {
        match self {
            Self::Checkout { mode, .. } => *mode == Mode::Block,
            Self::TxBegin { .. } => true,
            _ => false,
        }
    }
}

impl Scenario {
    pub(crate) fn read(record: &Value) -> Result<Self, String> {
        let mut scenario: Self =
            serde_json::from_value(record.clone()).map_err(|error| error.to_string())?;
        let texts = record["steps"].as_array().into_iter().flatten();
        for (step, text) in scenario.steps.iter_mut().zip(texts) {
            step.text = text.to_string();
        }
        Ok(scenario)
    }

    /// Says why it cannot be replayed, if it cannot.
    ///
    /// A pool that reads nothing is played by holding back what is said to it. What it sees for itself cannot be held
    /// back.
    pub(crate) fn cannot_be_replayed(&self) -> Option<&'static str> {
        // The calls that waited when the pool stopped reading, and whether it has something to read since.
        let mut stalled = None;
        let mut unread = false;
        for step in &self.steps {
            match &step.operation {
                Operation::Stall => stalled = Some(&step.seen.pending),
                Operation::Resume => (stalled, unread) = (None, false),
                Operation::Wait { .. } => {
                    let ended = step.resolved.iter().map(|it| &it.call);
                    let waited = |call| stalled.is_some_and(|waiting| waiting.contains(call));
                    if unread && ended.into_iter().any(waited) {
                        return Some("stall: a waiting call ends meanwhile");
                    }
                }
                Operation::KillWorker { .. } if stalled.is_some() => {
                    return Some("stall: a worker ends meanwhile");
                }
                _ => unread |= stalled.is_some(),
            }
        }
        None
    }
}
