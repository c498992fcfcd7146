use std::time::Duration;

use perennial_lifecycle::{ChildKind, Restart, Shutdown};
use perennial_supervisor::{AutoShutdown, Strategy};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::reason::Reason;

/// One recording: what to build, what to do to it, and what the original did.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) flags: Flags,
    pub(crate) children: Vec<Spec>,
    pub(crate) boot: Expectation,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug)]
pub(crate) struct Step {
    /// The operation as recorded, for messages.
    pub(crate) text: String,
    pub(crate) operation: Operation,
    pub(crate) expected: Expectation,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Flags {
    pub(crate) strategy: Option<Plan>,
    pub(crate) intensity: Option<u32>,
    pub(crate) period_s: Option<u64>,
    pub(crate) auto_shutdown: Option<AutoShutdown>,
    pub(crate) init: Option<Init>,
}

/// Which sort of supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Plan {
    Static(Strategy),
    Dynamic(Simple),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Simple {
    SimpleOneForOne,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Init {
    Ignore,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spec {
    pub(crate) id: String,
    pub(crate) restart: Option<Restart>,
    pub(crate) significant: Option<bool>,
    #[serde(default, deserialize_with = "shutdown")]
    pub(crate) shutdown: Option<Shutdown>,
    #[serde(default, rename = "type", deserialize_with = "kind")]
    pub(crate) kind: Option<ChildKind>,
    #[serde(default)]
    pub(crate) start: Vec<StartPlan>,
    #[serde(default)]
    pub(crate) on_shutdown: OnShutdown,
    pub(crate) flags: Option<Flags>,
    #[serde(default)]
    pub(crate) children: Vec<Spec>,
    /// Start arguments of a dynamic child.
    #[serde(default)]
    pub(crate) args: Vec<String>,
    /// Of a dynamic child: the id of the template that it was made from.
    #[serde(skip)]
    pub(crate) template: Option<String>,
}

impl Spec {
    /// Makes the spec of a dynamic child from its template.
    pub(crate) fn make(&self, part: &Part) -> Self {
        let mut spec = self.clone();
        spec.template = Some(std::mem::replace(&mut spec.id, part.name.clone()));
        spec.args.extend_from_slice(&part.args);
        if let Some(start) = &part.start {
            spec.start.clone_from(start);
        }
        if let Some(on_shutdown) = &part.on_shutdown {
            spec.on_shutdown = on_shutdown.clone();
        }
        spec
    }

    /// Says what the given call of the start function does; the last plan repeats.
    pub(crate) fn plan(&self, call: usize) -> &StartPlan {
        let index = call.min(self.start.len()).saturating_sub(1);
        self.start.get(index).unwrap_or(&StartPlan::Ok)
    }
}

/// What sets a dynamic child apart from its template: the arguments of its start.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) args: Vec<String>,
    pub(crate) start: Option<Vec<StartPlan>>,
    pub(crate) on_shutdown: Option<OnShutdown>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StartPlan {
    Ok,
    Info(String),
    Ignore,
    Error(Reason),
    Panic(String),
    InitExit(Reason),
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnShutdown {
    #[default]
    Stop,
    NoTrap,
    Ignore,
    DelayMs(u64),
    Exit(Reason),
}

#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Operation {
    Exit {
        child: String,
        reason: Reason,
    },
    Kill {
        child: String,
    },
    StartChild {
        sup: Option<String>,
        spec: Box<Spec>,
    },
    TerminateChild {
        sup: Option<String>,
        id: String,
    },
    RestartChild {
        sup: Option<String>,
        id: String,
    },
    DeleteChild {
        sup: Option<String>,
        id: String,
    },
    GetChildspec {
        sup: Option<String>,
        id: String,
    },
    WhichChildren {
        sup: Option<String>,
    },
    CountChildren {
        sup: Option<String>,
    },
    StartDynamic {
        sup: Option<String>,
        #[serde(flatten)]
        part: Part,
    },
    TerminateDynamic {
        sup: Option<String>,
        name: String,
    },
    TerminateForeign {
        sup: Option<String>,
    },
    GetChildspecDynamic {
        sup: Option<String>,
        name: String,
    },
    StopSup {
        reason: Reason,
    },
    StrayExit {
        sup: Option<String>,
        reason: Reason,
    },
    Sleep {
        ms: u64,
    },
    Gated {
        gate: String,
        trigger: Box<Operation>,
        queue: Vec<Operation>,
    },
}

/// What the original did, to be compared with what ours does.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expectation {
    #[serde(rename = "return")]
    pub(crate) returned: Value,
    pub(crate) events: Vec<Value>,
    pub(crate) reports: Vec<Value>,
    pub(crate) tree: Value,
    pub(crate) replies: Option<Vec<Value>>,
}

impl Scenario {
    pub(crate) fn read(record: &Value) -> Result<Self, String> {
        if record["format"] != 1 {
            return Err(format!("format {}", record["format"]));
        }
        let steps = record["steps"].as_array().ok_or("no list of steps")?;
        Ok(Self {
            flags: field(record, "flags")?,
            children: field(record, "children")?,
            boot: field(record, "boot")?,
            steps: steps.iter().map(Step::read).collect::<Result<_, _>>()?,
        })
    }
}

impl Step {
    fn read(step: &Value) -> Result<Self, String> {
        let mut operation = step.clone();
        if let Some(fields) = operation.as_object_mut() {
            fields.remove("expect");
        }
        let text = operation.to_string();
        Ok(Self {
            operation: serde_json::from_value(operation)
                .map_err(|error| format!("{text}: {error}"))?,
            expected: field(step, "expect")?,
            text,
        })
    }
}

fn field<T: for<'de> Deserialize<'de>>(value: &Value, name: &str) -> Result<T, String> {
    T::deserialize(&value[name]).map_err(|error| format!("{name}: {error}"))
}

fn shutdown<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Shutdown>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Recorded {
        Milliseconds(u64),
        Word(Word),
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        BrutalKill,
        Infinity,
    }

    Ok(Some(match Recorded::deserialize(input)? {
        Recorded::Milliseconds(limit) => Shutdown::Within(Duration::from_millis(limit)),
        Recorded::Word(Word::BrutalKill) => Shutdown::BrutalKill,
        Recorded::Word(Word::Infinity) => Shutdown::Infinity,
    }))
}

fn kind<'de, D: Deserializer<'de>>(input: D) -> Result<Option<ChildKind>, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Recorded {
        Worker,
        Supervisor,
    }

    Ok(Some(match Recorded::deserialize(input)? {
        Recorded::Worker => ChildKind::Worker,
        Recorded::Supervisor => ChildKind::Supervisor,
    }))
}
