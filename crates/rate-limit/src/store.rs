//! Many keys: a bounded, sharded map from keys to states.
//!
//! A shard is a hash table behind a lock, which a check holds for some nanoseconds: taking a lock alone and stepping a
//! plain state costs two atomic operations, taking it shared and stepping an atomic state would cost three. An
//! entry cannot vanish between the look and the step, and two first touches of one key meet in one entry.
//!
//! Nothing is done to all keys at once. A shard holds a few thousand, so that its growth takes microseconds; a sweep
//! goes through the buckets a few at a time; and room is made among a few dozen keys. The table is one that can be
//! entered at any bucket.

use std::{
    borrow::Borrow,
    collections::HashSet,
    fmt,
    hash::{BuildHasher, Hash},
    hint,
    num::NonZeroUsize,
    sync::{
        Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use self::shard::{Gone, Shard};
use crate::{
    clock::Nanos,
    config::WhenFull,
    decision::{Decision, KeyStatus},
    machine::{Engine, State},
    quota::Quota,
    rules::{Pin, Rule, Rules},
};

mod entries;
mod shard;
mod table;
#[cfg(test)]
mod tests;

/// A shard this small grows in some hundred microseconds; the locks of many would not stay in the cache.
const KEYS_PER_SHARD: usize = 8192;
/// Two threads then seldom meet in one.
const FEWEST_SHARDS: usize = 32;
/// Keys that are looked at to make room for a new one.
const SAMPLE: usize = 32;
/// Buckets that a sweep looks at under one lock.
const BUCKETS_PER_LOCK: usize = 1024;

/// How often who waits for a lock pauses before it looks again: for one to some microseconds, a few dozen checks.
const PAUSES: usize = 128;

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
    shards: Box<[Aligned<K>]>,
    hasher: S,
    rules: Rules,
    max_keys: usize,
    when_full: WhenFull,
    /// Entries, and places reserved for entries to come; never above `max_keys`.
    len: AtomicUsize,
    /// The shard at which the next sweep goes on.
    cursor: AtomicUsize,
    /// The shard at which room is looked for next, when a newcomer's own has none.
    room: AtomicUsize,
    evicted: AtomicU64,
}

/// On cache lines of its own, so that a lock does not disturb its neighbours.
#[repr(align(128))]
struct Aligned<K>(Mutex<Shard<K>>);

/// What a check asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    /// `None` for the store's own rule.
    pub(crate) rule: Option<&'a Rule>,
    pub(crate) cells: u32,
    pub(crate) now: Nanos,
}

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    pub(crate) fn new(
        quota: &Quota,
        max_keys: NonZeroUsize,
        when_full: WhenFull,
        hasher: S,
    ) -> Self {
        let max_keys = max_keys.get();
        let shards = (max_keys / KEYS_PER_SHARD)
            .clamp(FEWEST_SHARDS, 4096)
            .next_power_of_two();
        let rules = Rules::default();
        let rule = rules.add(Engine::new(quota));
        let shard = || Aligned(Mutex::new(Shard::new(rule)));
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
            hasher,
            rules,
            max_keys,
            when_full,
            len: AtomicUsize::new(0),
            cursor: AtomicUsize::new(0),
            room: AtomicUsize::new(0),
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

    /// The rule of a quota, for an [`Ask`].
    pub(crate) fn rule(&self, quota: &Quota) -> Rule {
        match self.rules.find(quota) {
            Some(rule) => rule,
            None => self.add_rule(quota).0,
        }
    }

    /// The same, known for as long as the pin is kept.
    pub(crate) fn pinned_rule(&self, quota: &Quota) -> (Rule, Pin) {
        self.add_rule(quota)
    }

    /// Spends cells of a key.
    #[inline]
    pub(crate) fn check<Q>(&self, key: &Q, ask: Ask<'_>) -> Decision
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let hash = self.hasher.hash_one(key);
        {
            let mut shard = self.lock(index(hash, self.shards.len()));
            shard.note_reading(ask.now);
            if let Some(verdict) = shard.spend(hash, |known| known.borrow() == key, ask) {
                return Decision::from_verdict(verdict, ask.now);
            }
        }
        self.check_unknown(hash, key, ask)
    }

    /// Answers as `check` would, and spends nothing.
    pub(crate) fn peek<Q>(&self, key: &Q, ask: Ask<'_>) -> Decision
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hasher.hash_one(key);
        let shard = self.lock(index(hash, self.shards.len()));
        let rule = ask.rule.unwrap_or(&shard.rule);
        if rule.is_closed {
            return Decision::Never;
        }
        let verdict = match shard.state(hash, |known| known.borrow() == key) {
            Some(state) if state.rule() == rule.id => rule.engine.ask(&state, ask.cells, ask.now),
            Some(state) => {
                let known = self.rules.known();
                let from = known.engine(state.rule());
                let now = shard.changes(ask.now);
                let mut state = state.into_owned();
                (rule.engine).spend_from(rule.id, from, &mut state, ask.cells, now)
            }
            None => rule
                .engine
                .ask(&rule.engine.fresh(rule.id), ask.cells, ask.now),
        };
        Decision::from_verdict(verdict, ask.now)
    }

    pub(crate) fn status<Q>(&self, key: &Q, ask: Ask<'_>) -> KeyStatus
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hasher.hash_one(key);
        let shard = self.lock(index(hash, self.shards.len()));
        let rule = ask.rule.unwrap_or(&shard.rule);
        let Some(state) = shard.state(hash, |known| known.borrow() == key) else {
            return status(&rule.engine, &rule.engine.fresh(rule.id), ask.now, ask.now);
        };
        if state.rule() == rule.id {
            return status(&rule.engine, &state, ask.now, ask.now);
        }
        let known = self.rules.known();
        let from = known.engine(state.rule());
        let now = shard.changes(ask.now);
        match rule.engine.take_over(rule.id, from, &state, now) {
            Some(taken) => status(&rule.engine, &taken, now, ask.now),
            None => KeyStatus {
                remaining: rule.engine.remaining_from(from, &state, now),
                ..status(from, &state, now, ask.now)
            },
        }
    }

    /// Forgets a key; tells whether it was known.
    pub(crate) fn reset<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.lock(index(hash, self.shards.len()));
        let known = (shard.entries).position(hash, |known| known.borrow() == key);
        let gone = known.and_then(|it| (shard.entries).remove(it, |key| self.hasher.hash_one(key)));
        if gone.is_some() {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
        // How a key is dropped is its type's own code.
        drop(shard);
        gone.is_some()
    }

    /// Changes the store's quota, keeping what each key has spent.
    pub(crate) fn set_quota(&self, quota: &Quota, now: Nanos) {
        let rule = self.rule(quota);
        for index in 0..self.shards.len() {
            let mut shard = self.lock(index);
            let rule = self.rules.in_use(rule);
            shard.set_rule(&self.rules.known(), rule, now);
        }
    }

    /// Removes idle keys, some buckets at a time, until `budget` keys were looked at or every shard was visited. The
    /// next call goes on from there.
    pub(crate) fn sweep(&self, budget: usize, now: Nanos) -> Swept {
        let mut swept = Swept::default();
        let mut shards = self.shards.len();
        // If the shard where it begins is half done, it is visited at the end as well.
        if !self
            .lock(self.cursor.load(Ordering::Relaxed) & (shards - 1))
            .is_swept()
        {
            shards += 1;
        }
        while shards > 0 && swept.examined < budget {
            let index = self.cursor.load(Ordering::Relaxed) & (self.shards.len() - 1);
            // Before the lock, so that it is dropped after it.
            let mut gone = Gone::new(&self.len);
            let mut shard = self.lock(index);
            let left = budget - swept.examined;
            let known = self.rules.known();
            let hasher = |key: &K| self.hasher.hash_one(key);
            let some = shard.sweep(&mut gone, &known, hasher, left, BUCKETS_PER_LOCK, now);
            swept.examined += some.examined;
            swept.removed += some.removed;
            if shard.is_swept() {
                self.cursor.store(index + 1, Ordering::Relaxed);
                shards -= 1;
            }
        }
        swept
    }

    #[cold]
    fn add_rule(&self, quota: &Quota) -> (Rule, Pin) {
        if let Some(forgetting) = self.rules.begin_forgetting() {
            let mut used = HashSet::default();
            for index in 0..self.shards.len() {
                let shard = self.lock(index);
                used.insert(shard.rule.id);
                used.extend(shard.entries.states().map(|state| state.rule()));
            }
            forgetting.finish(&used, self.len());
        }
        self.rules.pin(Engine::new(quota))
    }

    /// A key that is not there yet, or is metered by another rule.
    #[cold]
    fn check_unknown<Q>(&self, hash: u64, key: &Q, ask: Ask<'_>) -> Decision
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let index = index(hash, self.shards.len());
        {
            let mut shard = self.lock(index);
            if let Some(decision) = self.check_known(&mut shard, hash, key, ask) {
                return decision;
            }
            // What spends nothing stores nothing.
            let engine = ask.rule.unwrap_or(&shard.rule).engine;
            let verdict = engine.ask(&engine.fresh(0), ask.cells, shard.begins(ask.now));
            if ask.cells == 0 || !verdict.is_allowed() {
                return Decision::from_verdict(verdict, ask.now);
            }
        }
        // Making room locks other shards, so it is done without holding ours; the key may therefore have come, and
        // the rule changed, meanwhile.
        let mut place = match self.reserve(index, ask.now) {
            Ok(place) => place,
            Err(until) => {
                // Another first touch of this very key may have had the last place.
                let mut shard = self.lock(index);
                let known = self.check_known(&mut shard, hash, key, ask);
                return known.unwrap_or(Decision::Refused {
                    retry_after: until.since(ask.now),
                });
            }
        };
        // Before the lock, and dropped after it if it is not needed: how a key is copied is its type's own code.
        let own = key.to_owned();
        let mut shard = self.lock(index);
        if let Some(decision) = self.check_known(&mut shard, hash, key, ask) {
            return decision;
        }
        let rule = self.rules.in_use(*ask.rule.unwrap_or(&shard.rule));
        let mut state = rule.engine.fresh(rule.id);
        // A key that was forgotten as idle must not begin anew at an earlier time than that.
        let now = shard.begins(ask.now);
        let verdict = rule.engine.spend(&mut state, ask.cells, now);
        if verdict.is_allowed() {
            let hasher = |key: &K| self.hasher.hash_one(key);
            shard.entries.insert(hash, own, state, hasher);
            place.take();
        }
        Decision::from_verdict(verdict, ask.now)
    }

    /// Checks a key that is there, or any key if nothing can be spent.
    fn check_known<Q>(
        &self,
        shard: &mut Shard<K>,
        hash: u64,
        key: &Q,
        ask: Ask<'_>,
    ) -> Option<Decision>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let rule = *ask.rule.unwrap_or(&shard.rule);
        if rule.is_closed {
            return Some(Decision::Never);
        }
        let is_it = |known: &K| known.borrow() == key;
        if let Some(verdict) = shard.spend(hash, is_it, ask) {
            return Some(Decision::from_verdict(verdict, ask.now));
        }
        let bucket = shard.entries.position(hash, is_it)?;
        let now = shard.changes(ask.now);
        shard.floor = now;
        let rule = self.rules.in_use(rule);
        let entry = shard.entries.whole().get_mut(bucket)?;
        let verdict = entry.spend(&self.rules.known(), rule, ask.cells, now);
        Some(Decision::from_verdict(verdict, ask.now))
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

    /// Frees a place in the first shard from `index` on that has any key. If that refuses, a few keys of others are looked
    /// at, of other ones each time, so that who asks again comes to all of them.
    fn make_room(&self, index: usize, now: Nanos) -> Result<(), Nanos> {
        let shards = self.shards.len();
        let near = (0..shards).find_map(|step| self.make_room_in(index + step, now));
        let Some(Err(until)) = near else {
            return Ok(());
        };
        let next = self.room.fetch_add(1, Ordering::Relaxed);
        match (0..shards).find_map(|step| self.make_room_in(next.wrapping_add(step), now)) {
            Some(Err(_)) => Err(until),
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// Nothing for an empty shard.
    fn make_room_in(&self, index: usize, now: Nanos) -> Option<Result<(), Nanos>> {
        // Before the lock, so that it is dropped after it.
        let mut gone = Gone::new(&self.len);
        let mut shard = self.lock(index & (self.shards.len() - 1));
        if shard.entries.is_empty() {
            return None;
        }
        let known = self.rules.known();
        let hasher = |key: &K| self.hasher.hash_one(key);
        let room = shard.make_room(&mut gone, &known, hasher, SAMPLE, self.when_full, now);
        Some(room.map(|evicted| {
            self.evicted.fetch_add(evicted, Ordering::Relaxed);
        }))
    }

    #[cfg(test)]
    pub(crate) fn fullest_shard(&self) -> usize {
        let shards = 0..self.shards.len();
        let keys = shards.map(|index| self.lock(index).entries.len());
        keys.max().unwrap_or_default()
    }

    // A key whose `Hash` or `Eq` panics poisons its shard. The table itself is sound after that, and the other keys
    // of the shard must still be checked.
    #[inline]
    fn lock(&self, index: usize) -> MutexGuard<'_, Shard<K>> {
        let shard = &self.shards[index].0;
        match shard.try_lock() {
            Ok(shard) => shard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => wait_for(shard),
        }
    }
}

/// Locks a shard that somebody holds.
///
/// The holder is done in some nanoseconds, but each look at the lock takes its cache line away from there, and bringing
/// it back takes longer than a check. Where two threads check one key again and again, both get on sooner when one of them
/// keeps the line for some checks.
#[cold]
fn wait_for<K>(shard: &Mutex<Shard<K>>) -> MutexGuard<'_, Shard<K>> {
    for _ in 0..PAUSES {
        hint::spin_loop();
    }
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is told of a state at `now` to who reads `asked` on his clock.
fn status(engine: &Engine, state: &State, now: Nanos, asked: Nanos) -> KeyStatus {
    let times = engine.times(state, now);
    KeyStatus {
        spent: engine.spent(state, now),
        remaining: engine.remaining(state, now),
        resets_in: engine.resets_at(state, now).since(asked),
        first_check: times.map(|times| times.first.on_calendar()),
        last_check: times.map(|times| times.last.on_calendar()),
    }
}

/// The table within takes the low bits.
fn index(hash: u64, shards: usize) -> usize {
    (hash >> 32) as usize & (shards - 1)
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
