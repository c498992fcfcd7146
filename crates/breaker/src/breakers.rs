//! The breakers of one tree, by name.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use perennial_lifecycle::shield;
use tokio::sync::broadcast;

use crate::cell::Place;
use crate::event;
use crate::{Breaker, BreakerConfig, BreakerEvent, BreakerStatus, DuplicateBreaker};

/// Events of all breakers that a slow subscriber may be behind before it misses some.
const EVENTS: usize = 256;

/// The breakers of one tree, by the name of their service; a handle that is cheap to clone.
///
/// # Examples
///
/// ```
/// use perennial_breaker::{BreakerConfig, Breakers};
///
/// let breakers = Breakers::new();
/// breakers.register("mail", BreakerConfig::default())?;
///
/// assert!(breakers.get("mail").is_some());
/// assert!(breakers.get("male").is_none());
/// assert!(breakers.register("mail", BreakerConfig::default()).is_err());
/// # Ok::<(), perennial_breaker::DuplicateBreaker>(())
/// ```
#[derive(Clone)]
pub struct Breakers(Arc<Set>);

struct Set {
    by_name: RwLock<BTreeMap<Arc<str>, Breaker>>,
    events: broadcast::Sender<BreakerEvent>,
}

impl Breakers {
    /// Makes an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Set {
            by_name: RwLock::default(),
            events: broadcast::Sender::new(EVENTS),
        }))
    }

    /// Makes a closed breaker and files it under its name.
    ///
    /// # Errors
    ///
    /// [`DuplicateBreaker`] if the name is taken; the breaker that has it is left as it is.
    pub fn register(
        &self,
        name: impl Into<Arc<str>>,
        config: BreakerConfig,
    ) -> Result<Breaker, DuplicateBreaker> {
        let mut by_name = self
            .0
            .by_name
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        match by_name.entry(name.into()) {
            Entry::Occupied(taken) => Err(DuplicateBreaker {
                name: taken.key().as_ref().to_owned(),
            }),
            Entry::Vacant(free) => {
                let name = Arc::clone(free.key());
                let place = Place::Named(self.0.events.clone());
                let breaker = Breaker::placed(Arc::clone(&name), config, place);
                free.insert(breaker.clone());
                drop(by_name);
                self.tell(BreakerEvent::registered(name));
                Ok(breaker)
            }
        }
    }

    /// Takes a breaker out of the set, and returns it.
    ///
    /// Its name is free at once. Whoever still has the breaker can go on with it, but the set does not hear of it any
    /// more, nor do the metrics.
    pub fn remove(&self, name: &str) -> Option<Breaker> {
        let mut by_name = self
            .0
            .by_name
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let breaker = by_name.remove(name)?;
        breaker.cell().remove();
        drop(by_name);
        breaker.cell().clear_state();
        if let Some(successor) = self.get(name) {
            // It has the name, and so the metrics, since the lock was free; what it said of itself may be cleared.
            successor.cell().publish();
        }
        let state = breaker.state();
        self.tell(BreakerEvent::removed(
            Arc::clone(breaker.cell().name()),
            state,
        ));
        Some(breaker)
    }

    fn tell(&self, event: BreakerEvent) {
        shield(|| event::log(&event));
        // An error only says that nobody listens.
        shield(|| drop(self.0.events.send(event)));
    }

    /// Returns the breaker of this name, or `None` if there is none.
    ///
    /// A caller that needs one and finds none has to refuse: an operation must not run unprotected because of a
    /// misspelt name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Breaker> {
        self.0
            .by_name
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    /// Goes through the breakers registered now, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Breaker> + use<> {
        let by_name = self
            .0
            .by_name
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        by_name.values().cloned().collect::<Vec<_>>().into_iter()
    }

    /// Returns the status of every breaker, by name.
    #[must_use]
    pub fn status(&self) -> Vec<BreakerStatus> {
        self.iter().map(|breaker| breaker.status()).collect()
    }

    /// Subscribes to the events of every breaker of the set, registered before or after.
    ///
    /// A subscriber that falls far behind misses the oldest and is told how many.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<BreakerEvent> {
        self.0.events.subscribe()
    }
}

impl Default for Breakers {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Breakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BreakerState;

    #[test]
    fn breakers_of_one_set_do_not_touch_each_other() {
        let breakers = Breakers::new();
        let a = breakers.register("a", BreakerConfig::default()).unwrap();
        breakers.register("b", BreakerConfig::default()).unwrap();
        let mut events = breakers.events();
        a.trip();

        let states: Vec<_> = breakers
            .status()
            .into_iter()
            .map(|status| (status.name, status.state))
            .collect();
        assert_eq!(
            states,
            [
                ("a".to_owned(), BreakerState::Open),
                ("b".to_owned(), BreakerState::Closed)
            ]
        );
        assert_eq!(events.try_recv().unwrap().breaker(), "a");
        assert!(events.try_recv().is_err());
    }

    #[test]
    fn registering_a_taken_name_is_an_error_and_changes_nothing() {
        let breakers = Breakers::new();
        breakers
            .register("a", BreakerConfig::default())
            .unwrap()
            .trip();
        let other = BreakerConfig::builder()
            .half_open_permits(9)
            .build()
            .unwrap();
        let error = breakers.register("a", other).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a breaker named `a` is registered already"
        );

        let kept = breakers.get("a").unwrap();
        assert_eq!(
            (kept.state(), kept.config()),
            (BreakerState::Open, BreakerConfig::default())
        );
        assert_eq!(breakers.iter().len(), 1);
    }
}
