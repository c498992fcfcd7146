//! Where names are looked up.
//!
//! Every message by name comes here, and a name is entered once. So a look-up takes a lock that is one of several for
//! the same names, one for each of the threads that are at it, and writes to nothing that others look at; whoever enters a
//! name or forgets one takes them all. Entries are small, so that those of many names stay near. The name lies beside the
//! count of the slot's handles, which whoever finds it changes anyway.

use std::hash::BuildHasher as _;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_utils::sync::{ShardedLock, ShardedLockReadGuard, ShardedLockWriteGuard};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use perennial_lifecycle::{ActorName, Incarnation};

use crate::slot::{Common, Rest, Slot};

/// A power of two: while one of the parts grows, those who look for names in the others go on.
const PARTS: usize = 16;

pub(crate) struct Table {
    parts: [ShardedLock<HashTable<Named>>; PARTS],
    hasher: RandomState,
    places: Mutex<Places>,
}

/// Slots that are made some at a time, so that they lie beside one another.
///
/// Each made when its actor starts would lie among what that actor needs, on a page of its own; and to resolve a name is
/// to write to its slot, which waits for as long as it takes to find that page.
struct Places {
    common: Arc<Common>,
    free: Vec<Arc<Slot>>,
    made: usize,
}

/// The fewest and the most that are made at a time. So many fill ten pages, and mostly with nothing between them, while a
/// few would fill the gaps that others have left.
const PLACES: RangeInclusive<usize> = 8..=512;

impl Places {
    /// Gives a name the slot beside the one before.
    fn take(&mut self, name: &ActorName, before: u64) -> Arc<Slot> {
        let mut place = self.free.pop().unwrap_or_else(|| self.make());
        // Nobody else has it yet.
        if let Some(slot) = Arc::get_mut(&mut place) {
            slot.begin(name.clone(), before);
        }
        place
    }

    /// Makes as many as there are, within limits, and returns one of them.
    #[cold]
    fn make(&mut self) -> Arc<Slot> {
        let count = self.made.clamp(*PLACES.start(), *PLACES.end());
        self.made += count;
        // All of these before the slots, or one would lie between any two of them.
        let rest = || Rest::new(Arc::clone(&self.common));
        let (own, rests) = (rest(), Vec::from_iter((1..count).map(|_| rest())));
        let slot = |rest| Arc::new(Slot::new(rest));
        self.free.extend(rests.into_iter().map(slot));
        slot(own)
    }
}

/// What a name stands for.
pub(crate) struct Named {
    pub(crate) slot: Arc<Slot>,
    /// The run that was met last by name, at the place where that leads: read under the lock of the names, which is taken
    /// anyway.
    pub(crate) seen: Option<Arc<Incarnation>>,
}

impl Table {
    pub(crate) fn new(common: Arc<Common>) -> Self {
        Self {
            parts: std::array::from_fn(|_| ShardedLock::default()),
            hasher: RandomState::default(),
            places: Mutex::new(Places {
                common,
                free: Vec::new(),
                made: 0,
            }),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.parts.iter().map(|part| read(part).len()).sum()
    }

    /// Locks the name, so that it can be looked up: for as short as can be, and nothing of the host's is to run meanwhile.
    #[inline]
    pub(crate) fn read<'a>(&'a self, name: &'a ActorName) -> Reading<'a> {
        let hash = self.hasher.hash_one(name);
        let part = read(self.part(hash));
        Reading { part, hash, name }
    }

    /// Returns the slot of a name, which gets one if it has none; `before` says how many runs of it were forgotten.
    pub(crate) fn enter(&self, name: &ActorName, before: impl FnOnce() -> u64) -> Arc<Slot> {
        if let Some(named) = self.read(name).get() {
            return Arc::clone(&named.slot);
        }
        let hash = self.hasher.hash_one(name);
        let mut part = write(self.part(hash));
        let entry = part.entry(
            hash,
            |it| it.slot.name == *name,
            |it| self.hasher.hash_one(&it.slot.name),
        );
        let named = entry.or_insert_with(|| Named {
            slot: self.place(name, before()),
            seen: None,
        });
        Arc::clone(&named.get().slot)
    }

    fn place(&self, name: &ActorName, before: u64) -> Arc<Slot> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.take(name, before)
    }

    /// Changes what a name stands for.
    pub(crate) fn change<R>(
        &self,
        name: &ActorName,
        then: impl FnOnce(&mut Named) -> R,
    ) -> Option<R> {
        let hash = self.hasher.hash_one(name);
        let mut part = write(self.part(hash));
        part.find_mut(hash, |it| it.slot.name == *name).map(then)
    }

    /// Removes a name, if that is to be. Nobody takes a hold of its slot while `is_to_be` is asked.
    pub(crate) fn remove_if(
        &self,
        name: &ActorName,
        is_to_be: impl FnOnce(&mut Named) -> bool,
    ) -> Option<Named> {
        let hash = self.hasher.hash_one(name);
        let mut part = write(self.part(hash));
        let mut entry = part.find_entry(hash, |it| it.slot.name == *name).ok()?;
        is_to_be(entry.get_mut()).then(|| entry.remove().0)
    }

    /// Returns what is made of the names, in no order; where it is `None`, nothing.
    pub(crate) fn collect<R>(&self, mut then: impl FnMut(&Named) -> Option<R>) -> Vec<R> {
        let mut all = Vec::new();
        for part in &self.parts {
            all.extend(read(part).iter().filter_map(&mut then));
        }
        all
    }

    #[inline]
    fn part(&self, hash: u64) -> &ShardedLock<HashTable<Named>> {
        // Not the bits that say the bucket, nor the highest, by which a bucket's entry is told from others.
        &self.parts[(hash >> 48) as usize & (PARTS - 1)]
    }
}

/// A name that is locked.
pub(crate) struct Reading<'a> {
    part: ShardedLockReadGuard<'a, HashTable<Named>>,
    hash: u64,
    name: &'a ActorName,
}

impl Reading<'_> {
    #[inline]
    pub(crate) fn get(&self) -> Option<&Named> {
        let Self { part, hash, name } = self;
        part.find(*hash, |it| it.slot.name == **name)
    }
}

impl Named {
    pub(crate) fn name(&self) -> &ActorName {
        &self.slot.name
    }
}

#[inline]
fn read(part: &ShardedLock<HashTable<Named>>) -> ShardedLockReadGuard<'_, HashTable<Named>> {
    // Nothing in a critical section panics; a poisoned lock still holds whole values.
    part.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(part: &ShardedLock<HashTable<Named>>) -> ShardedLockWriteGuard<'_, HashTable<Named>> {
    part.write().unwrap_or_else(PoisonError::into_inner)
}
