use std::fmt;
use std::ops::Deref;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::{ActorPath, Incarnation, Moment};

use crate::worker::Desk;
use crate::{Worker, event};

/// A borrowed worker; dropping it checks the worker in.
///
/// It dereferences to the worker's [`Client`](Worker::Client).
///
/// A worker that is checked in while a call to it is unanswered, because the caller was cancelled in the
/// middle of it, is killed: its supervisor starts it anew, and only then is it lent again. Messages that
/// were cast do not count; they are handled before those of the next holder.
///
/// A worker that dies on loan frees its place at its death, not at the checkin.
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
        self.lease.desk.node.path()
    }

    /// Returns the run of the worker that was borrowed.
    #[must_use]
    pub fn incarnation(&self) -> &Arc<Incarnation> {
        &self.lease.desk.incarnation
    }

    /// Returns for how long it has been held.
    #[must_use]
    pub fn held_for(&self) -> Duration {
        self.lease.desk.cells.since(self.lease.since)
    }

    /// Returns where it was checked out.
    #[must_use]
    pub fn location(&self) -> &'static Location<'static> {
        self.lease.location
    }

    /// Checks the worker in as one that is not in order: it is killed and started anew.
    pub fn discard(self) {
        self.lease.desk.discard(self.lease.loan);
    }

    pub(crate) fn discard_as_unfit(self, why: &str) {
        event::unfit(&self.lease.desk.cells.name, self.worker(), why);
        self.discard();
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
            .field("held_for", &self.held_for())
            .field("location", &self.lease.location)
            .finish_non_exhaustive()
    }
}

/// A worker on loan: gives it back when it is dropped.
///
/// Four words: it is handed on a number of times, and what is smaller than a word is written and read differently,
/// for which the processor waits.
pub(crate) struct Lease {
    pub(crate) desk: Arc<Desk>,
    pub(crate) loan: u64,
    pub(crate) since: Moment,
    pub(crate) location: &'static Location<'static>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.desk.cells.check_in(self);
    }
}
