//! A message that is sent by name.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use perennial_lifecycle::{ActorName, Incarnation, Moment, Node, Terms, Traffic};
use ractor::Message;

use crate::dispatch::{Callee, Target};
use crate::handle::Missed;
use crate::slot::Slot;
use crate::{CastError, Name, Refusal, Registry, WhenDown};

/// Where a single message goes: what stands behind the name is looked up when something stands in its way.
pub(crate) struct ByName<'a, M> {
    registry: &'a Registry,
    name: &'a Name<M>,
    slot: OnceLock<Arc<Slot>>,
    /// The run that is alive is the one that was met last by name, as far as was looked.
    is_known: AtomicBool,
}

impl<'a, M: Message> ByName<'a, M> {
    pub(crate) fn new(registry: &'a Registry, name: &'a Name<M>, is_known: bool) -> Self {
        Self {
            registry,
            name,
            slot: OnceLock::new(),
            is_known: AtomicBool::new(is_known),
        }
    }

    fn slot(&self) -> Result<&Arc<Slot>, Refusal> {
        if let Some(slot) = self.slot.get() {
            return Ok(slot);
        }
        let slot = self.registry.find(self.name)?;
        Ok(self.slot.get_or_init(|| slot))
    }
}

impl<M: Message> Target<M> for ByName<'_, M> {
    fn name(&self) -> &ActorName {
        self.name.as_actor_name()
    }

    fn traffic(&self) -> &Arc<Traffic> {
        &self.registry.common().traffic
    }

    fn when_down(&self) -> WhenDown {
        let chosen = self.name.chosen().get();
        chosen.unwrap_or_else(|| self.registry.common().when_down())
    }

    fn admit(&self) -> Result<(), Refusal> {
        self.slot()?.admit::<M>(self.name.key())
    }

    #[inline]
    fn deliver_quickly(
        &self,
        message: M,
        terms: impl FnOnce(Moment) -> Terms,
    ) -> Result<Callee<'_>, M> {
        let own = |run: &Arc<Incarnation>| Callee::Own(Arc::clone(run));
        let delivered = self
            .registry
            .deliver_quickly(self.name, message, terms, own);
        delivered.map_err(|Missed { message, is_known }| {
            self.is_known.store(is_known, Relaxed);
            message
        })
    }

    fn deliver<R>(
        &self,
        message: M,
        terms: impl Fn() -> Terms,
        meet: impl FnMut(&Arc<Incarnation>) -> Result<R, Refusal>,
    ) -> Result<R, CastError<M>> {
        let slot = match self.slot() {
            Ok(slot) => slot,
            Err(refusal) => return Err(CastError { message, refusal }),
        };
        let delivered = slot.deliver(None, message, terms, meet);
        if !self.is_known.load(Relaxed) {
            self.registry.remember(slot);
        }
        delivered
    }

    fn place(&self) -> Option<Arc<Node>> {
        self.slot.get()?.place()
    }

    fn full(&self) -> Vec<Arc<Incarnation>> {
        let present = self.slot.get().and_then(|slot| slot.present());
        present.into_iter().collect()
    }

    async fn back(&self) {
        if let Some(slot) = self.slot.get() {
            slot.back().await;
        }
    }

    fn count_refused(&self) {
        // It may be refused before anybody has looked up the name.
        match self.slot() {
            Ok(slot) => slot.count_refused(),
            Err(_) => self.registry.common().traffic.count_refused(),
        }
    }
}
