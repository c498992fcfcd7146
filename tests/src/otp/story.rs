//! What happens in the tree of one scenario: noted among its own events, and read in the terms of the recordings.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use perennial_lifecycle::{
    Event, EventBus, EventKind, Events, Node, ReportContext, Scope, StartContext,
};
use serde_json::{Value, json};

use super::reason;
use super::record::Spec;

/// The top supervisor's id, and the namespace of its tree.
pub(super) const ROOT: &str = "root";

/// A start function was called.
pub(super) const CALLED: &str = "called";
/// A nested supervisor is up.
pub(super) const SUPERVISOR_UP: &str = "supervisor up";
/// A worker is up.
pub(super) const WORKER_UP: &str = "worker up";
/// A worker has let go of its state.
pub(super) const GONE: &str = "gone";

/// Writes what happens to one instance into the tree's own events, where it has its place among the others.
#[derive(Clone)]
pub(super) struct Mark {
    scope: Scope,
    node: Arc<Node>,
    incarnation: u64,
    instance: String,
    /// Of a dynamic child: its template, and the arguments that its start function was given.
    dynamic: Value,
}

impl Mark {
    pub(super) fn new(context: &StartContext, spec: &Spec, call: usize) -> Self {
        Self {
            scope: context.scope().clone(),
            node: Arc::clone(context.node()),
            incarnation: context.incarnation(),
            instance: instance(&spec.id, call),
            dynamic: spec.template.as_ref().map_or(
                Value::Null,
                |template| json!({ "template": template, "args": spec.args }),
            ),
        }
    }

    pub(super) fn note(&self, source: &'static str) {
        let text = format!("{} {} {}", self.incarnation, self.instance, self.dynamic).into();
        self.scope
            .events()
            .emit(self.node.path(), EventKind::Noted { source, text });
    }
}

pub(super) fn instance(id: &str, call: usize) -> String {
    format!("{id}#{call}")
}

/// Reads the events of one tree in the terms of the recordings.
pub(crate) struct Recorder {
    inbox: Events,
    seen: usize,
    /// Instance names by path and run; what was last called there.
    instances: HashMap<(String, u64), String>,
    /// The templates of dynamic children, by path.
    templates: HashMap<String, Value>,
    /// Workers that hold their state.
    holding: BTreeSet<String>,
    /// Processes that are up, of which the supervisor has not told yet.
    untold: BTreeSet<String>,
    live: BTreeSet<String>,
    events: Vec<Value>,
    reports: Vec<Value>,
}

impl Recorder {
    pub(super) fn new(bus: &EventBus) -> Self {
        let root = (ROOT.to_owned(), 1);
        Self {
            inbox: bus.subscribe(),
            seen: 0,
            instances: HashMap::from([(root, instance(ROOT, 1))]),
            templates: HashMap::new(),
            holding: BTreeSet::new(),
            untold: BTreeSet::new(),
            live: BTreeSet::new(),
            events: Vec::new(),
            reports: Vec::new(),
        }
    }

    /// Reads what has come in and returns how many events there were so far.
    pub(crate) fn read(&mut self) -> usize {
        loop {
            match self.inbox.next_ready() {
                Some(Ok(event)) => self.note(&event),
                None => return self.seen,
                Some(Err(missed)) => {
                    self.events.push(json!({ "missed events": missed.count }));
                }
            }
        }
    }

    /// Returns the processes that are alive, as far as they have told.
    pub(crate) fn live(&self) -> &BTreeSet<String> {
        &self.live
    }

    /// Takes the events and reports since the last call.
    pub(crate) fn take(&mut self) -> (Vec<Value>, Vec<Value>) {
        for instance in std::mem::take(&mut self.untold) {
            self.events
                .push(json!({ "ev": "not told of its start", "inst": instance }));
        }
        (
            std::mem::take(&mut self.events),
            std::mem::take(&mut self.reports),
        )
    }

    fn note(&mut self, event: &Event) {
        self.seen += 1;
        let path = event.path.as_str();
        match &event.kind {
            EventKind::Noted { source, text } => {
                let mut parts = text.splitn(3, ' ');
                let (Some(run), Some(instance), Some(dynamic)) =
                    (parts.next(), parts.next(), parts.next())
                else {
                    return;
                };
                let instance = instance.to_owned();
                let dynamic: Value = serde_json::from_str(dynamic).unwrap_or_default();
                match *source {
                    CALLED => {
                        let run = run.parse().unwrap_or_default();
                        self.instances.insert((path.to_owned(), run), instance);
                        if let Some(template) = dynamic.get("template") {
                            self.templates.insert(path.to_owned(), template.clone());
                        }
                    }
                    SUPERVISOR_UP => self.started(&instance, dynamic.get("args")),
                    WORKER_UP => {
                        self.started(&instance, dynamic.get("args"));
                        self.holding.insert(instance);
                    }
                    GONE => {
                        self.holding.remove(&instance);
                    }
                    _ => {}
                }
            }
            EventKind::Started { incarnation } | EventKind::Restarted { incarnation, .. } => {
                let instance = self.instance(path, *incarnation);
                if path == ROOT {
                    // Everybody else says so by itself, before its supervisor does.
                    self.started(&instance, None);
                }
                if !self.untold.remove(&instance) {
                    self.events
                        .push(json!({ "ev": "told of a start that was not", "inst": instance }));
                }
            }
            EventKind::StartFailed {
                incarnation,
                reason,
            } if path != ROOT => {
                let instance = self.instance(path, *incarnation);
                let reason = reason::to_json(reason);
                self.events
                    .push(json!({ "ev": "start_failed", "inst": instance, "reason": reason }));
            }
            EventKind::Ignored { incarnation } => {
                let instance = self.instance(path, *incarnation);
                self.events
                    .push(json!({ "ev": "ignored", "inst": instance }));
            }
            EventKind::Exited {
                incarnation,
                reason,
            } => {
                let instance = self.instance(path, *incarnation);
                self.live.remove(&instance);
                // An end that is told before it has come would let a successor meet its predecessor.
                let event = match self.holding.contains(&instance) {
                    true => "exited too early",
                    false => "exited",
                };
                let reason = reason::to_json(reason);
                self.events
                    .push(json!({ "ev": event, "inst": instance, "reason": reason }));
            }
            EventKind::Report {
                context,
                child,
                reason,
            } => {
                // Ours names a dynamic child by its own id, the recordings by its template's.
                let template = self.templates.get(child.as_str());
                let id = template.map_or_else(|| json!(child.id()), Value::clone);
                self.reports.push(json!({
                    "sup": event.path.id(),
                    "context": context.to_string(),
                    "id": id,
                    "reason": reason::to_json(reason),
                }));
            }
            EventKind::ShutdownErrors {
                child,
                reason,
                count,
            } => {
                self.reports.push(json!({
                    "sup": event.path.id(),
                    "context": ReportContext::ShutdownError.to_string(),
                    "id": &**child,
                    "reason": reason::to_json(reason),
                    "count": count,
                }));
            }
            _ => {}
        }
    }

    fn started(&mut self, instance: &str, args: Option<&Value>) {
        self.live.insert(instance.to_owned());
        self.untold.insert(instance.to_owned());
        let mut event = json!({ "ev": "started", "inst": instance });
        if let Some(args) = args {
            event["args"] = args.clone();
        }
        self.events.push(event);
    }

    fn instance(&self, path: &str, run: u64) -> String {
        let known = self.instances.get(&(path.to_owned(), run));
        known
            .cloned()
            .unwrap_or_else(|| format!("{path} unknown run {run}"))
    }
}
