use std::fmt;
use std::ops::Deref;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::{ActorPath, Incarnation, Moment};

use crate::machine::Lent;
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
        self.lease.lent.desk.node.path()
    }

    /// Returns the run of the worker that was borrowed.
    #[must_use]
    pub fn incarnation(&self) -> &Arc<Incarnation> {
        &self.lease.lent.desk.incarnation
    }

    /// Returns for how long it has been held.
    #[must_use]
    pub fn held_for(&self) -> Duration {
        self.lease.lent.desk.cells.since(self.lease.since)
    }

    /// Returns where it was checked out.
    #[must_use]
    pub fn location(&self) -> &'static Location<'static> {
        self.lease.location
    }

    /// Returns for how long the worker had been idle when it was borrowed.
    pub(crate) fn was_idle_for(&self) -> Duration {
        let idle_since = self.lease.lent.idle_since;
        idle_since.map_or(Duration::ZERO, |idle| self.lease.since.since(idle))
    }

    /// Checks the worker in as one that is not in order: it is killed and started anew.
    pub fn discard(mut self) {
        self.lease.unfit = true;
    }

    pub(crate) fn discard_as_unfit(self, why: &str) {
        event::unfit(&self.lease.lent.desk.cells.name, self.worker(), why);
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
pub(crate) struct Lease {
    pub(crate) lent: Lent<Arc<Desk>>,
    pub(crate) since: Moment,
    pub(crate) location: &'static Location<'static>,
    /// It is not to be lent again.
    pub(crate) unfit: bool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.lent.desk.cells.check_in(self);
    }
}
