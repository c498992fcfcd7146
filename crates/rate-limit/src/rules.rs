//! The quotas that a store has seen, by number.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use foldhash::fast::RandomState;

use crate::{machine::Engine, quota::Quota};

/// An engine with its number: a key's state holds only the number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) id: u32,
    pub(crate) engine: Engine,
}

/// Engines are few and stay known: there are as many as a host has quotas.
#[derive(Debug, Default)]
pub(crate) struct Rules(RwLock<Known>);

#[derive(Debug, Default)]
pub(crate) struct Known {
    engines: Vec<Engine>,
    ids: HashMap<Engine, u32, RandomState>,
}

impl Rules {
    pub(crate) fn rule(&self, quota: &Quota) -> Rule {
        let engine = Engine::new(quota);
        let id = self.known().ids.get(&engine).copied();
        Rule {
            id: id.unwrap_or_else(|| self.add(engine)),
            engine,
        }
    }

    /// Whoever asks may hold the lock of a shard; here none is ever taken.
    pub(crate) fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    #[cold]
    fn add(&self, engine: Engine) -> u32 {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = known.ids.get(&engine) {
            return *id;
        }
        let id = u32::try_from(known.engines.len());
        // Their memory would be full long before.
        let id = id.unwrap_or_else(|_| unreachable!("more than four billion quotas"));
        known.engines.push(engine);
        known.ids.insert(engine, id);
        id
    }
}

impl Known {
    pub(crate) fn engine(&self, id: u32) -> &Engine {
        &self.engines[id as usize]
    }
}
