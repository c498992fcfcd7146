//! One breaker for each key of a service.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, Weak};

use crossbeam_utils::sync::{ShardedLock, ShardedLockReadGuard, ShardedLockWriteGuard};
use foldhash::fast::RandomState;
use tokio::sync::broadcast;

use crate::cell::{Cell, Place};
use crate::{
    Breaker, BreakerConfig, BreakerEvent, BreakerState, BreakerStatus, CallError, CircuitOpen,
    OwnedPermit,
};

/// Events of all keys that a slow subscriber may be behind before it misses some.
const EVENTS: usize = 256;
/// A new key chooses among this many others the one to take the place of.
const LOOKS: usize = 32;
/// Where it meets others that keep their place it walks on, but no further than this, so that none waits long. Each is
/// set aside by that, and not met again.
const WALK: usize = 1024;
/// Of those set aside a new key looks at this many, whether they may go by now.
const LOOKS_ASIDE: usize = 16;

/// A breaker for each key of a service, such as a host, a tenant or a shard; a handle that is cheap to clone.
///
/// A key's breaker is made at its first use, with the settings of all. There are never more than `max_keys`: a new
/// key then takes the place of another one, which is as new when it comes back. That is a closed one that nobody uses
/// now; preferred is one that has nothing on record, and one that was not used lately. Only where there is none does one
/// go whose open time is over. A breaker that is open, or in a state that an operator ordered, or that somebody keeps or
/// has a permit of, keeps its place: a flood of new keys costs no memory, and forgets no open circuit.
///
/// Where all keep theirs, the new key is let through without one: its breaker is as new at each use, and its failures
/// are forgotten until there is room. [`unkept`](Self::unkept) says how often that was, and so whether `max_keys` is too
/// small. A new key walks past a thousand others at most, so among many more that are open it may take several uses
/// until it comes upon the place that is free.
///
/// Keys have no metrics of their own, as nobody knows how many there will be: transitions are counted under the name
/// of the service. Events and refusals name a breaker `service[key]`.
///
/// # Examples
///
/// ```
/// use perennial_breaker::{BreakerConfig, KeyedBreakers, Trip};
///
/// let config = BreakerConfig::builder().trip(Trip::Consecutive(1)).build()?;
/// let shards = KeyedBreakers::<String>::new("shards", config, 1_000.try_into()?);
///
/// shards.try_acquire("eu-1")?.failure();
/// let refusal = shards.try_acquire("eu-1").unwrap_err();
/// assert!(refusal.to_string().starts_with("circuit of `shards[\"eu-1\"]` is open, retry after"));
/// assert!(shards.try_acquire("eu-2").is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct KeyedBreakers<K>(Arc<Keyed<K>>);

struct Keyed<K> {
    service: Arc<str>,
    max_keys: NonZeroUsize,
    /// Every call reads them, of whatever key, so a reader takes a lock of its own thread's.
    entries: ShardedLock<Entries<K>>,
    events: broadcast::Sender<BreakerEvent>,
    unkept: AtomicU64,
}

struct Entries<K> {
    config: Arc<BreakerConfig>,
    by_key: HashMap<K, Entry, RandomState>,
    /// Every key that is not set aside, in the order in which they are looked at for one to go.
    queue: VecDeque<K>,
    /// Those that kept their place when they were last looked at, or whose open time is over.
    aside: VecDeque<K>,
}

/// A key as it was queued, and as it was filed with its breaker.
type Gone<K> = (K, Option<(K, Entry)>);

struct Entry {
    breaker: Breaker,
    /// Since it was last looked at.
    is_used: AtomicBool,
}

impl<K> KeyedBreakers<K> {
    /// Makes a service without keys yet.
    #[must_use]
    pub fn new(
        service: impl Into<Arc<str>>,
        config: BreakerConfig,
        max_keys: NonZeroUsize,
    ) -> Self {
        Self(Arc::new(Keyed {
            service: service.into(),
            max_keys,
            entries: ShardedLock::new(Entries {
                config: Arc::new(config),
                by_key: HashMap::default(),
                queue: VecDeque::new(),
                aside: VecDeque::new(),
            }),
            events: broadcast::Sender::new(EVENTS),
            unkept: AtomicU64::new(0),
        }))
    }

    /// Returns the name of the service.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.service
    }

    /// Returns how many keys there may be.
    #[must_use]
    pub fn max_keys(&self) -> NonZeroUsize {
        self.0.max_keys
    }

    /// Returns how many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read().by_key.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many uses of a key there were for which no breaker was kept, as every place was.
    #[must_use]
    pub fn unkept(&self) -> u64 {
        self.0.unkept.load(Relaxed)
    }

    /// Returns the status of every key's breaker, in no order.
    #[must_use]
    pub fn status(&self) -> Vec<BreakerStatus> {
        let cells = self.read().cells();
        let there = cells.iter().filter_map(Weak::upgrade);
        there.map(|cell| cell.status()).collect()
    }

    /// Subscribes to the events of every key's breaker.
    ///
    /// A subscriber that falls far behind misses the oldest and is told how many.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<BreakerEvent> {
        self.0.events.subscribe()
    }

    /// Takes other settings, for the keys that are there and those to come; see [`Breaker::reconfigure`].
    pub fn reconfigure(&self, config: BreakerConfig) {
        self.write().config = Arc::new(config);
        loop {
            let entries = self.read();
            let (config, cells) = (Arc::clone(&entries.config), entries.cells());
            drop(entries);
            for cell in cells.iter().filter_map(Weak::upgrade) {
                cell.configure(BreakerConfig::clone(&config));
            }
            // Who gave others meanwhile, from another thread or a log line of these, may have been overtaken by them.
            if Arc::ptr_eq(&self.read().config, &config) {
                return;
            }
        }
    }

    fn read(&self) -> ShardedLockReadGuard<'_, Entries<K>> {
        self.0
            .entries
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> ShardedLockWriteGuard<'_, Entries<K>> {
        self.0
            .entries
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone + fmt::Debug> KeyedBreakers<K> {
    /// Returns the breaker of a key, which is made if there is none.
    ///
    /// Who keeps it keeps its place as well, if it has one. For a key that is there it allocates nothing.
    pub fn get<Q>(&self, key: &Q) -> Breaker
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        if let Some(entry) = self.read().by_key.get(key) {
            return entry.used();
        }
        // Before the lock is taken: how a key is copied and written is its type's own code.
        let (queued, key) = (key.to_owned(), key.to_owned());
        let name = format!("{}[{key:?}]", self.0.service);
        // And after it, how one is dropped.
        let mut gone = None;
        let mut entries = self.write();
        // Another thread may have been first.
        if let Some(entry) = entries.by_key.get(key.borrow()) {
            return entry.used();
        }
        let is_full = entries.by_key.len() >= self.0.max_keys.get();
        if is_full {
            gone = entries.make_room();
        }
        let place = Place::Keyed {
            service: Arc::clone(&self.0.service),
            events: self.0.events.clone(),
        };
        let breaker = Breaker::placed(name.into(), BreakerConfig::clone(&entries.config), place);
        if is_full && gone.is_none() {
            self.0.unkept.fetch_add(1, Relaxed);
            breaker.cell().remove();
            return breaker;
        }
        entries.queue.push_back(queued);
        let entry = Entry {
            breaker: breaker.clone(),
            is_used: AtomicBool::new(true),
        };
        entries.by_key.insert(key, entry);
        breaker
    }

    /// Asks to make one call for a key.
    ///
    /// # Errors
    ///
    /// As [`Breaker::try_acquire`].
    pub fn try_acquire<Q>(&self, key: &Q) -> Result<OwnedPermit, CircuitOpen>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.get(key).try_acquire_owned()
    }

    /// Runs an operation if the breaker of a key admits it; its `Err` counts as a failure.
    ///
    /// # Errors
    ///
    /// As [`Breaker::call`].
    ///
    /// # Cancel safety
    ///
    /// As [`Breaker::call`].
    pub async fn call<Q, T, E>(
        &self,
        key: &Q,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, CallError<E>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.get(key).call(operation).await
    }

    /// Forgets a key, and returns the breaker that it had.
    pub fn remove<Q>(&self, key: &Q) -> Option<Breaker>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut entries = self.write();
        let (known, entry) = entries.by_key.remove_entry(key)?;
        let queued = take(&mut entries.queue, key).or_else(|| take(&mut entries.aside, key));
        entry.breaker.cell().remove();
        drop(entries);
        // How a key is dropped is its type's own code.
        drop((known, queued));
        Some(entry.breaker)
    }
}

impl<K> Entries<K> {
    /// Every breaker, without keeping the places of all while they are worked through.
    fn cells(&self) -> Vec<Weak<Cell>> {
        self.by_key.values().map(|it| it.breaker.weak()).collect()
    }
}

impl<K: Hash + Eq> Entries<K> {
    /// Lets one key go, if there is one that may. What was known of it is to be dropped after the lock.
    fn make_room(&mut self) -> Option<Gone<K>> {
        let over = self.look_aside();
        let going = match self.choose() {
            Some(going) => {
                self.aside.extend(over);
                Some(going)
            }
            // Or one that was set aside only now.
            None => over.or_else(|| self.look_aside()),
        };
        going.map(|key| self.forget(key))
    }

    /// Takes the one out of the queue that is to go. What keeps its place is set aside.
    fn choose(&mut self) -> Option<K> {
        let mut chosen: Option<(Worth, K)> = None;
        let mut looks = LOOKS;
        for _ in 0..self.queue.len().min(WALK) {
            let Some(key) = self.queue.pop_front() else {
                break;
            };
            let Some(entry) = self.by_key.get(&key) else {
                continue;
            };
            if !entry.is_spare() {
                self.aside.push_back(key);
                continue;
            }
            let worth = entry.worth();
            let other = match &chosen {
                Some((least, _)) if *least <= worth => Some(key),
                _ => chosen.replace((worth, key)).map(|(_, key)| key),
            };
            self.queue.extend(other);
            looks -= 1;
            if worth == Worth::default() || looks == 0 {
                break;
            }
        }
        chosen.map(|(_, key)| key)
    }

    /// Puts those that may go by now back into the queue, and takes out one whose open time is over.
    fn look_aside(&mut self) -> Option<K> {
        let mut over = None;
        for _ in 0..self.aside.len().min(LOOKS_ASIDE) {
            let Some(key) = self.aside.pop_front() else {
                break;
            };
            let Some(entry) = self.by_key.get(&key) else {
                continue;
            };
            if entry.is_spare() {
                self.queue.push_back(key);
            } else if over.is_none() && entry.is_over() {
                over = Some(key);
            } else {
                self.aside.push_back(key);
            }
        }
        over
    }

    fn forget(&mut self, key: K) -> Gone<K> {
        let known = self.by_key.remove_entry(&key);
        if let Some((_, entry)) = &known {
            entry.breaker.cell().remove();
        }
        (key, known)
    }
}

/// Takes a key out of those that are there once at most.
fn take<K: Borrow<Q>, Q: Eq + ?Sized>(keys: &mut VecDeque<K>, key: &Q) -> Option<K> {
    let place = keys.iter().position(|it| it.borrow() == key)?;
    keys.remove(place)
}

/// What is lost with a breaker that goes; the least is the default.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Worth {
    has_record: bool,
    was_used: bool,
}

impl Entry {
    /// Whether it may go: it is closed, and nobody has it.
    fn is_spare(&self) -> bool {
        !self.breaker.is_shared() && self.breaker.state() == BreakerState::Closed
    }

    /// Whether its open time is over, and nobody has it, a probe neither.
    fn is_over(&self) -> bool {
        !self.breaker.is_shared() && self.breaker.state() == BreakerState::HalfOpen
    }

    fn worth(&self) -> Worth {
        Worth {
            has_record: !self.breaker.cell().is_as_new(),
            was_used: self.is_used.swap(false, Relaxed),
        }
    }

    fn used(&self) -> Breaker {
        // Written only where it changes something, or all callers would fight for the line.
        if !self.is_used.load(Relaxed) {
            self.is_used.store(true, Relaxed);
        }
        self.breaker.clone()
    }
}

impl<K> Clone for KeyedBreakers<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> fmt::Debug for KeyedBreakers<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedBreakers")
            .field("name", &self.0.service)
            .field("keys", &self.len())
            .field("max_keys", &self.0.max_keys)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
