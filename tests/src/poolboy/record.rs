//! What a recording says.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
pub(crate) struct Scenario {
    pub(crate) tags: Vec<String>,
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

    /// Says whether a client checks in what it does not hold.
    pub(crate) fn checks_in_what_is_not_held(&self) -> bool {
        let mut held: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for step in &self.steps {
            let (Operation::Checkout { client, .. } | Operation::TxBegin { client, .. }) =
                &step.operation
            else {
                if let Operation::Checkin { client, worker } = &step.operation
                    && !held.entry(client).or_default().remove(&**worker)
                {
                    return true;
                }
                note(&mut held, &step.resolved);
                continue;
            };
            if let Some(worker) = step.result.as_deref().filter(|it| it.starts_with('w')) {
                held.entry(client).or_default().insert(worker);
            }
            note(&mut held, &step.resolved);
        }
        false
    }
}

fn note<'a>(held: &mut BTreeMap<&'a str, BTreeSet<&'a str>>, resolved: &'a [Resolved]) {
    for Resolved { client, result, .. } in resolved {
        if result.starts_with('w') {
            held.entry(client).or_default().insert(result);
        }
    }
}
