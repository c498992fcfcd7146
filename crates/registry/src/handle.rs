use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use perennial_lifecycle::{
    ActorName, ActorPath, ChildSpec, ChildState, Directory, Incarnation, Latest, MessageType,
    Monitor, NameTaken, Node, Scope,
};
use ractor::{Message, RpcReplyPort};

use crate::slot::{Bound, Slot};
use crate::{Address, CallError, CastError, Gate, Name, Refusal, ResolveError, actor, event};

/// The names of one tree; cheap to clone.
///
/// The names live in shared cells, so the registry actor (which keeps house) may be down or restarting
/// while names are resolved and entered.
#[derive(Clone)]
pub struct Registry(Arc<Names>);

pub(crate) struct Names {
    slots: DashMap<ActorName, Arc<Slot>, foldhash::fast::RandomState>,
    scope: Scope,
}

/// One name in the list of all.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// The name.
    pub name: ActorName,
    /// Where its actor lives.
    pub path: ActorPath,
    /// What its actor takes.
    pub message: MessageType,
    /// Whether its actor runs.
    pub state: ChildState,
}

impl Registry {
    /// Makes the registry of a tree and enters it as the tree's directory.
    #[must_use]
    pub fn new(scope: &Scope) -> Self {
        let names = Arc::new(Names {
            slots: DashMap::default(),
            scope: scope.clone(),
        });
        scope.set_directory(Arc::new(Entrance(Arc::downgrade(&names))));
        Self(names)
    }

    /// Describes the registry actor, which forgets the names of actors that are gone for good.
    pub fn child_spec(&self) -> ChildSpec {
        let registry = self.clone();
        ChildSpec::worker("registry", move || (actor::RegistryActor, registry.clone()))
    }

    /// Sends a message to the named actor and does not wait for anything.
    ///
    /// # Errors
    ///
    /// [`CastError`] hands the message back.
    pub fn cast<M: Message>(&self, name: Name<M>, message: M) -> Result<(), CastError<M>> {
        match self.resolve(&name) {
            Ok(address) => address.cast(message),
            Err(ResolveError(refusal)) => {
                event::refused(&refusal);
                Err(CastError { message, refusal })
            }
        }
    }

    /// Calls the named actor and waits for its reply, `timeout` at the longest; see [`Address::call`].
    ///
    /// # Errors
    ///
    /// [`CallError`].
    ///
    /// # Cancel safety
    ///
    /// As [`Address::call`].
    pub async fn call<M: Message, T: Send + 'static>(
        &self,
        name: Name<M>,
        make: impl FnOnce(RpcReplyPort<T>) -> M,
        timeout: Duration,
    ) -> Result<T, CallError> {
        match self.resolve(&name) {
            Ok(address) => address.call(make, timeout).await,
            Err(ResolveError(refusal)) => {
                event::refused(&refusal);
                Err(refusal.into())
            }
        }
    }

    /// Resolves a name once, for many messages.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] when no actor was started under the name, or when it takes another type.
    pub fn resolve<M: Message>(&self, name: &Name<M>) -> Result<Address<M>, ResolveError> {
        let unknown = || Refusal::Unknown {
            name: name.to_actor_name(),
        };
        let slot = match self.0.slots.get(name.as_actor_name()) {
            Some(slot) => Arc::clone(&slot),
            None => return Err(unknown().into()),
        };
        if slot.node.load().is_none() {
            return Err(unknown().into());
        }
        slot.check_type::<M>()?;
        Ok(Address::new(slot))
    }

    /// Watches the named actor, as [`Node::monitor`] does: one that runs, is gone, or failed to start.
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve): without a start under this name there is no end to give notice of.
    pub fn monitor<M: Message>(&self, name: &Name<M>) -> Result<Monitor, ResolveError> {
        self.resolve(name)?.monitor()
    }

    /// Waits until the named actor runs and returns the run; forever, if it is never started.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: waiting changes nothing.
    pub async fn wait_for<M: Message>(&self, name: &Name<M>) -> Arc<Incarnation> {
        let slot = self.slot(name.as_actor_name());
        loop {
            let entered = self.0.scope.root().changed();
            if let Some(bound) = &*slot.node.load() {
                let node = Arc::clone(bound.node());
                return node.running().await;
            }
            entered.await;
        }
    }

    /// Puts a gate before every cast and call to a name, in place of the one before.
    ///
    /// The actor need not have been started yet.
    pub fn set_gate(&self, name: &ActorName, gate: Box<dyn Gate>) {
        self.slot(name).gate.store(Some(Arc::new(gate)));
    }

    /// Takes the gate before a name away.
    pub fn clear_gate(&self, name: &ActorName) {
        if let Some(slot) = self.0.slots.get(name) {
            slot.gate.store(None);
        }
    }

    /// Lists all names in order.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self
            .0
            .slots
            .iter()
            .filter_map(|slot| {
                let bound = slot.node.load_full()?;
                Some(Entry {
                    name: slot.name.clone(),
                    path: bound.node().path().clone(),
                    message: bound.message,
                    state: bound.node().state(),
                })
            })
            .collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries
    }

    /// Forgets the names of actors whose place in the tree is gone, and returns how many there were.
    pub fn sweep(&self) -> usize {
        let root = self.0.scope.root();
        let before = self.0.slots.len();
        self.0.slots.retain(|_, slot| {
            let Some(bound) = slot.node.load_full() else {
                return true;
            };
            // An address that somebody holds keeps its slot, so that a later actor of the name is found.
            Arc::strong_count(slot) > 1
                || bound.node().is_occupied()
                || root.find(bound.node().path().as_str()).is_some()
        });
        event::size(self.0.slots.len());
        before.saturating_sub(self.0.slots.len())
    }

    fn slot(&self, name: &ActorName) -> Arc<Slot> {
        if let Some(slot) = self.0.slots.get(name) {
            return Arc::clone(&slot);
        }
        Arc::clone(
            &self
                .0
                .slots
                .entry(name.clone())
                .or_insert_with(|| Arc::new(Slot::new(name.clone()))),
        )
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("names", &self.0.slots.len())
            .finish_non_exhaustive()
    }
}

/// What the tree's scope holds: weak, since the names hold the scope.
struct Entrance(std::sync::Weak<Names>);

impl Directory for Entrance {
    fn bind(
        &self,
        name: &ActorName,
        node: &Arc<Node>,
        message: MessageType,
    ) -> Result<(), NameTaken> {
        let Some(names) = self.0.upgrade() else {
            return Ok(());
        };
        let registry = Registry(names);
        let slot = registry.slot(name);
        let mut taken = None;
        let mut fresh = false;
        slot.node.rcu(|old| {
            taken = None;
            fresh = old.is_none();
            if let Some(bound) = old {
                let same = bound.node().path() == node.path();
                // The same place: a restart, also one by a supervisor that is itself new.
                if !same && bound.node().is_occupied() {
                    taken = Some(bound.node().path().clone());
                    return Some(Arc::clone(bound));
                }
            }
            Some(Arc::new(Bound {
                place: Latest::new(Arc::clone(node)),
                message,
            }))
        });
        match taken {
            Some(holder) => Err(NameTaken {
                name: name.clone(),
                holder,
            }),
            None => {
                if fresh {
                    // Those who wait for a name that was never bound wait at the root.
                    registry.0.scope.root().announce();
                }
                Ok(())
            }
        }
    }
}
