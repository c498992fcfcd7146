use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::{ActorName, Incarnation, Monitor};
use ractor::{Message, RpcReplyPort};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::slot::Slot;
use crate::{CallError, CastError, Refusal, ResolveError, event};

/// How long a call waits to hear why its callee dropped the reply port: the end of an actor is recorded a
/// moment after its messages are dropped.
const END_GRACE: Duration = Duration::from_millis(20);

/// A resolved name: sending through it needs no look-up, and it stays right over restarts.
pub struct Address<M> {
    slot: Arc<Slot>,
    message: PhantomData<fn(M)>,
}

impl<M: Message> Address<M> {
    pub(crate) fn new(slot: Arc<Slot>) -> Self {
        Self {
            slot,
            message: PhantomData,
        }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &ActorName {
        &self.slot.name
    }

    /// Returns the run of the actor that is alive now.
    #[must_use]
    pub fn incarnation(&self) -> Option<Arc<Incarnation>> {
        self.slot.node.load().as_ref()?.place.current()
    }

    /// Watches the actor of the name, as [`Node::monitor`](perennial_lifecycle::Node::monitor) does.
    ///
    /// The address goes on to the next run, the monitor does not.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] when no actor was started under the name.
    pub fn monitor(&self) -> Result<Monitor, ResolveError> {
        match &*self.slot.node.load() {
            Some(bound) => Ok(bound.node().monitor()),
            None => Err(ResolveError(Refusal::Unknown {
                name: self.name().clone(),
            })),
        }
    }

    /// Sends a message and does not wait for anything.
    ///
    /// # Errors
    ///
    /// [`CastError`] hands the message back when the gate refuses or the actor is not running.
    pub fn cast(&self, message: M) -> Result<(), CastError<M>> {
        let checked = self.slot.check_type::<M>();
        let result = match checked.and_then(|()| self.slot.admit()) {
            Err(refusal) => Err(CastError { message, refusal }),
            Ok(()) => self.slot.deliver(message).map(drop),
        };
        if let Err(error) = &result {
            event::refused(&error.refusal);
        }
        result
    }

    /// Sends a message; when the actor is down, waits for it to come back, `wait` at the longest.
    ///
    /// # Errors
    ///
    /// [`CastError`] hands the message back when the gate refuses, or the actor is still down.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: when dropped before it is ready, the message was not sent.
    pub async fn send(&self, message: M, wait: Duration) -> Result<(), CastError<M>> {
        let checked = self.slot.check_type::<M>();
        if let Err(refusal) = checked.and_then(|()| self.slot.admit()) {
            event::refused(&refusal);
            return Err(CastError { message, refusal });
        }
        self.deliver_by(message, Instant::now() + wait)
            .await
            .map(drop)
            .inspect_err(|error| event::refused(&error.refusal))
    }

    /// Sends a message that carries a reply port, and waits for the reply.
    ///
    /// While the actor is being restarted the message waits here, within the timeout.
    ///
    /// # Errors
    ///
    /// - [`CallError::Refused`]: not delivered.
    /// - [`CallError::TimedOut`]: no answer by the deadline.
    /// - [`CallError::CalleeFailed`]: the actor ended while it held the message.
    /// - [`CallError::NoReply`]: the actor dropped the reply port and lives on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the answer; a message that was delivered is handled all the same.
    pub async fn call<T: Send + 'static>(
        &self,
        make: impl FnOnce(RpcReplyPort<T>) -> M,
        timeout: Duration,
    ) -> Result<T, CallError> {
        let span = event::call_span(self.name());
        let result = self.try_call(make, timeout).instrument(span).await;
        if let Err(error) = &result {
            event::call_failed(error);
        }
        result
    }

    async fn try_call<T: Send + 'static>(
        &self,
        make: impl FnOnce(RpcReplyPort<T>) -> M,
        timeout: Duration,
    ) -> Result<T, CallError> {
        let deadline = Instant::now() + timeout;
        self.slot.check_type::<M>()?;
        self.slot.admit()?;
        let (reply, mut answer) = oneshot::channel();
        let callee = self
            .deliver_by(make(reply.into()), deadline)
            .await
            .map_err(|error| error.refusal)?;
        match tokio::time::timeout_at(deadline, callee.answer(&mut answer)).await {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(self.why_dropped(&callee).await),
            Err(_) => Err(CallError::TimedOut {
                name: self.name().clone(),
                timeout,
            }),
        }
    }

    async fn why_dropped(&self, callee: &Incarnation) -> CallError {
        let name = self.name().clone();
        match tokio::time::timeout(END_GRACE, callee.ended()).await {
            Ok(reason) => CallError::CalleeFailed { name, reason },
            Err(_) => CallError::NoReply { name },
        }
    }

    async fn deliver_by(
        &self,
        mut message: M,
        deadline: Instant,
    ) -> Result<Arc<Incarnation>, CastError<M>> {
        loop {
            let error = match self.slot.deliver(message) {
                Ok(incarnation) => return Ok(incarnation),
                Err(error) => error,
            };
            let node = match (&error.refusal, &*self.slot.node.load()) {
                (Refusal::NotRunning { .. }, Some(bound)) => Arc::clone(bound.node()),
                _ => return Err(error),
            };
            // One that is ending still has its node: wait for the change, not only for an entry.
            let changed = node.changed();
            let alive = node
                .current()
                .is_some_and(|it| it.cell().get_status() < ractor::ActorStatus::Draining);
            if !alive && tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Err(error);
            }
            message = error.message;
        }
    }
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        Self {
            slot: Arc::clone(&self.slot),
            message: PhantomData,
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
