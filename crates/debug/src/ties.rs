//! Who hears of an actor's end besides its supervisor.

use perennial_lifecycle::{ActorPath, Incarnation, Watcher};
use ractor::ActorCell;
use serde::Serialize;

/// A monitor of an actor whose notice was not taken yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MonitorSnapshot {
    /// The actor in one of whose functions it was made, which may be one of another tree; `None` for one that was made
    /// elsewhere.
    pub actor: Option<ActorPath>,
    /// Where in the code it was made, such as `src/main.rs:12:34`.
    pub location: String,
    /// The run whose end it waits for; `None` where the first is still to come.
    pub incarnation: Option<u64>,
}

impl From<Watcher> for MonitorSnapshot {
    fn from(watcher: Watcher) -> Self {
        Self {
            location: watcher.location.to_string(),
            incarnation: watcher.incarnation,
            actor: watcher.actor,
        }
    }
}

/// An actor that is tied to this one by ractor's own `link` or `spawn_linked`.
///
/// The tree ties nobody so: these are what an actor has started or linked by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LinkSnapshot {
    /// Ractor's id of the other.
    pub actor_id: String,
    /// Its name in ractor's own registry.
    pub name: Option<String>,
    /// What the other is to this one.
    pub role: LinkRole,
}

/// The two ends of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LinkRole {
    /// It is told of the end, and its own end kills the other.
    Supervisor,
    /// It is killed with the other.
    Child,
}

impl LinkSnapshot {
    /// Lists the links of a run: its supervisor first, then its children in the order of their ids.
    pub(crate) fn all_of(run: &Incarnation) -> Vec<Self> {
        let link = |cell: ActorCell, role| Self {
            actor_id: cell.get_id().to_string(),
            name: cell.get_name(),
            role,
        };
        let mut children = run.cell().get_children();
        children.sort_by_key(|child| child.get_id().pid());
        let supervisor = run.cell().try_get_supervisor();
        let supervisor = supervisor.map(|it| link(it, LinkRole::Supervisor));
        let children = children.into_iter().map(|it| link(it, LinkRole::Child));
        supervisor.into_iter().chain(children).collect()
    }
}
