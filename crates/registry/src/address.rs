use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use perennial_lifecycle::{
    ActorName, ActorPath, Entry, Incarnation, Monitor, Node, Terms, Traffic,
};
use ractor::{Message, RpcReplyPort};

use crate::dispatch::{self, Target};
use crate::policy::Chosen;
use crate::slot::{Own, Slot};
use crate::watch::NameWatch;
use crate::{CallError, CastError, Name, Refusal, ResolveError, SenderKey, WhenDown};

/// A resolved name: sending through it needs no look-up, and it stays right over restarts.
pub struct Address<M> {
    slot: Arc<Slot>,
    when_down: Chosen,
    key: Option<SenderKey>,
    /// The first run that it met: while that lives, sending takes no look at what the name leads to.
    first: OnceLock<Own<M>>,
}

/// The run of an actor that a name leads to at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Present {
    /// Counts the runs of the name: a later run has a higher one, also when the name has moved to another place in the
    /// tree, or was forgotten in between. Starts that failed leave gaps.
    pub epoch: u64,
    /// Where it lives.
    pub path: ActorPath,
    /// The run.
    pub incarnation: Arc<Incarnation>,
}

impl<M: Message> Address<M> {
    pub(crate) fn new(slot: Arc<Slot>, name: &Name<M>) -> Self {
        Self {
            slot,
            when_down: name.chosen(),
            key: name.key(),
            first: OnceLock::new(),
        }
    }

    /// Chooses what a message does whose actor is down, for all that is sent through this address.
    #[must_use]
    pub fn when_down(mut self, when_down: WhenDown) -> Self {
        self.when_down = Chosen::new(when_down);
        self
    }

    /// Gives the key of whoever sends through this address to the gate before the name; see [`Name::for_key`].
    ///
    /// Where one address serves many senders, a clone for each costs as much as a handle.
    #[must_use]
    pub fn for_key(mut self, key: &(impl Hash + ?Sized)) -> Self {
        self.key = Some(SenderKey::of(key));
        self
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &ActorName {
        &self.slot.name
    }

    /// Returns where the actor of the name lives, also while it is down; `None` when none was started under it.
    #[must_use]
    pub fn path(&self) -> Option<ActorPath> {
        let bound = self.slot.node.load();
        Some(bound.as_ref()?.node().path().clone())
    }

    /// Returns the run of the actor that is alive now.
    #[must_use]
    pub fn incarnation(&self) -> Option<Arc<Incarnation>> {
        self.slot.meet(&self.first)
    }

    /// Returns the run that is alive now with its epoch.
    #[must_use]
    pub fn present(&self) -> Option<Present> {
        self.slot.node.load().as_ref()?.present()
    }

    /// Watches the actor of the name, as [`Node::monitor`](perennial_lifecycle::Node::monitor) does.
    ///
    /// The address goes on to the next run, the monitor does not.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] when no actor was started under the name.
    #[track_caller]
    pub fn monitor(&self) -> Result<Monitor, ResolveError> {
        match &*self.slot.node.load() {
            Some(bound) => Ok(bound.node().monitor()),
            None => Err(ResolveError(Refusal::Unknown {
                name: self.name().clone(),
            })),
        }
    }

    /// Follows the name over all its runs; see [`Registry::watch`](crate::Registry::watch).
    pub fn watch(&self) -> NameWatch {
        NameWatch::new(Arc::clone(&self.slot))
    }

    /// Sends a message and does not wait for anything.
    ///
    /// # Errors
    ///
    /// [`CastError`] hands the message back when the gate refuses or the actor is not running.
    pub fn cast(&self, message: M) -> Result<(), CastError<M>> {
        // A look at the message only after the step that lets it in: see `Entry`.
        let Some((entry, _)) = self.enter_quickly() else {
            return dispatch::cast(self, message);
        };
        match entry.send(message, |_| Terms::default()) {
            Ok(()) => Ok(()),
            Err(message) => dispatch::cast(self, message),
        }
    }

    /// Sends a message, and waits until it can be handed over, `wait` at the longest: for an actor that is down to come
    /// back, unless [`WhenDown`] says otherwise, and for room in its mailbox, unless
    /// [that](perennial_lifecycle::Mailbox) says otherwise.
    ///
    /// # Errors
    ///
    /// [`CastError`] hands the message back when the gate refuses, or the actor is still down, or its mailbox still full.
    ///
    /// # Panics
    ///
    /// Where it has to wait outside of a tokio runtime, or in one whose timers are not enabled.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: when dropped before it is ready, the message was not sent.
    pub async fn send(&self, message: M, wait: Duration) -> Result<(), CastError<M>> {
        dispatch::send(self, message, wait).await
    }

    /// Sends a message that carries a reply port, and waits for the reply.
    ///
    /// While the actor is being restarted the message waits here, within the timeout, unless [`WhenDown`] says
    /// otherwise.
    ///
    /// # Errors
    ///
    /// - [`CallError::Refused`]: not delivered.
    /// - [`CallError::TimedOut`]: no answer by the deadline.
    /// - [`CallError::CalleeFailed`]: the actor ended while it held the message.
    /// - [`CallError::Dropped`]: the mailbox dropped the message for a later one.
    /// - [`CallError::NoReply`]: the actor dropped the reply port and lives on.
    ///
    /// # Panics
    ///
    /// Where it has to wait outside of a tokio runtime, or in one whose timers are not enabled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the answer; a message that was delivered is handled all the same.
    pub fn call<T: Send + 'static>(
        &self,
        make: impl FnOnce(RpcReplyPort<T>) -> M,
        timeout: Duration,
    ) -> impl Future<Output = Result<T, CallError<M>>> {
        dispatch::call(self, make, timeout)
    }
}

impl<M: Message> Target<M> for Address<M> {
    fn name(&self) -> &ActorName {
        &self.slot.name
    }

    fn when_down(&self) -> WhenDown {
        self.when_down
            .get()
            .unwrap_or_else(|| self.slot.common.when_down())
    }

    fn admit(&self) -> Result<(), Refusal> {
        self.slot.admit::<M>(self.key)
    }

    fn traffic(&self) -> &Arc<Traffic> {
        &self.slot.common.traffic
    }

    #[inline(always)]
    fn enter_quickly(&self) -> Option<(Entry<'_, M>, &Arc<Incarnation>)> {
        // Another way finds it, and keeps it.
        let held = self.first.get()?;
        Some((held.enter_quickly(&self.slot)?, held.run()))
    }

    #[inline]
    fn deliver<R>(
        &self,
        message: M,
        terms: impl Fn() -> Terms,
        meet: impl FnMut(&Arc<Incarnation>) -> Result<R, Refusal>,
    ) -> Result<R, CastError<M>> {
        self.slot.deliver(Some(&self.first), message, terms, meet)
    }

    fn place(&self) -> Option<Arc<Node>> {
        self.slot.place()
    }

    fn full(&self) -> Vec<Arc<Incarnation>> {
        self.slot.present().into_iter().collect()
    }

    fn count_refused(&self) {
        self.slot.count_refused();
    }

    async fn back(&self) {
        self.slot.back().await;
    }
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        Self {
            slot: Arc::clone(&self.slot),
            when_down: self.when_down,
            key: self.key,
            first: self.first.clone(),
        }
    }
}

impl<M> fmt::Debug for Address<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Address<{}>({})",
            std::any::type_name::<M>(),
            self.slot.name
        )
    }
}
