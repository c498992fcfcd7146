use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::{ChildKey, ChildSpec, ExitReason, Incarnation, Node, Restart};

use crate::pause::{Pause, Why};
use crate::recovery::Recovery;
use crate::{ChildInfo, ChildStatus, FailedToStartChild};

/// What a supervisor knows of one child.
pub(crate) struct ChildEntry {
    pub(crate) spec: ChildSpec,
    pub(crate) node: Arc<Node>,
    pub(crate) run: Run,
    /// The last digits of the number of its last run that came up; 0 before the first.
    last: u32,
    /// Of its spec: what decides about a restart is here, since among many children the spec is another step to memory
    /// that was not used for long.
    pub(crate) restart: Restart,
    /// It has no name, no group and no mailbox of its own.
    pub(crate) is_plain: bool,
    /// While it is restarting: those behind it in its group wait for that.
    pub(crate) holds_up: bool,
    /// What goes beyond OTP.
    pub(crate) recovery: Option<Box<Recovery>>,
}

impl ChildEntry {
    pub(crate) fn new(spec: ChildSpec, node: Arc<Node>) -> Self {
        Self {
            recovery: Recovery::of(&spec, node.path()),
            restart: spec.restart_type(),
            is_plain: spec.actor_name().is_none()
                && spec.groups().is_none()
                && spec.mailbox_setting().is_none(),
            spec,
            node,
            run: Run::Stopped,
            last: 0,
            holds_up: false,
        }
    }

    /// Returns how long a run had lasted that has ended, where somebody wants to know.
    pub(crate) fn ran(&self, ended: &Incarnation) -> Duration {
        let end = self.recovery.as_ref().and_then(|_| self.node.last_end());
        end.filter(|end| end.incarnation == ended.number())
            .map_or(Duration::ZERO, |end| end.uptime)
    }

    /// Notes that a run of it has come up.
    pub(crate) fn begin(&mut self, run: Arc<Incarnation>) {
        self.last = short(run.number());
        self.run = Run::Alive(run);
    }

    /// Says whether it has ever come up.
    pub(crate) fn was_up(&self) -> bool {
        self.last != 0
    }

    /// Says whether this is the last run of it that has come up.
    pub(crate) fn is_last(&self, run: &Incarnation) -> bool {
        self.last == short(run.number())
    }

    /// Says whether this is its run, as far as its supervisor knows.
    pub(crate) fn is_run(&self, run: &Arc<Incarnation>) -> bool {
        matches!(&self.run, Run::Alive(current) if Arc::ptr_eq(current, run))
    }

    /// Describes the start that failed last.
    pub(crate) fn failed(&self) -> FailedToStartChild {
        let end = self.node.last_end();
        FailedToStartChild {
            id: self.spec.id().to_string(),
            reason: end.map_or(ExitReason::Normal, |end| end.reason),
        }
    }

    pub(crate) fn is_quarantined(&self) -> bool {
        matches!(&self.run, Run::Waiting(pause) if pause.why == Why::Quarantine)
    }

    pub(crate) fn alive(&self) -> Option<Arc<Incarnation>> {
        match &self.run {
            Run::Alive(incarnation) => Some(Arc::clone(incarnation)),
            Run::Restarting | Run::Waiting(_) | Run::Stopped => None,
        }
    }

    pub(crate) fn info(&self) -> ChildInfo {
        ChildInfo {
            id: Arc::clone(self.spec.id()),
            kind: self.spec.kind(),
            node: Arc::clone(&self.node),
            status: match &self.run {
                Run::Alive(incarnation) => ChildStatus::Alive {
                    incarnation: incarnation.number(),
                },
                Run::Restarting => ChildStatus::Restarting,
                Run::Waiting(pause) => match pause.why {
                    Why::Backoff => ChildStatus::Delayed { due: pause.due },
                    Why::Quarantine => ChildStatus::Quarantined { due: pause.due },
                },
                Run::Stopped => ChildStatus::Stopped,
            },
        }
    }
}

/// The number of a run in half the room. Two runs of one child that can meet are never so many apart that it is the same.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the lower half tells runs apart"
)]
fn short(number: u64) -> u32 {
    number as u32
}

/// Whether a child has an actor.
#[derive(Debug)]
pub(crate) enum Run {
    /// It has one, which may have ended unnoticed.
    Alive(Arc<Incarnation>),
    /// A restart failed; the next attempt is in the supervisor's queue.
    Restarting,
    /// Its restart is put off.
    Waiting(Box<Pause>),
    /// It has none, and none is coming.
    Stopped,
}

/// The children of a supervisor in start order.
///
/// A slab whose entries are linked in order: look-up by key, adding at the end and removing cost the same whatever
/// the number of children, and the order survives every removal. By id a child is found through its place in the
/// tree, which knows its key.
#[derive(Default)]
pub(crate) struct Children {
    slots: Vec<Slot>,
    free: Vec<u32>,
    first: Option<Index>,
    last: Option<Index>,
    count: usize,
}

/// A slot's number, one too high: an `Option` of it takes no more room.
type Index = NonZeroU32;

struct Slot {
    entry: Option<ChildEntry>,
    /// Counts the entries that this slot has held, so that a stale key finds nothing.
    generation: u32,
    before: Option<Index>,
    after: Option<Index>,
}

impl Children {
    /// Makes room for as many children as are known to come.
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self {
            slots: Vec::with_capacity(count),
            ..Self::default()
        }
    }

    pub(crate) fn push(&mut self, entry: ChildEntry) -> ChildKey {
        let node = Arc::clone(&entry.node);
        let index = match self.free.pop() {
            Some(free) => free,
            None => {
                self.slots.push(Slot {
                    entry: None,
                    generation: 0,
                    before: None,
                    after: None,
                });
                u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 children")
            }
        };
        let named = index.checked_add(1).and_then(Index::new);
        let last = self.last;
        let slot = self.slot_mut(index);
        slot.generation = slot.generation.wrapping_add(1);
        slot.entry = Some(entry);
        slot.before = last;
        slot.after = None;
        match last {
            Some(last) => self.slot_mut(number(last)).after = named,
            None => self.first = named,
        }
        self.last = named;
        self.count += 1;
        let key = self.key(index);
        node.set_key(key);
        key
    }

    pub(crate) fn remove(&mut self, key: ChildKey) -> Option<ChildEntry> {
        let index = self.index(key)?;
        let slot = self.slot_mut(index);
        let entry = slot.entry.take()?;
        let (before, after) = (slot.before.take(), slot.after.take());
        match before {
            Some(before) => self.slot_mut(number(before)).after = after,
            None => self.first = after,
        }
        match after {
            Some(after) => self.slot_mut(number(after)).before = before,
            None => self.last = before,
        }
        self.free.push(index);
        self.count -= 1;
        Some(entry)
    }

    pub(crate) fn get(&self, key: ChildKey) -> Option<&ChildEntry> {
        self.slot(self.index(key)?).entry.as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: ChildKey) -> Option<&mut ChildEntry> {
        let index = self.index(key)?;
        self.slot_mut(index).entry.as_mut()
    }

    /// Finds the child of this id below `parent`, the supervisor's own place.
    pub(crate) fn find(&self, parent: &Node, id: &str) -> Option<ChildKey> {
        let node = parent.child(id)?;
        let key = node.key();
        // The place may be left over from a run before this one, and its key with it.
        let entry = self.get(key)?;
        Arc::ptr_eq(&entry.node, &node).then_some(key)
    }

    /// Returns the key behind `key` in start order; the first for `None`.
    pub(crate) fn after(&self, key: Option<ChildKey>) -> Option<ChildKey> {
        let next = match key {
            None => self.first,
            Some(key) => self.slot(self.index(key)?).after,
        };
        next.map(|index| self.key(number(index)))
    }

    /// Returns the key before `key` in start order; the last for `None`.
    pub(crate) fn before(&self, key: Option<ChildKey>) -> Option<ChildKey> {
        let next = match key {
            None => self.last,
            Some(key) => self.slot(self.index(key)?).before,
        };
        next.map(|index| self.key(number(index)))
    }

    /// Walks the children in start order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &ChildEntry> {
        let mut next = self.after(None);
        std::iter::from_fn(move || {
            let key = next?;
            next = self.after(Some(key));
            self.get(key)
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    fn key(&self, index: u32) -> ChildKey {
        (u64::from(self.slot(index).generation) << 32) | u64::from(index)
    }

    fn index(&self, key: ChildKey) -> Option<u32> {
        let index = u32::try_from(key & u64::from(u32::MAX)).ok()?;
        let slot = self.slots.get(index as usize)?;
        (slot.entry.is_some() && u64::from(slot.generation) == key >> 32).then_some(index)
    }

    fn slot(&self, index: u32) -> &Slot {
        &self.slots[index as usize]
    }

    fn slot_mut(&mut self, index: u32) -> &mut Slot {
        &mut self.slots[index as usize]
    }
}

fn number(index: Index) -> u32 {
    index.get() - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use perennial_lifecycle::{ActorPath, ChildKind, Started};
    use proptest::prelude::*;

    fn entry(parent: &Node, id: &str) -> ChildEntry {
        let spec = ChildSpec::from_fn(id, ChildKind::Worker, |_| async { Ok(Started::Ignored) });
        ChildEntry::new(spec, parent.child_at_end(id))
    }

    fn ids(children: &Children) -> Vec<String> {
        children.iter().map(|it| it.spec.id().to_string()).collect()
    }

    proptest! {
        /// Adding and removing in any order leaves the same order as a plain list.
        #[test]
        fn order_agrees_with_a_list(steps in proptest::collection::vec((any::<bool>(), 0_usize..12), 1..100)) {
            let parent = Node::new(ActorPath::root("t"));
            let mut children = Children::default();
            let mut model: Vec<String> = Vec::new();
            let mut stale = Vec::new();
            for (add, pick) in steps {
                let id = format!("c{pick}");
                let known = model.iter().position(|it| *it == id);
                match (add, known) {
                    (true, None) => {
                        children.push(entry(&parent, &id));
                        model.push(id);
                    }
                    (false, Some(at)) => {
                        let key = children.find(&parent, &id).unwrap();
                        prop_assert!(children.remove(key).is_some());
                        stale.push(key);
                        model.remove(at);
                    }
                    _ => {}
                }
                prop_assert_eq!(ids(&children), model.clone());
                let mut backwards = Vec::new();
                let mut at = children.before(None);
                while let Some(key) = at {
                    backwards.push(children.get(key).unwrap().spec.id().to_string());
                    at = children.before(Some(key));
                }
                backwards.reverse();
                prop_assert_eq!(backwards, model.clone());
                let found = (0..12).filter(|it| children.find(&parent, &format!("c{it}")).is_some());
                prop_assert_eq!(found.count(), model.len());
                prop_assert!(stale.iter().all(|key| children.get(*key).is_none()));
            }
        }
    }
}
