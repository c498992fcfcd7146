//! Leave to make one call.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::CircuitOpen;
use crate::cell::Cell;
use crate::gate::Ticket;
use crate::machine::{Timing, Verdict, nanos};

/// What a call says about the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The service works.
    Success,
    /// The service does not work.
    Failure,
    /// The call says nothing about the service; counted as cancelled.
    Ignored,
}

/// Leave to make one call, from [`Breaker::try_acquire`](crate::Breaker::try_acquire).
///
/// Dropped without a result it counts as cancelled, is judged neither way, and frees the place that it held in a
/// half-open breaker. It remembers in which state the call was admitted: a result that comes when the breaker has
/// moved on is counted in the totals and changes nothing else.
#[must_use = "a permit that is dropped counts as a cancelled call"]
#[derive(Debug)]
pub struct Permit<'a>(Held<&'a Cell>);

/// A [`Permit`] that shares the breaker instead of borrowing it.
#[must_use = "a permit that is dropped counts as a cancelled call"]
#[derive(Debug)]
pub struct OwnedPermit(Held<Arc<Cell>>);

impl<'a> Permit<'a> {
    pub(crate) fn new(cell: &'a Cell, ticket: Ticket) -> Self {
        Self(Held {
            cell,
            ticket: Some(ticket),
        })
    }

    /// Says whether the breaker has not moved since the call was admitted, so that it would be admitted
    /// [again](Self::renew).
    #[inline]
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.0.is_current()
    }

    /// Asks again, for a call that has waited for something else since it was admitted.
    ///
    /// A breaker that has not moved meanwhile admits it still. One that has is asked anew: it refuses if it is open by
    /// now, and what the call comes to counts in the state in which it is begun. Either way the call is counted once.
    ///
    /// # Errors
    ///
    /// As [`Breaker::try_acquire`](crate::Breaker::try_acquire).
    pub fn renew(self) -> Result<Self, CircuitOpen> {
        self.0.renew().map(Self)
    }

    /// Reports that the service works.
    #[inline]
    pub fn success(self) {
        self.0.end(Verdict::Success);
    }

    /// Reports that the service does not work.
    #[inline]
    pub fn failure(self) {
        self.0.end(Verdict::Failure);
    }

    /// Reports an outcome.
    #[inline]
    pub fn record(self, outcome: Outcome) {
        self.0.end(outcome.into());
    }

    /// Reports an outcome, and how long the operation took by the caller's own clock.
    ///
    /// For a condition on slow calls, where the time since the permit was given is not the operation's: because the
    /// caller waited for something else in between.
    #[inline]
    pub fn record_timed(self, outcome: Outcome, took: Duration) {
        self.0.end_timed(outcome.into(), took);
    }
}

impl OwnedPermit {
    pub(crate) fn new(cell: Arc<Cell>, ticket: Ticket) -> Self {
        Self(Held {
            cell,
            ticket: Some(ticket),
        })
    }

    /// Says whether the breaker has not moved since the call was admitted, so that it would be admitted
    /// [again](Self::renew).
    #[inline]
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.0.is_current()
    }

    /// Asks again, for a call that has waited for something else since it was admitted.
    ///
    /// A breaker that has not moved meanwhile admits it still. One that has is asked anew: it refuses if it is open by
    /// now, and what the call comes to counts in the state in which it is begun. Either way the call is counted once.
    ///
    /// # Errors
    ///
    /// As [`Breaker::try_acquire`](crate::Breaker::try_acquire).
    pub fn renew(self) -> Result<Self, CircuitOpen> {
        self.0.renew().map(Self)
    }

    /// Reports that the service works.
    #[inline]
    pub fn success(self) {
        self.0.end(Verdict::Success);
    }

    /// Reports that the service does not work.
    #[inline]
    pub fn failure(self) {
        self.0.end(Verdict::Failure);
    }

    /// Reports an outcome.
    #[inline]
    pub fn record(self, outcome: Outcome) {
        self.0.end(outcome.into());
    }

    /// Reports an outcome, and how long the operation took by the caller's own clock.
    ///
    /// For a condition on slow calls, where the time since the permit was given is not the operation's: because the
    /// caller waited for something else in between.
    #[inline]
    pub fn record_timed(self, outcome: Outcome, took: Duration) {
        self.0.end_timed(outcome.into(), took);
    }
}

impl From<Outcome> for Verdict {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success => Self::Success,
            Outcome::Failure => Self::Failure,
            Outcome::Ignored => Self::Cancelled,
        }
    }
}

/// A ticket that is handed back exactly once.
struct Held<C: Deref<Target = Cell>> {
    cell: C,
    /// Taken when the result is in; what is left at the drop is a cancelled call.
    ticket: Option<Ticket>,
}

impl<C: Deref<Target = Cell>> Held<C> {
    #[inline]
    fn is_current(&self) -> bool {
        self.ticket
            .is_none_or(|ticket| self.cell.is_current(ticket))
    }

    /// A ticket of a state that is over holds no place, so it need not be handed back.
    fn renew(mut self) -> Result<Self, CircuitOpen> {
        if let Some(ticket) = self.ticket.take() {
            self.ticket = Some(self.cell.renew(ticket)?);
        }
        Ok(self)
    }

    #[inline]
    fn end(mut self, verdict: Verdict) {
        if let Some(ticket) = self.ticket.take() {
            self.cell.settle(ticket, verdict, ticket.timing());
        }
    }

    #[inline]
    fn end_timed(mut self, verdict: Verdict, took: Duration) {
        if let Some(ticket) = self.ticket.take() {
            self.cell.settle(ticket, verdict, Timing::Took(nanos(took)));
        }
    }
}

impl<C: Deref<Target = Cell>> Drop for Held<C> {
    #[inline]
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.cell
                .settle(ticket, Verdict::Cancelled, ticket.timing());
        }
    }
}

impl<C: Deref<Target = Cell>> fmt::Debug for Held<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("breaker", self.cell.name())
            .finish_non_exhaustive()
    }
}
