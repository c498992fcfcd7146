//! The quotas that a store has seen, by number.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
};

use foldhash::fast::RandomState;

use crate::{machine::Engine, quota::Quota};

/// So many are kept before any is forgotten.
pub(crate) const FEW: usize = 1024;

/// An engine with its number: a key's state holds only the number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) id: u32,
    /// It refuses everything at all times.
    pub(crate) is_closed: bool,
    pub(crate) engine: Engine,
}

impl Rule {
    fn new(id: u32, engine: Engine) -> Self {
        Self {
            id,
            is_closed: engine.is_closed(),
            engine,
        }
    }
}

/// Keeps a rule from being forgotten.
pub(crate) type Pin = Arc<()>;

/// Hosts have few quotas. Whoever computes them for each check makes many: those that no key is metered by and nobody
/// has pinned are then forgotten from time to time.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    known: RwLock<Known>,
    forgetting: Mutex<()>,
}

#[derive(Debug)]
pub(crate) struct Known {
    slots: HashMap<u32, Slot, RandomState>,
    ids: HashMap<Engine, u32, RandomState>,
    next: u32,
    /// With so many, it is time to forget some.
    many: usize,
}

#[derive(Debug)]
struct Slot {
    engine: Engine,
    pin: Pin,
    /// Taken into use since the last forgetting began.
    is_fresh: AtomicBool,
}

impl Rules {
    /// The rule of a quota, if it is known.
    pub(crate) fn find(&self, quota: &Quota) -> Option<Rule> {
        let engine = Engine::new(quota);
        let id = self.known().ids.get(&engine).copied();
        id.map(|id| Rule::new(id, engine))
    }

    pub(crate) fn add(&self, engine: Engine) -> Rule {
        self.pin(engine).0
    }

    /// The rule of an engine, not to be forgotten for as long as its pin is kept.
    pub(crate) fn pin(&self, engine: Engine) -> (Rule, Pin) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let (id, pin) = known.add(engine);
        (Rule::new(id, engine), pin)
    }

    /// The rule as it is known. A state may be given its number for as long as the shard stays locked that was locked
    /// before; the number may be another one if the rule was forgotten meanwhile.
    pub(crate) fn in_use(&self, rule: Rule) -> Rule {
        if let Some(slot) = self.known().slots.get(&rule.id)
            && slot.engine == rule.engine
        {
            slot.is_fresh.store(true, Ordering::Relaxed);
            return rule;
        }
        self.add(rule.engine)
    }

    /// Whoever asks may hold the lock of a shard; here none is ever taken.
    pub(crate) fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to forget, if there are many rules and nobody else does. Then the numbers that are in use are to be
    /// collected, shard by shard: what a shard takes into use after that is fresh.
    pub(crate) fn begin_forgetting(&self) -> Option<Forgetting<'_>> {
        if !self.known().is_many() {
            return None;
        }
        let alone = match self.forgetting.try_lock() {
            Ok(alone) => alone,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        for slot in self.known().slots.values() {
            slot.is_fresh.store(false, Ordering::Relaxed);
        }
        Some(Forgetting {
            rules: self,
            _alone: alone,
        })
    }
}

pub(crate) struct Forgetting<'a> {
    rules: &'a Rules,
    _alone: MutexGuard<'a, ()>,
}

impl Forgetting<'_> {
    /// Forgets what is not in use. As many rules as there are keys do not matter beside the keys.
    pub(crate) fn finish(self, used: &HashSet<u32, RandomState>, keys: usize) {
        let known = &self.rules.known;
        let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
        let Known {
            slots, ids, many, ..
        } = &mut *known;
        slots.retain(|id, slot| {
            let keep = used.contains(id)
                || slot.is_fresh.load(Ordering::Relaxed)
                || Arc::strong_count(&slot.pin) > 1;
            if !keep {
                ids.remove(&slot.engine);
            }
            keep
        });
        *many = FEW.max(keys).max(2 * slots.len());
    }
}

impl Known {
    pub(crate) fn engine(&self, id: u32) -> &Engine {
        &self.slots[&id].engine
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    fn is_many(&self) -> bool {
        self.slots.len() >= self.many
    }

    fn add(&mut self, engine: Engine) -> (u32, Pin) {
        let known = self.ids.get(&engine).and_then(|id| self.slots.get(id));
        if let Some(slot) = known {
            slot.is_fresh.store(true, Ordering::Relaxed);
            return (self.ids[&engine], Arc::clone(&slot.pin));
        }
        // After four billion the numbers begin anew.
        while self.slots.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let (id, pin) = (self.next, Pin::default());
        self.next = id.wrapping_add(1);
        let slot = Slot {
            engine,
            pin: Arc::clone(&pin),
            is_fresh: AtomicBool::new(true),
        };
        self.slots.insert(id, slot);
        self.ids.insert(engine, id);
        (id, pin)
    }
}

impl Default for Known {
    fn default() -> Self {
        Self {
            slots: HashMap::default(),
            ids: HashMap::default(),
            next: 0,
            many: FEW,
        }
    }
}
