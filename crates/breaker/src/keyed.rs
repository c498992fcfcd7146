//! One breaker for each key of a service.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::broadcast;

use crate::cell::Place;
use crate::{
    Breaker, BreakerConfig, BreakerEvent, BreakerStatus, CallError, CircuitOpen, OwnedPermit,
};

/// Events of all keys that a slow subscriber may be behind before it misses some.
const EVENTS: usize = 256;
/// A new key looks at no more than this many others for one to take the place of, so none waits long.
const LOOKS: usize = 32;

/// A breaker for each key of a service, such as a host, a tenant or a shard; a handle that is cheap to clone.
///
/// A key's breaker is made at its first use, with the settings of all. There are never more than `max_keys`: a new
/// key then takes the place of another one, which is as new when it comes back. Preferred is one that nobody uses
/// now, that was not used lately, and that has nothing on record; open breakers go only if a few dozen looks find
/// nothing better. So a flood of new keys costs no memory, and hardly a state that matters.
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
/// assert_eq!(refusal.to_string(), "circuit of `shards[\"eu-1\"]` is open");
/// assert!(shards.try_acquire("eu-2").is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct KeyedBreakers<K>(Arc<Keyed<K>>);

struct Keyed<K> {
    service: Arc<str>,
    max_keys: NonZeroUsize,
    entries: RwLock<Entries<K>>,
    events: broadcast::Sender<BreakerEvent>,
}

struct Entries<K> {
    config: BreakerConfig,
    by_key: HashMap<K, Entry>,
    /// Every key, in the order in which they are looked at for one to go.
    queue: VecDeque<K>,
}

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
            entries: RwLock::new(Entries {
                config,
                by_key: HashMap::new(),
                queue: VecDeque::new(),
            }),
            events: broadcast::Sender::new(EVENTS),
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

    /// Returns the status of every key's breaker, in no order.
    #[must_use]
    pub fn status(&self) -> Vec<BreakerStatus> {
        let breakers: Vec<Breaker> = {
            let entries = self.read();
            let breakers = entries.by_key.values();
            breakers.map(|entry| entry.breaker.clone()).collect()
        };
        breakers.iter().map(Breaker::status).collect()
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
        let mut entries = self.write();
        let breakers: Vec<Breaker> = entries
            .by_key
            .values()
            .map(|entry| entry.breaker.clone())
            .collect();
        entries.config = config.clone();
        drop(entries);
        for breaker in breakers {
            breaker.reconfigure(config.clone());
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Entries<K>> {
        self.0
            .entries
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries<K>> {
        self.0
            .entries
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone + fmt::Debug> KeyedBreakers<K> {
    /// Returns the breaker of a key, which is made if there is none.
    ///
    /// Who keeps it keeps its place as well. For a key that is there it allocates nothing.
    pub fn get<Q>(&self, key: &Q) -> Breaker
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        if let Some(entry) = self.read().by_key.get(key) {
            return entry.used();
        }
        let mut entries = self.write();
        // Another thread may have been first.
        if let Some(entry) = entries.by_key.get(key) {
            return entry.used();
        }
        while entries.by_key.len() >= self.0.max_keys.get() {
            entries.make_room();
        }
        let key = key.to_owned();
        let place = Place::Keyed {
            service: Arc::clone(&self.0.service),
            events: self.0.events.clone(),
        };
        let name = format!("{}[{key:?}]", self.0.service);
        let breaker = Breaker::placed(name.into(), entries.config.clone(), place);
        entries.queue.push_back(key.clone());
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
        let entry = entries.by_key.remove(key)?;
        entries.queue.retain(|queued| queued.borrow() != key);
        entry.breaker.cell().remove();
        Some(entry.breaker)
    }
}

impl<K: Hash + Eq> Entries<K> {
    /// Lets one key go.
    fn make_room(&mut self) {
        // One with nothing on record, though it was used since the last look.
        let mut recent = None;
        for _ in 0..self.queue.len().min(LOOKS) {
            let Some(key) = self.queue.pop_front() else {
                break;
            };
            let Some(entry) = self.by_key.get(&key) else {
                continue;
            };
            let was_used = entry.is_used.swap(false, Relaxed);
            if !entry.breaker.is_shared() && entry.breaker.cell().is_as_new() {
                if !was_used {
                    self.forget(&key);
                    self.queue.extend(recent);
                    return;
                }
                if recent.is_none() {
                    recent = Some(key);
                    continue;
                }
            }
            self.queue.push_back(key);
        }
        // Else all that were looked at are in use or have something on record, and the next in turn goes.
        if let Some(key) = recent.or_else(|| self.queue.pop_front()) {
            self.forget(&key);
        }
    }

    fn forget(&mut self, key: &K) {
        if let Some(entry) = self.by_key.remove(key) {
            entry.breaker.cell().remove();
        }
    }
}

impl Entry {
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
