use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use dashmap::DashMap;
use perennial_lifecycle::{
    ActorName, ActorPath, ChildSpec, ChildState, Directory, GroupMismatch, Incarnation,
    MessageType, Moment, Monitor, NameTaken, Node, Scope, Terms,
};
use ractor::{Message, RpcReplyPort};

use crate::group::Members;
use crate::named::ByName;
use crate::slot::{Bound, Common, Led, Slot};
use crate::table::{Named, Table};
use crate::watch::NameWatch;
use crate::{
    Address, CallError, CastError, Gate, Group, Name, Present, Refusal, ResolveError, WhenDown,
    actor, dispatch, event,
};

/// The names of one tree; cheap to clone.
///
/// The names live in shared cells, so the registry actor (which keeps house) may be down or restarting
/// while names are resolved and entered.
#[derive(Clone)]
pub struct Registry(Arc<Names>);

pub(crate) struct Names {
    table: Table,
    groups: DashMap<ActorName, Arc<Members>, foldhash::fast::RandomState>,
    common: Arc<Common>,
    /// No epoch of a name that was forgotten is above this.
    forgotten: AtomicU64,
    scope: Scope,
}

/// A message that something stands in the way of.
pub(crate) struct Missed<M> {
    pub(crate) message: M,
    /// What stands in its way is not that the run is another one than was met last.
    pub(crate) is_known: bool,
}

impl Drop for Names {
    fn drop(&mut self) {
        self.common.close();
        for slot in self.table.collect(|it| Some(Arc::clone(&it.slot))) {
            slot.close();
        }
    }
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
    ///
    /// A tree has one. Of several that are made for a scope the first is its directory, for good; the others know no names.
    #[must_use]
    pub fn new(scope: &Scope) -> Self {
        let common = Arc::new(Common::new(Arc::clone(scope.traffic())));
        let names = Arc::new(Names {
            table: Table::new(Arc::clone(&common)),
            groups: DashMap::default(),
            common,
            forgotten: AtomicU64::new(0),
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

    /// Chooses what a message does whose actor is down, where neither the name nor the address says so.
    pub fn set_when_down(&self, when_down: WhenDown) {
        self.0.common.set_when_down(when_down);
    }

    /// Sends a message to the named actor and does not wait for anything.
    ///
    /// # Errors
    ///
    /// [`CastError`] hands the message back.
    pub fn cast<M: Message>(&self, name: Name<M>, message: M) -> Result<(), CastError<M>> {
        match self.deliver_quickly(&name, message, |_| Terms::default(), |_| ()) {
            Ok(()) => Ok(()),
            Err(missed) => {
                let Missed { message, is_known } = missed;
                dispatch::cast(&ByName::new(self, &name, is_known), message)
            }
        }
    }

    /// Hands a message over that nothing stands in the way of, without taking a handle of its slot: the count of handles
    /// is a word that all senders would write.
    #[inline]
    pub(crate) fn deliver_quickly<M: Message, R>(
        &self,
        name: &Name<M>,
        message: M,
        terms: impl FnOnce(Moment) -> Terms,
        meet: impl FnOnce(&Arc<Incarnation>) -> R,
    ) -> Result<R, Missed<M>> {
        let missed = |message, is_known| Err(Missed { message, is_known });
        if self.check_tree(name).is_err() {
            return missed(message, false);
        }
        // The names are locked meanwhile, and nothing of the host's runs.
        let names = self.0.table.read(name.as_actor_name());
        let Some(Named {
            slot,
            seen: Some(run),
        }) = names.get()
        else {
            return missed(message, false);
        };
        if !run.is_present() {
            return missed(message, false);
        }
        if slot.is_gated() {
            return missed(message, true);
        }
        let Some(entry) = run.enter_quickly() else {
            return missed(message, true);
        };
        match entry.send(message, terms) {
            Ok(()) => Ok(meet(run)),
            Err(message) => missed(message, true),
        }
    }

    /// Keeps the run that was found behind a name, for the next message.
    pub(crate) fn remember(&self, slot: &Slot) {
        let mut seen = slot.seen();
        let old = self.0.table.change(&slot.name, |named| {
            // Asked under the lock: who leads the name elsewhere says so first, and then takes away what is kept here.
            let held = seen.take_if(|held| held.is_present(slot))?;
            named.seen.replace(held.into_run())
        });
        // May be the last handle on a run, and what is dropped with that is the host's: not under the lock.
        drop((seen, old));
    }

    /// Sends a message to the named actor, and waits until it can be handed over, `wait` at the longest; see
    /// [`Address::send`].
    ///
    /// # Errors
    ///
    /// [`CastError`] hands the message back.
    ///
    /// # Panics
    ///
    /// As [`Address::send`].
    ///
    /// # Cancel safety
    ///
    /// As [`Address::send`].
    pub async fn send<M: Message>(
        &self,
        name: Name<M>,
        message: M,
        wait: Duration,
    ) -> Result<(), CastError<M>> {
        dispatch::send(&ByName::new(self, &name, true), message, wait).await
    }

    /// Calls the named actor and waits for its reply, `timeout` at the longest; see [`Address::call`].
    ///
    /// # Errors
    ///
    /// [`CallError`].
    ///
    /// # Panics
    ///
    /// As [`Address::call`].
    ///
    /// # Cancel safety
    ///
    /// As [`Address::call`].
    pub async fn call<M: Message, T: Send + 'static>(
        &self,
        name: Name<M>,
        make: impl FnOnce(RpcReplyPort<T>) -> M,
        timeout: Duration,
    ) -> Result<T, CallError<M>> {
        let target = ByName::new(self, &name, true);
        dispatch::call(&target, make, timeout).await
    }

    /// Resolves a name once, for many messages; [`Address::present`] says which run is alive, and its epoch.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] when no actor was started under the name, when it takes another type, or when the name is one
    /// of another tree.
    pub fn resolve<M: Message>(&self, name: &Name<M>) -> Result<Address<M>, ResolveError> {
        let slot = self.find(name)?;
        Ok(Address::new(slot, name))
    }

    pub(crate) fn find<M: Message>(&self, name: &Name<M>) -> Result<Arc<Slot>, Refusal> {
        self.check_tree(name)?;
        let unknown = || Refusal::Unknown {
            name: name.to_actor_name(),
        };
        let slot = match self.0.table.read(name.as_actor_name()).get() {
            Some(named) => Arc::clone(&named.slot),
            None => return Err(unknown()),
        };
        if !slot.surely_takes::<M>() {
            if slot.node.load().is_none() {
                return Err(unknown());
            }
            slot.check_type::<M>()?;
        }
        Ok(slot)
    }

    /// Watches the named actor, as [`Node::monitor`] does: one that runs, is gone, or failed to start.
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve): without a start under this name there is no end to give notice of.
    #[track_caller]
    pub fn monitor<M: Message>(&self, name: &Name<M>) -> Result<Monitor, ResolveError> {
        self.resolve(name)?.monitor()
    }

    /// Waits until the named actor is up and returns its run; as long as the tree lives, if it is never started.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] when the actor takes another type, when the name is one of another tree, or when the tree was
    /// [given up](Scope::give_up) and nobody will be started.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: waiting changes nothing.
    pub async fn wait_for<M: Message>(&self, name: &Name<M>) -> Result<Present, ResolveError> {
        self.check_tree(name)?;
        let slot = self.slot(name.as_actor_name());
        let root = Arc::clone(self.0.scope.root());
        let traffic = &self.common().traffic;
        loop {
            // Those who wait for a name that leads nowhere wait at the root.
            let entered = root.changed();
            let is_over = traffic.is_over();
            let name = || name.to_actor_name();
            let Some(bound) = slot.node.load_full() else {
                if is_over {
                    return Err(Refusal::Unknown { name: name() }.into());
                }
                tokio::select! {
                    () = entered => {}
                    () = traffic.over() => {}
                }
                continue;
            };
            let changed = bound.node().changed();
            slot.check_type::<M>()?;
            if let Some(present) = bound.present()
                && !present.incarnation.is_ending()
            {
                return Ok(present);
            }
            if is_over {
                return Err(Refusal::Stopped { name: name() }.into());
            }
            // Another place may have taken the name, and there is nothing to wait for at this one.
            if slot.leads_to(&bound) {
                tokio::select! {
                    () = changed => {}
                    () = traffic.over() => {}
                }
            }
        }
    }

    /// Follows a name over all its runs, from the one that is up on; the actor need not have been started yet.
    ///
    /// Every run gives one [`NameEvent::Up`](crate::NameEvent::Up) and one
    /// [`NameEvent::Down`](crate::NameEvent::Down), in order; see [`NameWatch`] for what a slow watcher is told.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] when the actor takes another type, or when the name is one of another tree.
    pub fn watch<M: Message>(&self, name: &Name<M>) -> Result<NameWatch, ResolveError> {
        self.check_tree(name)?;
        let slot = self.slot(name.as_actor_name());
        slot.check_type::<M>()?;
        Ok(NameWatch::new(slot))
    }

    /// Finds the group of this name; it need not have members yet.
    ///
    /// Groups and single actors have their names apart: a word may stand for one of each. A gate that is set before
    /// the name stands before both.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] when the members take another type, or when the name is one of another tree.
    pub fn group<M: Message>(&self, name: &Name<M>) -> Result<Group<M>, ResolveError> {
        self.check_tree(name)?;
        let group = name.as_actor_name();
        let mut members = self.members(group);
        if let Err(mismatch) = members.check_type::<M>() {
            drop(members);
            if !self.forget_group(group) {
                return Err(mismatch.into());
            }
            members = self.members(group);
            members.check_type::<M>()?;
        }
        Ok(Group::new(members, name))
    }

    /// Lists the groups that have members, in order, each with their number.
    #[must_use]
    pub fn groups(&self) -> Vec<(ActorName, usize)> {
        let all = self.all_members().into_iter();
        let all = all.map(|members| (members.name().clone(), members.count()));
        let mut all: Vec<_> = all.filter(|(_, count)| *count > 0).collect();
        all.sort();
        all
    }

    /// Lists the groups that have members, in order, each with where these live in order of joining.
    #[must_use]
    pub fn group_members(&self) -> Vec<(ActorName, Vec<ActorPath>)> {
        let all = self.all_members().into_iter();
        let all = all.map(|members| (members.name().clone(), members.paths()));
        let mut all: Vec<_> = all.filter(|(_, paths)| !paths.is_empty()).collect();
        all.sort();
        all
    }

    /// Puts a gate before every cast and call to a name, in place of the one before.
    ///
    /// The actor need not have been started yet.
    pub fn set_gate(&self, name: &ActorName, gate: Box<dyn Gate>) {
        self.slot(name).set_gate(Some(gate));
    }

    /// Takes the gate before a name away.
    pub fn clear_gate(&self, name: &ActorName) {
        let slot = self.0.table.read(name).get().map(|it| Arc::clone(&it.slot));
        if let Some(slot) = slot {
            slot.set_gate(None);
        }
    }

    /// Lists all names in order.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = self.0.table.collect(|named| {
            let bound = named.slot.node.load_full()?;
            Some(Entry {
                name: named.name().clone(),
                path: bound.node().path().clone(),
                message: bound.message,
                state: bound.node().state(),
            })
        });
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries
    }

    /// Forgets the names of actors whose place in the tree is gone, and returns how many there were.
    pub fn sweep(&self) -> usize {
        // First, since each holds a slot.
        for members in self.all_members() {
            let group = members.name().clone();
            drop(members);
            self.forget_group(&group);
        }
        // A look at each, and the locks that hold up whoever sends only for those that may be gone.
        let idle = |named: &Named| {
            let slot = &named.slot;
            let is_occupied = |bound: &Arc<Bound>| bound.node().is_occupied();
            let is_used =
                Arc::strong_count(slot) > 1 || slot.node.load().as_ref().is_some_and(is_occupied);
            (!is_used).then(|| named.name().clone())
        };
        let idle = self.0.table.collect(idle).into_iter();
        let swept = idle.filter(|name| self.0.forget(name)).count();
        event::size(self.0.table.len());
        swept
    }

    pub(crate) fn common(&self) -> &Common {
        &self.0.common
    }

    fn slot(&self, name: &ActorName) -> Arc<Slot> {
        self.0.table.enter(name, || self.0.forgotten.load(Relaxed))
    }

    fn members(&self, group: &ActorName) -> Arc<Members> {
        if let Some(members) = self.0.groups.get(group) {
            return Arc::clone(&members);
        }
        let slot = self.slot(group);
        Arc::clone(
            &self
                .0
                .groups
                .entry(group.clone())
                .or_insert_with(|| Members::new(slot)),
        )
    }

    /// Returns all groups, so that none is locked while somebody looks for those of its members that have ended.
    fn all_members(&self) -> Vec<Arc<Members>> {
        let all = self.0.groups.iter();
        all.map(|members| Arc::clone(&members)).collect()
    }

    /// Forgets a group that is not in use.
    fn forget_group(&self, group: &ActorName) -> bool {
        let members = self.0.groups.get(group).map(|it| Arc::clone(&it));
        if let Some(members) = members {
            members.tidy();
        }
        let gone = self.0.groups.remove_if(group, |_, it| it.is_unused());
        gone.is_some()
    }

    #[inline]
    fn check_tree<M>(&self, name: &Name<M>) -> Result<(), Refusal> {
        match name.namespace() {
            None => Ok(()),
            Some(namespace) => self.check_namespace(name.as_actor_name(), namespace),
        }
    }

    #[cold]
    fn check_namespace(&self, name: &ActorName, namespace: &Arc<str>) -> Result<(), Refusal> {
        let tree = self.0.scope.root().path().as_str();
        if tree == &**namespace {
            return Ok(());
        }
        Err(Refusal::OtherTree {
            name: name.clone(),
            namespace: Arc::clone(namespace),
            tree: tree.into(),
        })
    }
}

impl Names {
    /// Forgets a name if its actor is gone for good and nobody has a hold of it.
    fn forget(&self, name: &ActorName) -> bool {
        let root = self.scope.root();
        let mut unbound = None;
        let gone = self.table.remove_if(name, |Named { slot, seen, .. }| {
            // An address that somebody holds keeps its slot, so that a later actor of the name is found. Nobody can
            // take another hold of it meanwhile: that needs the lock that this holds.
            if Arc::strong_count(slot) > 1 {
                return false;
            }
            let is_gated = slot.gate.load().is_some();
            let bound = slot.node.load_full();
            if let Some(node) = bound.as_deref().map(Bound::node) {
                // Another one that runs at its path has taken its own names, and this is none of them.
                let is_there = |there: Arc<Node>| Arc::ptr_eq(&there, node) || !there.is_occupied();
                if node.is_occupied() || root.find(node.path().as_str()).is_some_and(is_there) {
                    return false;
                }
            }
            if is_gated {
                // Whoever set it may mean the next actor of the name as well.
                unbound = Some((bound, seen.take(), slot.unbind()));
                return false;
            }
            self.forgotten.fetch_max(slot.last_epoch(), Relaxed);
            true
        });
        // What is dropped with these may be the host's: not under the lock.
        drop(unbound);
        let Some(gone) = gone else {
            return false;
        };
        drop(gone.slot.forget_runs());
        true
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("names", &self.0.table.len())
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
        match registry.slot(name).bind(node, message)? {
            // Those who wait for a name that was never bound wait at the root.
            Led::First => registry.0.scope.root().announce(),
            Led::Again => {}
            // Before anybody lives at the new place.
            Led::Elsewhere => {
                let seen = registry.0.table.change(name, |named| named.seen.take());
                // Not under the lock, as what is forgotten there.
                drop(seen);
            }
        }
        Ok(())
    }

    fn join(
        &self,
        group: &ActorName,
        node: &Arc<Node>,
        message: MessageType,
    ) -> Result<(), GroupMismatch> {
        let Some(names) = self.0.upgrade() else {
            return Ok(());
        };
        let registry = Registry(names);
        let joined = registry.members(group).join(node, message);
        if joined.is_err() && registry.forget_group(group) {
            return registry.members(group).join(node, message);
        }
        joined
    }
}
