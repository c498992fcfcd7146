use std::fmt;
use std::ops::Deref;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::{ActorPath, Incarnation};
use tokio::time::Instant;

use crate::Worker;
use crate::cells::Cells;
use crate::seat::Seat;
use crate::worker::Loan;

/// A borrowed worker; dropping it checks the worker in.
///
/// It dereferences to the worker's [`Client`](Worker::Client).
///
/// A worker that is checked in while a call to it is unanswered, because the caller was cancelled in the
/// middle of it, is killed: its supervisor starts it anew, and only then is it lent again. Messages that
/// were cast do not count; they are handled before those of the next holder.
#[must_use = "dropping it checks the worker in"]
pub struct Checkout<W: Worker> {
    // Dropped first: what the client does when it goes still happens within the loan.
    client: W::Client,
    lease: Lease,
}

impl<W: Worker> Checkout<W> {
    pub(crate) fn new(client: W::Client, lease: Lease) -> Self {
        Self { client, lease }
    }

    /// Returns where the worker lives.
    #[must_use]
    pub fn worker(&self) -> &ActorPath {
        self.lease.loan.node.path()
    }

    /// Returns the run of the worker that was borrowed.
    #[must_use]
    pub fn incarnation(&self) -> &Arc<Incarnation> {
        &self.lease.loan.incarnation
    }

    /// Returns for how long it has been held.
    #[must_use]
    pub fn held_for(&self) -> Duration {
        self.lease.since.elapsed()
    }

    /// Returns where it was checked out.
    #[must_use]
    pub fn location(&self) -> &'static Location<'static> {
        self.lease.location
    }
}

impl<W: Worker> Deref for Checkout<W> {
    type Target = W::Client;

    fn deref(&self) -> &W::Client {
        &self.client
    }
}

impl<W: Worker> fmt::Debug for Checkout<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkout")
            .field("worker", self.worker())
            .field("since", &self.lease.since)
            .field("location", &self.lease.location)
            .finish_non_exhaustive()
    }
}

/// A worker on a seat: gives back the worker, then the seat.
pub(crate) struct Lease {
    pub(crate) cells: Arc<Cells>,
    pub(crate) loan: Arc<Loan>,
    pub(crate) place: usize,
    pub(crate) since: Instant,
    pub(crate) location: &'static Location<'static>,
    /// Dropped after `drop` below has put the worker back: the next in the queue finds it there.
    pub(crate) _seat: Seat,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.loan.end();
        self.cells.check_in(self.place, &self.loan, self.since);
    }
}
