//! Puts what the real tree does and answers into the words of the model.

use std::time::Duration;

use perennial_lifecycle::{ChildSpec, Event, EventKind, Events, Missed, Node, Scope};
use perennial_supervisor::{
    ChildCount, ChildInfo, DeleteChildError, DynamicChild, RestartChildError, StartChildError,
    StartedChild, SupervisorDown, TerminateChildError,
};

use crate::script::{Class, Id, TEMPLATE, id};
use crate::seen::{Answer, Entry, Refusal};
use crate::stage::{GATE, GONE, OVERLAP, POST_STOP, UP};

/// Reads the events of one tree.
pub(crate) struct Recorder(Events);

impl Recorder {
    pub(crate) fn new(scope: &Scope) -> Self {
        Self(scope.events().subscribe())
    }

    /// Returns what happened since the last call.
    pub(crate) fn take(&mut self) -> Vec<Entry> {
        let mut entries = Vec::new();
        loop {
            match self.0.next_ready() {
                Some(Ok(event)) if event.path.id() == GATE => {}
                Some(Ok(event)) => entries.push(entry(&event)),
                Some(Err(Missed { count, .. })) => {
                    entries.push(Entry::Odd(format!("{count} more events")));
                }
                None => return entries,
            }
        }
    }
}

fn entry(event: &Event) -> Entry {
    let odd = || Entry::Odd(format!("{}: {}", event.path, event.kind));
    let Some(id) = id(event.path.id()) else {
        return odd();
    };
    match &event.kind {
        EventKind::Noted { source, text } => match *source {
            UP => Entry::Up(id),
            GONE => text
                .parse()
                .map_or_else(|_| odd(), |at| Entry::Gone(id, Duration::from_millis(at))),
            POST_STOP => Entry::PostStop(id),
            OVERLAP => Entry::Odd(format!("two runs of {id} overlap")),
            _ => odd(),
        },
        EventKind::Started { incarnation } => Entry::Started(id, *incarnation),
        EventKind::Restarted {
            incarnation,
            restarts,
        } => Entry::Restarted(id, *incarnation, *restarts),
        EventKind::StartFailed { reason, .. } => Entry::StartFailed(id, Class::of(reason)),
        EventKind::Ignored { .. } => Entry::Ignored(id),
        EventKind::Exited { reason, .. } => Entry::Exited(id, Class::of(reason)),
        EventKind::Report {
            context,
            child,
            reason,
        } => match crate::script::id(child.id()) {
            Some(child) => Entry::Report(id, *context, child, Class::of(reason)),
            None => odd(),
        },
        EventKind::ShutdownErrors {
            child,
            reason,
            count,
        } if **child == *TEMPLATE => Entry::ShutdownErrors(id, Class::of(reason), *count),
        _ => odd(),
    }
}

pub(crate) fn id_at(node: &Node) -> Id {
    id(node.path().id()).unwrap_or("unknown")
}

pub(crate) fn started(result: Result<StartedChild, StartChildError>) -> Answer {
    match result {
        Ok(child) => up(&child),
        Err(error) => not_started(error),
    }
}

pub(crate) fn dynamic_started(result: Result<DynamicChild, StartChildError>) -> Answer {
    match result {
        Ok(child) => Answer::Started(Some(child.incarnation().number())),
        Err(error) => not_started(error),
    }
}

fn up(child: &StartedChild) -> Answer {
    Answer::Started(child.node.as_ref().map(|_| child.incarnation))
}

fn not_started(error: StartChildError) -> Answer {
    Answer::Refused(match error {
        StartChildError::Down(_) => return Answer::Down,
        StartChildError::Spec(_) => Refusal::BadSpec,
        StartChildError::AlreadyStarted { incarnation, .. } => Refusal::AlreadyStarted(incarnation),
        StartChildError::AlreadyPresent { .. } => Refusal::AlreadyPresent,
        StartChildError::Failed(failed) => Refusal::StartFailed(Class::of(&failed.reason)),
        StartChildError::Ignored { .. } => Refusal::Ignored,
        StartChildError::Dynamic { .. } => Refusal::Dynamic,
        other => return Answer::Odd(other.to_string()),
    })
}

pub(crate) fn terminated(result: Result<(), TerminateChildError>) -> Answer {
    Answer::Refused(match result {
        Ok(()) => return Answer::Done,
        Err(TerminateChildError::Down(_)) => return Answer::Down,
        Err(TerminateChildError::NotFound { .. }) => Refusal::NotFound,
        Err(TerminateChildError::Dynamic { .. }) => Refusal::Dynamic,
        Err(other) => return Answer::Odd(other.to_string()),
    })
}

pub(crate) fn restarted(result: Result<StartedChild, RestartChildError>) -> Answer {
    Answer::Refused(match result {
        Ok(child) => return up(&child),
        Err(RestartChildError::Down(_)) => return Answer::Down,
        Err(RestartChildError::NotFound { .. }) => Refusal::NotFound,
        Err(RestartChildError::Running { .. }) => Refusal::Running,
        Err(RestartChildError::Restarting { .. }) => Refusal::Restarting,
        Err(RestartChildError::Dynamic { .. }) => Refusal::Dynamic,
        Err(RestartChildError::Failed(failed)) => Refusal::StartFailed(Class::of(&failed.reason)),
        Err(other) => return Answer::Odd(other.to_string()),
    })
}

pub(crate) fn deleted(result: Result<(), DeleteChildError>) -> Answer {
    Answer::Refused(match result {
        Ok(()) => return Answer::Done,
        Err(DeleteChildError::Down(_)) => return Answer::Down,
        Err(DeleteChildError::NotFound { .. }) => Refusal::NotFound,
        Err(DeleteChildError::Running { .. }) => Refusal::Running,
        Err(DeleteChildError::Restarting { .. }) => Refusal::Restarting,
        Err(DeleteChildError::Dynamic { .. }) => Refusal::Dynamic,
        Err(other) => return Answer::Odd(other.to_string()),
    })
}

pub(crate) fn children(result: Result<Vec<ChildInfo>, SupervisorDown>) -> Answer {
    let Ok(list) = result else {
        return Answer::Down;
    };
    let listed = |it: &ChildInfo| (id_at(&it.node), it.kind, it.status);
    Answer::Children(list.iter().map(listed).collect())
}

pub(crate) fn count(result: Result<ChildCount, SupervisorDown>) -> Answer {
    result.map_or(Answer::Down, Answer::Count)
}

pub(crate) fn spec(result: Result<Option<ChildSpec>, SupervisorDown>) -> Answer {
    let Ok(spec) = result else {
        return Answer::Down;
    };
    Answer::Spec(spec.map(|it| {
        let significant = it.is_significant();
        (
            it.restart_type(),
            significant,
            it.shutdown_type(),
            it.kind(),
        )
    }))
}
