//! Many keys: a bounded, sharded map from keys to words.
//!
//! A shard is a `HashMap` behind a lock. A check of a known key takes the lock
//! shared and makes its step on the key's atomic word; only a new key, a sweep
//! and a change of quota take it alone. So an entry cannot vanish between the
//! look and the step, and two first touches of one key meet in one entry.
//!
//! The shards are our own and not `DashMap`'s because a sweep must be able to
//! stop after one shard and go on at the next, which its safe interface does not
//! offer: it walks all shards, or none.

use std::{
    borrow::Borrow,
    collections::{HashMap, hash_map},
    fmt,
    hash::{BuildHasher, Hash},
    num::NonZeroUsize,
    sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use crate::{
    clock::Nanos,
    config::WhenFull,
    decision::{Decision, KeyStatus},
    machine::{Cell, Engine, Meter},
};

#[cfg(test)]
mod tests;

/// A shard this small is walked, or grown, in microseconds.
const KEYS_PER_SHARD: usize = 256;

/// What a step of a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// Keys looked at.
    pub examined: usize,
    /// Idle keys removed.
    pub removed: usize,
}

pub(crate) struct Store<K, S> {
    shards: Box<[Shard<K, S>]>,
    hasher: S,
    max_keys: usize,
    when_full: WhenFull,
    /// Entries, and places reserved for entries to come; never above `max_keys`.
    len: AtomicUsize,
    /// The shard at which the next sweep goes on.
    cursor: AtomicUsize,
    evicted: AtomicU64,
}

/// On cache lines of its own, so that a lock does not disturb its neighbours.
#[repr(align(128))]
struct Shard<K, S>(RwLock<Keys<K, S>>);

struct Keys<K, S> {
    /// What meters a key when the check does not say.
    engine: Engine,
    /// Keys were forgotten as idle at this time. A check that read its clock
    /// before must not begin a forgotten key anew at that earlier time.
    floor: Nanos,
    entries: HashMap<K, Entry, S>,
    /// The most entries that a sweep has seen since memory was given back.
    peak: usize,
}

struct Entry {
    engine: Engine,
    cell: Cell,
}

/// What a check asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// `None` for the store's own engine.
    pub(crate) engine: Option<Engine>,
    pub(crate) cells: u32,
    pub(crate) now: Nanos,
}

impl<K: Hash + Eq, S: BuildHasher + Clone> Store<K, S> {
    pub(crate) fn new(
        engine: Engine,
        max_keys: NonZeroUsize,
        when_full: WhenFull,
        hasher: S,
    ) -> Self {
        let max_keys = max_keys.get();
        let shards = (max_keys / KEYS_PER_SHARD)
            .clamp(8, 2048)
            .next_power_of_two();
        let shard = || {
            Shard(RwLock::new(Keys {
                engine,
                floor: Nanos::default(),
                entries: HashMap::with_hasher(hasher.clone()),
                peak: 0,
            }))
        };
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
            hasher,
            max_keys,
            when_full,
            len: AtomicUsize::new(0),
            cursor: AtomicUsize::new(0),
            evicted: AtomicU64::new(0),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    pub(crate) fn max_keys(&self) -> usize {
        self.max_keys
    }

    /// Keys evicted so far to make room for others.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Spends cells of a key.
    pub(crate) fn check<Q>(&self, key: &Q, ask: Ask) -> Decision
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let index = self.index(key);
        {
            let keys = self.read(index);
            let engine = ask.engine.unwrap_or(keys.engine);
            if engine.is_closed() {
                return Decision::Never;
            }
            if let Some(entry) = keys.entries.get(key)
                && entry.engine == engine
            {
                return entry.spend(ask);
            }
        }
        self.check_unknown(index, key, ask)
    }

    /// Answers as `check` would, and spends nothing.
    pub(crate) fn peek<Q>(&self, key: &Q, ask: Ask) -> Decision
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (engine, word) = self.look(key, ask);
        Decision::from_verdict(engine.step(word, ask.cells, ask.now).verdict, ask.now)
    }

    pub(crate) fn status<Q>(&self, key: &Q, ask: Ask) -> KeyStatus
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (engine, word) = self.look(key, ask);
        KeyStatus {
            spent: engine.spent(word, ask.now),
            remaining: engine.remaining(word, ask.now),
            resets_in: engine.resets_at(word, ask.now).since(ask.now),
        }
    }

    /// Forgets a key; tells whether it was known.
    pub(crate) fn reset<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let known = self.write(self.index(key)).entries.remove(key).is_some();
        if known {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
        known
    }

    /// Changes the store's engine, keeping what each key has spent.
    pub(crate) fn set_engine(&self, engine: Engine, now: Nanos) {
        for index in 0..self.shards.len() {
            let mut keys = self.write(index);
            keys.engine = engine;
            for entry in keys.entries.values_mut() {
                entry.adapt(engine, now);
            }
        }
    }

    /// Removes idle keys, a shard at a time, until `budget` keys were looked at
    /// or every shard was visited once. The next call goes on from there.
    pub(crate) fn sweep(&self, budget: usize, now: Nanos) -> Swept {
        let mut swept = Swept::default();
        for _ in 0..self.shards.len() {
            let index = self.cursor.fetch_add(1, Ordering::Relaxed) & (self.shards.len() - 1);
            let mut keys = self.write(index);
            let before = keys.entries.len();
            swept.examined += before;
            swept.removed += self.forget_idle(&mut keys, now);
            keys.give_back_memory(before);
            if swept.examined >= budget {
                break;
            }
        }
        swept
    }

    /// A key that is not there yet, or is metered by another engine.
    #[cold]
    fn check_unknown<Q>(&self, index: usize, key: &Q, ask: Ask) -> Decision
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        {
            let mut keys = self.write(index);
            let engine = ask.engine.unwrap_or(keys.engine);
            if engine.is_closed() {
                return Decision::Never;
            }
            if let Some(entry) = keys.entries.get_mut(key) {
                return entry.adapt(engine, ask.now).spend(ask);
            }
            let step = engine.step(0, ask.cells, ask.now.max(keys.floor));
            if step.word == 0 {
                return Decision::from_verdict(step.verdict, ask.now);
            }
        }
        // Making room locks other shards, so it is done without holding ours;
        // the key may therefore have come, and the engine changed, meanwhile.
        let mut place = match self.reserve(index, ask.now) {
            Ok(place) => place,
            Err(until) => {
                // Another first touch of this very key may have had the last place.
                let mut keys = self.write(index);
                let engine = ask.engine.unwrap_or(keys.engine);
                if let Some(entry) = keys.entries.get_mut(key) {
                    return entry.adapt(engine, ask.now).spend(ask);
                }
                return Decision::Refused {
                    retry_after: until.since(ask.now),
                };
            }
        };
        let mut keys = self.write(index);
        let engine = ask.engine.unwrap_or(keys.engine);
        if engine.is_closed() {
            return Decision::Never;
        }
        let now = ask.now.max(keys.floor);
        match keys.entries.entry(key.to_owned()) {
            hash_map::Entry::Occupied(mut known) => {
                known.get_mut().adapt(engine, ask.now).spend(ask)
            }
            hash_map::Entry::Vacant(vacant) => {
                let step = engine.step(0, ask.cells, now);
                if step.word != 0 {
                    vacant.insert(Entry {
                        engine,
                        cell: Cell::new(step.word),
                    });
                    place.take();
                }
                Decision::from_verdict(step.verdict, ask.now)
            }
        }
    }

    /// Reserves a place for one key, or says when to try again.
    fn reserve(&self, index: usize, now: Nanos) -> Result<Place<'_>, Nanos> {
        loop {
            let more = |len| (len < self.max_keys).then_some(len + 1);
            if self
                .len
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
                .is_ok()
            {
                return Ok(Place {
                    len: &self.len,
                    taken: false,
                });
            }
            self.make_room(index, now)?;
        }
    }

    /// Frees a place in the first shard from `index` on that has any key.
    fn make_room(&self, index: usize, now: Nanos) -> Result<(), Nanos> {
        for step in 0..self.shards.len() {
            let mut keys = self.write((index + step) & (self.shards.len() - 1));
            if keys.entries.is_empty() {
                continue;
            }
            if self.forget_idle(&mut keys, now) > 0 {
                return Ok(());
            }
            match self.when_full {
                WhenFull::Evict => {
                    keys.evict(now);
                    self.len.fetch_sub(1, Ordering::Relaxed);
                    self.evicted.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                WhenFull::Refuse => return Err(keys.soonest_idle()),
            }
        }
        Ok(())
    }

    fn forget_idle(&self, keys: &mut Keys<K, S>, now: Nanos) -> usize {
        let before = keys.entries.len();
        keys.entries.retain(|_, entry| entry.idle_at() > now);
        let removed = before - keys.entries.len();
        if removed > 0 {
            keys.floor = keys.floor.max(now);
            self.len.fetch_sub(removed, Ordering::Relaxed);
        }
        removed
    }

    fn look<Q>(&self, key: &Q, ask: Ask) -> (Engine, u64)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let keys = self.read(self.index(key));
        let engine = ask.engine.unwrap_or(keys.engine);
        let word = keys.entries.get(key).map_or(0, |entry| {
            engine.carry(&entry.engine, entry.cell.word(), ask.now)
        });
        (engine, word)
    }

    fn index<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        // The map within takes the low bits and the top seven.
        let middle = (self.hasher.hash_one(key) >> 32) as usize;
        middle & (self.shards.len() - 1)
    }

    // A key whose `Hash` or `Eq` panics poisons its shard. The map itself is
    // sound after that, and the other keys of the shard must still be checked.
    fn read(&self, index: usize) -> RwLockReadGuard<'_, Keys<K, S>> {
        self.shards[index]
            .0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, index: usize) -> RwLockWriteGuard<'_, Keys<K, S>> {
        self.shards[index]
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq, S: BuildHasher> Keys<K, S> {
    /// Removes the key that has spent least, and of those the one idle soonest:
    /// what it spent is what forgetting it may over-admit.
    fn evict(&mut self, now: Nanos) {
        let loss = |entry: &Entry| (entry.spent(now), entry.idle_at());
        let Some(least) = self.entries.values().map(loss).min() else {
            return;
        };
        let mut evicted = false;
        self.entries.retain(|_, entry| {
            evicted || loss(entry) != least || {
                evicted = true;
                false
            }
        });
    }

    fn soonest_idle(&self) -> Nanos {
        let idle = self.entries.values().map(Entry::idle_at);
        idle.min().unwrap_or_default()
    }

    /// A flood of keys must not keep its memory when it is over.
    fn give_back_memory(&mut self, before: usize) {
        // The map's `capacity` leaves out the places that removals spoilt, so
        // what it has allocated is judged by the keys that it once held.
        self.peak = self.peak.max(before);
        let len = self.entries.len();
        if len <= self.peak / 4 {
            self.entries.shrink_to(len * 2);
            self.peak = len;
        }
    }
}

impl Entry {
    fn spend(&self, ask: Ask) -> Decision {
        let verdict = self.cell.spend(&self.engine, ask.cells, ask.now);
        Decision::from_verdict(verdict, ask.now)
    }

    fn spent(&self, now: Nanos) -> u32 {
        self.engine.spent(self.cell.word(), now)
    }

    fn idle_at(&self) -> Nanos {
        self.engine.idle_at(self.cell.word())
    }

    /// Goes over to another engine. A closed one has nothing to spend, so that its
    /// words may say too little: the key waits with the old engine's until the
    /// quota opens again, or it is idle.
    fn adapt(&mut self, engine: Engine, now: Nanos) -> &Self {
        if !engine.is_closed() && engine != self.engine {
            self.cell = Cell::new(engine.carry(&self.engine, self.cell.word(), now));
            self.engine = engine;
        }
        self
    }
}

/// A place counted in `len`, given back unless a key took it.
struct Place<'a> {
    len: &'a AtomicUsize,
    taken: bool,
}

impl Place<'_> {
    fn take(&mut self) {
        self.taken = true;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.taken {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Says nothing of the keys: they may be personal data, and many.
impl<K, S> fmt::Debug for Store<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("keys", &self.len)
            .field("max_keys", &self.max_keys)
            .finish_non_exhaustive()
    }
}
