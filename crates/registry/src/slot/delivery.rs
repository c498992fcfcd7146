//! How a message gets to the run that a slot leads to, and why it does not.

use std::sync::atomic::Ordering::Acquire;
use std::sync::{Arc, OnceLock};

use perennial_lifecycle::{ChildState, Incarnation, MessageType, Node, Terms, Undelivered};
use ractor::{ActorStatus, Message};
use tokio::time::Instant;

use super::{Held, Own, Slot, takes};
use crate::{CastError, Refusal};

impl Slot {
    /// Returns the run that was found last.
    pub(crate) fn seen(&self) -> Option<Held> {
        self.seen.load().as_deref().cloned()
    }

    /// Hands the message to the actor that lives here now, without asking the gate.
    ///
    /// `own` is where an address keeps the first run that it meets: nearly always the one that is alive.
    #[inline]
    pub(crate) fn deliver<M: Message, R>(
        &self,
        own: Option<&OnceLock<Own<M>>>,
        message: M,
        terms: impl FnOnce() -> Terms,
        meet: impl FnMut(&Arc<Incarnation>) -> Result<R, Refusal>,
    ) -> Result<R, CastError<M>> {
        if let Some(held) = own.and_then(OnceLock::get)
            && held.is_present(self)
        {
            return self.hand_over(held.run(), message, terms, meet);
        }
        if let Some(held) = &*self.seen.load()
            && held.is_present(self)
        {
            if let Some(own) = own {
                own.get_or_init(|| Own::new(held));
            }
            return self.hand_over(&held.run, message, terms, meet);
        }
        self.find_and_deliver(message, terms, meet)
    }

    #[inline]
    fn hand_over<M: Message, R>(
        &self,
        run: &Arc<Incarnation>,
        message: M,
        terms: impl FnOnce() -> Terms,
        mut meet: impl FnMut(&Arc<Incarnation>) -> Result<R, Refusal>,
    ) -> Result<R, CastError<M>> {
        let met = match meet(run) {
            Ok(met) => met,
            Err(refusal) => return Err(CastError { message, refusal }),
        };
        // The run itself looks at the type: the place may have got an actor of another one at this moment.
        let undelivered = match run.offer_on(message, terms) {
            Ok(()) => return Ok(met),
            Err(undelivered) => undelivered,
        };
        let refusal = match &undelivered {
            Undelivered::Full(_) => self.full(run),
            Undelivered::Ended(_) => self.not_running(run.node()),
            Undelivered::ShuttingDown(_) => self.shutting_down(),
            Undelivered::WrongType(_) => self.wrong_type::<M>(run.message_type()),
        };
        let message = undelivered.into_inner();
        Err(CastError { message, refusal })
    }

    /// Looks for the run from scratch, and remembers it.
    #[cold]
    fn find_and_deliver<M: Message, R>(
        &self,
        message: M,
        terms: impl FnOnce() -> Terms,
        meet: impl FnMut(&Arc<Incarnation>) -> Result<R, Refusal>,
    ) -> Result<R, CastError<M>> {
        // Before the look: what is found may be out of date by then, and is never taken for newer than it is.
        let version = self.version.load(Acquire);
        let bound = self.node.load();
        let Some(bound) = &*bound else {
            let name = self.name.clone();
            let refusal = Refusal::Unknown { name };
            return Err(CastError { message, refusal });
        };
        let Some(run) = bound.node().current() else {
            // It holds what it saw for no longer than that lives.
            self.seen.store(None);
            let refusal = if takes::<M>(bound.message) {
                self.not_running(bound.node())
            } else {
                self.wrong_type::<M>(bound.message)
            };
            return Err(CastError { message, refusal });
        };
        let held = Held { run, version };
        self.seen.store(Some(Arc::new(held.clone())));
        self.hand_over(&held.run, message, terms, meet)
    }

    pub(crate) fn full(&self, run: &Incarnation) -> Refusal {
        Refusal::Full {
            name: self.name.clone(),
            capacity: run.mailbox().capacity(),
        }
    }

    /// Returns the run that is alive now. An address keeps the first that it meets.
    #[inline]
    pub(crate) fn meet<M: Message>(&self, own: &OnceLock<Own<M>>) -> Option<Arc<Incarnation>> {
        match own.get().filter(|held| held.is_present(self)) {
            Some(held) => Some(Arc::clone(held.run())),
            None => self.meet_anew(own),
        }
    }

    #[cold]
    fn meet_anew<M: Message>(&self, own: &OnceLock<Own<M>>) -> Option<Arc<Incarnation>> {
        let held = match self.seen().filter(|held| held.is_present(self)) {
            Some(held) => held,
            None => {
                // Before the look, as for a message.
                let version = self.version.load(Acquire);
                let run = self.present()?;
                let held = Held { run, version };
                self.seen.store(Some(Arc::new(held.clone())));
                held
            }
        };
        own.get_or_init(|| Own::new(&held));
        Some(held.run)
    }

    pub(crate) fn place(&self) -> Option<Arc<Node>> {
        Some(Arc::clone(self.node.load().as_ref()?.node()))
    }

    pub(crate) fn present(&self) -> Option<Arc<Incarnation>> {
        self.node.load().as_ref()?.node.current()
    }

    pub(crate) fn count_refused(&self) {
        match &*self.node.load() {
            Some(bound) => bound.node().count_refused(&self.common.traffic),
            None => self.common.traffic.count_refused(),
        }
    }

    /// Waits until another try makes sense: the place has changed, or another one has taken the name.
    pub(crate) async fn back(&self) {
        let Some(bound) = self.node.load_full() else {
            return;
        };
        let node = bound.node();
        // Made first, and all that is waited for looked at after.
        let changed = node.changed();
        let same = self.leads_to(&bound);
        // Said between the refusal and this wait, nothing else would end it.
        let retired = node.is_retired();
        // One that is ending still has its node: wait for the change, not only for an entry.
        let alive = node
            .current()
            .is_some_and(|it| it.cell().get_status() < ActorStatus::Draining);
        if same && !alive && !retired {
            changed.await;
        } else {
            // It refused a moment ago; on one thread it can only go on when this task lets it.
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn wrong_type<M>(&self, takes: MessageType) -> Refusal {
        Refusal::WrongType {
            name: self.name.clone(),
            takes: takes.name,
            given: std::any::type_name::<M>(),
        }
    }

    pub(crate) fn shutting_down(&self) -> Refusal {
        Refusal::ShuttingDown {
            name: self.name.clone(),
        }
    }

    fn not_running(&self, node: &Node) -> Refusal {
        if self.common.traffic.refuses_sender() {
            return self.shutting_down();
        }
        let name = self.name.clone();
        if node.is_retired() {
            let bound = self.node.load();
            // Else the name has moved at this moment, and somebody is there.
            if bound
                .as_ref()
                .is_some_and(|it| std::ptr::eq(&**it.node(), node))
            {
                return Refusal::Stopped { name };
            }
        }
        let due = node.due();
        match due {
            // At that time it is about to be started: whoever can wait may.
            Some(until) if node.state() == ChildState::Quarantined && until > Instant::now() => {
                Refusal::Unavailable { name, until }
            }
            _ => Refusal::NotRunning {
                name,
                since: node.down_since(),
                next_attempt: due,
            },
        }
    }
}
