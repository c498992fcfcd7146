//! What outlives the actors of a pool: its books, its queue, whether it is open.

use std::fmt;
use std::panic::Location;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use perennial_lifecycle::{ExitReason, Incarnation, Node, Scope};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::event::{self, Meters};
use crate::machine::{Condition, Fate, Machine, Take};
use crate::worker::Loan;
use crate::{CheckoutError, Holder, PoolConfig, PoolStats, PoolStatus};

const OPEN: u8 = 0;
/// Stopped by its supervisor; opens again when it is started again.
const STOPPED: u8 = 1;
const CLOSED: u8 = 2;

/// The longest pause after a failed restart of a worker.
const LONGEST_PAUSE: Duration = Duration::from_millis(640);

/// Who holds a worker.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) since: Instant,
    pub(crate) incarnation: u64,
    pub(crate) location: &'static Location<'static>,
}

pub(crate) struct Cells {
    pub(crate) name: Arc<str>,
    pub(crate) config: PoolConfig,
    phase: AtomicU8,
    machine: Mutex<Machine<Arc<Node>, Held>>,
    failures: Mutex<Failures>,
    /// Where the pool's supervisor lives; known from its first start.
    home: Mutex<Option<(Scope, Arc<Node>)>>,
    /// How many have a seat and look for a worker.
    seated: AtomicUsize,
    /// Tells them that there may be one.
    changed: Notify,
    /// Tells those who wait that the pool closed.
    closing: Notify,
    /// One permit per overflow worker; a worker holds its own until its supervisor has forgotten it.
    pub(crate) overflow: Arc<Semaphore>,
    overflow_serial: AtomicU64,
    meters: OnceLock<Meters>,
}

#[derive(Default)]
struct Failures {
    in_a_row: u32,
    last: Option<ExitReason>,
}

/// A worker in somebody's hands.
pub(crate) struct Taken {
    pub(crate) place: usize,
    pub(crate) loan: Arc<Loan>,
    pub(crate) since: Instant,
}

/// What a borrower with a seat is given.
pub(crate) enum Offer {
    Worker(Taken),
    Start(Claim),
    Wait,
}

impl Cells {
    pub(crate) fn new(name: Arc<str>, config: PoolConfig) -> Arc<Self> {
        Arc::new(Self {
            name,
            phase: AtomicU8::new(OPEN),
            machine: Mutex::new(Machine::new(
                config.size,
                config.max_overflow,
                config.strategy,
            )),
            failures: Mutex::default(),
            home: Mutex::default(),
            seated: AtomicUsize::new(0),
            changed: Notify::new(),
            closing: Notify::new(),
            overflow: Arc::new(Semaphore::new(config.max_overflow)),
            overflow_serial: AtomicU64::new(0),
            meters: OnceLock::new(),
            config,
        })
    }

    // Opening and closing.

    pub(crate) fn settle_at(&self, scope: &Scope, node: &Arc<Node>) {
        *lock(&self.home) = Some((scope.clone(), Arc::clone(node)));
    }

    pub(crate) fn home(&self) -> Option<(Scope, Arc<Node>)> {
        lock(&self.home).clone()
    }

    /// The pool's supervisor is up.
    pub(crate) fn open(&self) {
        let before = self.phase.compare_exchange(STOPPED, OPEN, AcqRel, Acquire);
        if before != Err(CLOSED) {
            event::opened(&self.name);
        }
        self.changed.notify_waiters();
    }

    /// The pool's supervisor was told to stop.
    pub(crate) fn stop(&self) {
        if self
            .phase
            .compare_exchange(OPEN, STOPPED, AcqRel, Acquire)
            .is_ok()
        {
            event::closed(&self.name, false);
            self.closing.notify_waiters();
        }
    }

    pub(crate) fn close(&self) {
        if self.phase.swap(CLOSED, AcqRel) != CLOSED {
            event::closed(&self.name, true);
            self.closing.notify_waiters();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.phase.load(Acquire) != OPEN
    }

    /// Waits for a close after this call; look at [`is_closed`](Self::is_closed) once it is made.
    pub(crate) fn closing(&self) -> impl Future<Output = ()> + '_ {
        self.closing.notified()
    }

    /// Counts one that has a seat and looks for a worker.
    pub(crate) fn sit_down(&self) -> Seated<'_> {
        self.seated.fetch_add(1, AcqRel);
        Seated(self)
    }

    /// Waits for a change after this call that may be worth another [`take`](Self::take).
    pub(crate) fn changed(&self) -> impl Future<Output = ()> + '_ {
        self.changed.notified()
    }

    /// Says that a worker may be had. Who sat down before the books were changed is woken; who looks after
    /// that sees the change, for both take the lock.
    fn announce(&self) {
        if self.seated.load(Acquire) > 0 {
            self.changed.notify_waiters();
        }
    }

    // Lending.

    /// Gives a worker, or the right to start one, to a borrower that has a seat.
    pub(crate) fn take(self: &Arc<Self>, location: &'static Location<'static>) -> Offer {
        let since = Instant::now();
        let held = |incarnation: &Arc<Incarnation>| Held {
            since,
            incarnation: incarnation.number(),
            location,
        };
        let mut machine = self.machine();
        let take = machine.take(held, lendable);
        let (idle, used) = (machine.idle(), machine.in_use());
        drop(machine);
        match take {
            Take::Worker { place, node, run } => {
                event::counted(self.meters(), idle, used);
                Offer::Worker(Taken {
                    place,
                    loan: Arc::new(Loan::new(node, run)),
                    since,
                })
            }
            Take::Start { place } => Offer::Start(Claim {
                cells: Arc::clone(self),
                place: Some(place),
            }),
            Take::Wait => Offer::Wait,
        }
    }

    pub(crate) fn check_in(&self, place: usize, loan: &Arc<Loan>, since: Instant) {
        let open_call = loan.has_open_call();
        let mut machine = self.machine();
        // Asked under the lock: the notice that a successor is up waits for it.
        let fate = machine.give_back(place, |node| match lendable(node) {
            None => Condition::Dead,
            Some(run) if open_call && Arc::ptr_eq(&run, &loan.incarnation) => Condition::Busy,
            Some(_) => Condition::Fit,
        });
        let (idle, used) = (machine.idle(), machine.in_use());
        drop(machine);
        match fate {
            Fate::Stays => {}
            Fate::Retire => {
                loan.incarnation.kill();
                let scope = self.home().map(|(scope, _)| scope);
                event::retired(&self.name, scope.as_ref(), &loan.node, &loan.incarnation);
            }
            Fate::Dismiss => self.dismiss(&loan.node),
        }
        event::counted(self.meters(), idle, used);
        event::checked_in(self.meters(), since.elapsed());
        self.announce();
    }

    /// Joins the queue, if it is not full.
    pub(crate) fn join(self: &Arc<Self>) -> Option<Waiter> {
        let mut machine = self.machine();
        let joined = machine.join(self.config.max_waiting);
        let waiting = machine.waiting();
        drop(machine);
        event::pending(self.meters(), waiting);
        joined.then(|| Waiter {
            cells: Arc::clone(self),
            since: Instant::now(),
        })
    }

    fn leave(&self) {
        let mut machine = self.machine();
        let surplus = machine.leave();
        let waiting = machine.waiting();
        drop(machine);
        event::pending(self.meters(), waiting);
        for node in &surplus {
            self.dismiss(node);
        }
    }

    /// Asks an overflow worker to stop. It is temporary, so its supervisor forgets it when it has.
    fn dismiss(&self, node: &Node) {
        if let Some(run) = node.current() {
            run.stop(ExitReason::Shutdown);
        }
        event::dismissed(&self.name, node);
    }

    // Starting.

    /// A worker that the pool keeps was started.
    pub(crate) fn up(&self, place: usize, node: &Arc<Node>, took: Duration) {
        *lock(&self.failures) = Failures::default();
        self.machine().up(place, Arc::clone(node));
        event::created(self.meters(), took);
        self.announce();
    }

    /// A worker did not start. Returns how long to pause before the next attempt.
    pub(crate) fn start_failed(&self, reason: &ExitReason) -> Duration {
        let mut failures = lock(&self.failures);
        failures.last = Some(reason.clone());
        let pause = Duration::from_millis(5).saturating_mul(1 << failures.in_a_row.min(10));
        failures.in_a_row = failures.in_a_row.saturating_add(1);
        pause.min(LONGEST_PAUSE)
    }

    pub(crate) fn next_overflow_id(&self) -> String {
        // Never used twice: a supervisor may not have forgotten the last one yet.
        format!("overflow-{}", self.overflow_serial.fetch_add(1, AcqRel) + 1)
    }

    // Looking.

    pub(crate) fn status(&self) -> PoolStatus {
        self.machine().status(|node| lendable(node).is_some())
    }

    pub(crate) fn stats(&self) -> PoolStats {
        self.machine().stats()
    }

    pub(crate) fn holders(&self) -> Vec<Holder> {
        let machine = self.machine();
        let mut holders: Vec<_> = machine
            .holders()
            .map(|(node, held)| {
                let holder = Holder {
                    worker: node.path().id().into(),
                    incarnation: held.incarnation,
                    held_for: held.since.elapsed(),
                    location: held.location,
                };
                (held.since, holder)
            })
            .collect();
        drop(machine);
        holders.sort_by_key(|(since, _)| *since);
        holders.into_iter().map(|(_, holder)| holder).collect()
    }

    // Refusing.

    pub(crate) fn closed(&self) -> CheckoutError {
        let error = CheckoutError::Closed {
            pool: Arc::clone(&self.name),
        };
        self.machine().note_refusal();
        event::refused(&error);
        error
    }

    pub(crate) fn exhausted(&self) -> CheckoutError {
        let mut machine = self.machine();
        machine.note_refusal();
        let error = CheckoutError::Exhausted {
            pool: Arc::clone(&self.name),
            waiting: machine.waiting(),
            in_use: machine.in_use(),
            size: self.config.size,
            max_overflow: self.config.max_overflow,
        };
        drop(machine);
        event::refused(&error);
        error
    }

    /// Called when the one that gave up has left the queue.
    pub(crate) fn timed_out(&self, waited: Duration) -> CheckoutError {
        let mut machine = self.machine();
        machine.note_timeout();
        let (waiting, in_use) = (machine.waiting(), machine.in_use());
        drop(machine);
        let error = CheckoutError::TimedOut {
            pool: Arc::clone(&self.name),
            waited,
            waiting,
            in_use,
            size: self.config.size,
            max_overflow: self.config.max_overflow,
            last_start_error: lock(&self.failures).last.clone(),
        };
        let home = self.home();
        let place = home.as_ref().map(|(scope, node)| (scope, &**node));
        event::timed_out(self.meters(), place, &error);
        error
    }

    pub(crate) fn note_wait(&self, waited: Duration) {
        self.machine().note_wait(waited);
        event::checked_out(self.meters(), waited);
    }

    pub(crate) fn note_no_wait(&self) {
        event::checked_out(self.meters(), Duration::ZERO);
    }

    fn meters(&self) -> &Meters {
        // Made at first use, by when a host has installed its recorder.
        self.meters.get_or_init(|| Meters::new(&self.name))
    }

    fn machine(&self) -> MutexGuard<'_, Machine<Arc<Node>, Held>> {
        lock(&self.machine)
    }
}

impl fmt::Debug for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cells")
            .field("name", &self.name)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// Returns the run at `node`, unless it is ending.
fn lendable(node: &Arc<Node>) -> Option<Arc<Incarnation>> {
    node.current().filter(|run| !run.is_ending())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in a critical section panics; a poisoned lock still holds whole values.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place in the queue.
pub(crate) struct Waiter {
    cells: Arc<Cells>,
    since: Instant,
}

impl Waiter {
    pub(crate) fn waited(&self) -> Duration {
        self.since.elapsed()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.cells.leave();
    }
}

/// The right to start one overflow worker.
pub(crate) struct Claim {
    cells: Arc<Cells>,
    place: Option<usize>,
}

impl Claim {
    /// Turns the claim into the worker that was started at `node`.
    pub(crate) fn redeem(
        mut self,
        node: Arc<Node>,
        run: Arc<Incarnation>,
        location: &'static Location<'static>,
        took: Duration,
    ) -> Option<Taken> {
        let place = self.place.take()?;
        let since = Instant::now();
        let held = Held {
            since,
            incarnation: run.number(),
            location,
        };
        let cells = &self.cells;
        *lock(&cells.failures) = Failures::default();
        let mut machine = cells.machine();
        machine.started(place, Arc::clone(&node), held);
        let (idle, used) = (machine.idle(), machine.in_use());
        drop(machine);
        event::created(cells.meters(), took);
        event::counted(cells.meters(), idle, used);
        Some(Taken {
            place,
            loan: Arc::new(Loan::new(node, run)),
            since,
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.cells.machine().cancel_start(place);
            self.cells.announce();
        }
    }
}

/// One that has a seat and looks for a worker.
pub(crate) struct Seated<'a>(&'a Cells);

impl Drop for Seated<'_> {
    fn drop(&mut self) {
        self.0.seated.fetch_sub(1, AcqRel);
    }
}
