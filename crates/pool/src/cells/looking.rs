//! Counts, lists, refusals.

use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::{ExitReason, StartError};

use super::{Cells, lock};
use crate::machine::Standing;
use crate::{CheckoutError, Holder, PoolStats, PoolStatus, PoolWorker, PoolWorkerState, event};

impl Cells {
    pub(crate) fn status(&self) -> PoolStatus {
        lock(&self.machine.0).status(|desk| desk.is_alive())
    }

    /// Returns how many workers there may be.
    pub(crate) fn limit(&self) -> usize {
        let (size, max_overflow) = lock(&self.machine.0).size();
        size + max_overflow
    }

    pub(crate) fn stats(&self) -> PoolStats {
        lock(&self.machine.0).stats()
    }

    pub(crate) fn in_use(&self) -> usize {
        lock(&self.machine.0).in_use()
    }

    pub(crate) fn holders(&self) -> Vec<Holder> {
        let machine = lock(&self.machine.0);
        let now = self.now();
        let workers = machine.workers().into_iter();
        let mut holders: Vec<_> = workers
            .filter_map(|(desk, standing)| match standing {
                Standing::Out(held) => Some((Arc::clone(desk), held.clone())),
                Standing::Idle | Standing::Handed => None,
            })
            .collect();
        drop(machine);
        holders.sort_by_key(|(_, held)| held.since);
        let holders = holders.into_iter();
        holders.map(|(desk, held)| held.show(&desk, now)).collect()
    }

    pub(crate) fn workers(&self) -> Vec<PoolWorker> {
        let machine = lock(&self.machine.0);
        let workers = machine.workers().into_iter();
        workers
            .filter(|(desk, _)| desk.is_alive())
            .map(|(desk, standing)| PoolWorker {
                id: desk.node.path().id().into(),
                incarnation: Arc::clone(&desk.incarnation),
                state: match standing {
                    Standing::Idle => PoolWorkerState::Idle,
                    Standing::Handed => PoolWorkerState::Reserved,
                    Standing::Out(_) => PoolWorkerState::Lent,
                },
            })
            .collect()
    }

    fn last_start_error(&self) -> Option<ExitReason> {
        lock(&self.failures).last.clone()
    }

    /// Refuses because the pool lends nothing now.
    pub(crate) fn not_open(&self) -> CheckoutError {
        let pool = Arc::clone(&self.name);
        let error = if self.is_closed() {
            CheckoutError::Closed { pool }
        } else {
            let in_use = self.in_use();
            CheckoutError::Drained { pool, in_use }
        };
        lock(&self.machine.0).note_refusal();
        event::refused(&error);
        error
    }

    pub(crate) fn exhausted(&self, waited: Duration) -> CheckoutError {
        let mut machine = lock(&self.machine.0);
        machine.note_refusal();
        let (size, max_overflow) = machine.size();
        let (waiting, in_use) = (machine.waiting(), machine.in_use());
        drop(machine);
        let error = CheckoutError::Exhausted {
            pool: Arc::clone(&self.name),
            waited,
            waiting,
            in_use,
            size,
            max_overflow,
            last_start_error: self.last_start_error(),
        };
        event::refused(&error);
        error
    }

    pub(crate) fn no_start(&self, waited: Duration, source: StartError) -> CheckoutError {
        lock(&self.machine.0).note_no_start();
        self.unstarted(waited, source)
    }

    /// Refuses a worker that is counted as lent already, and is not what the pool lends.
    pub(crate) fn unstarted(&self, waited: Duration, source: StartError) -> CheckoutError {
        let machine = lock(&self.machine.0);
        let (size, max_overflow) = machine.size();
        let (waiting, in_use) = (machine.waiting(), machine.in_use());
        drop(machine);
        let error = CheckoutError::Start {
            pool: Arc::clone(&self.name),
            waited,
            waiting,
            in_use,
            size,
            max_overflow,
            source,
        };
        event::refused(&error);
        error
    }

    /// Called when the one that gave up has left the queue.
    pub(crate) fn timed_out(&self, waited: Duration) -> CheckoutError {
        let mut machine = lock(&self.machine.0);
        machine.note_timeout();
        let (size, max_overflow) = machine.size();
        let (waiting, in_use) = (machine.waiting(), machine.in_use());
        drop(machine);
        let error = CheckoutError::TimedOut {
            pool: Arc::clone(&self.name),
            waited,
            waiting,
            in_use,
            size,
            max_overflow,
            last_start_error: self.last_start_error(),
        };
        let home = self.home();
        let place = home.as_ref().map(|home| (&home.scope, &*home.node));
        event::timed_out(self.meters(), place, &error);
        error
    }
}
