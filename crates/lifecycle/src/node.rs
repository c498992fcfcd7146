mod ended;
mod history;
mod observe;
mod places;
mod post;
mod shape;
mod standing;
mod view;
mod watchers;

use std::fmt;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire,
    Ordering::Relaxed, Ordering::Release, Ordering::SeqCst,
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use once_cell::race::OnceBox;
use serde::Serialize;
use tokio::time::Instant;

pub use self::ended::{Ended, Escalation};
use self::history::History;
use self::observe::Observers;
pub use self::observe::RunObserver;
pub use self::places::Arranged;
use self::places::Places;
use self::post::Post;
use self::shape::Shape;
pub use self::standing::Standing;
pub use self::view::NodeView;
pub use self::watchers::Watcher;
use self::watchers::Watchers;
pub(crate) use self::watchers::{Entry, First, Found};
use crate::bell::Bell;
use crate::mailbox::ledger::Ledger;
use crate::panic::let_go;
use crate::{
    ActorPath, ChildKey, ChildKind, EventKind, ExitReason, Incarnation, Restart, Scope, Shutdown,
    WallTime,
};

/// What the supervisor last knew of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildState {
    /// Nothing runs: never started, ended for good, terminated, or its start was ignored.
    Stopped,
    /// It is being started.
    Starting,
    /// It runs.
    Running,
    /// It was asked to stop and has not ended yet.
    Stopping,
    /// It ended, or failed to start, and will be started again.
    Restarting,
    /// It ended too often and is parked; a probe will start it again.
    Quarantined,
}

impl ChildState {
    const ALL: [Self; 6] = [
        Self::Stopped,
        Self::Starting,
        Self::Running,
        Self::Stopping,
        Self::Restarting,
        Self::Quarantined,
    ];
}

impl fmt::Display for ChildState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Restarting => "restarting",
            Self::Quarantined => "quarantined",
        })
    }
}

/// A place in the tree: what is known of the actor that lives there, over all its incarnations.
///
/// The parent's side owns it, so it outlives the actor as an ETS table with an heir does in OTP. Names
/// point to nodes, and the debug actor reads them; neither sends the actor a message.
pub struct Node {
    path: ActorPath,
    state: AtomicU8,
    started: AtomicU64,
    restarts: AtomicU32,
    key: AtomicU64,
    /// Its place among its siblings.
    rank: AtomicU64,
    /// The number of the current run, 0 for none: asked more often than for the run itself, which is in the detail.
    occupant: AtomicU64,
    awaited: AtomicBool,
    /// Whether somebody will be started here again, as far as is known: see [`post`].
    duty: AtomicU8,
    /// Made by the first message.
    ledger: OnceLock<Arc<Ledger>>,
    rare: OnceBox<Rare>,
    detail: Mutex<Detail>,
}

/// What most places do without, and that is not behind the lock.
struct Rare {
    /// Made by the first who waits for a change.
    changed: Bell,
    /// Made by the first letter, so that a restart of an actor that gets none need not look for them.
    post: OnceBox<Post>,
}

#[derive(Default)]
struct Detail {
    /// Behind the lock, since each run enters and leaves once: a cell that is read without one costs ten times as much
    /// to write. Who reads often remembers what it saw, and asks by [`Incarnation::is_present`].
    current: Option<Arc<Incarnation>>,
    spec: Option<Shape>,
    history: History,
    more: Option<Box<More>>,
}

/// What a leaf does not have.
#[derive(Default)]
struct More {
    children: Places,
    due: Option<Instant>,
    /// Why the run that is about to end does.
    because: Option<Arc<Escalation>>,
    observers: Observers,
    watchers: Watchers,
    /// Where those look who watch the place since before anything was here.
    first: Option<Arc<OnceLock<First>>>,
}

impl Detail {
    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// Describes a start that failed, as an end that is to be remembered.
    fn failed_start(&mut self, incarnation: u64, reason: &ExitReason) -> Ended {
        Ended {
            incarnation,
            reason: reason.clone(),
            at: WallTime::recent().into(),
            uptime: Duration::ZERO,
            because: self.take_cause(),
        }
    }

    fn take_cause(&mut self) -> Option<Arc<Escalation>> {
        self.more.as_mut().and_then(|more| more.because.take())
    }
}

impl Node {
    /// Makes a node that no tree holds yet.
    #[must_use]
    pub fn new(path: ActorPath) -> Arc<Self> {
        Arc::new(Self {
            path,
            state: AtomicU8::new(ChildState::Stopped as u8),
            started: AtomicU64::new(0),
            restarts: AtomicU32::new(0),
            key: AtomicU64::new(0),
            rank: AtomicU64::new(0),
            occupant: AtomicU64::new(0),
            awaited: AtomicBool::new(false),
            duty: AtomicU8::new(post::ON),
            ledger: OnceLock::new(),
            rare: OnceBox::new(),
            detail: Mutex::default(),
        })
    }

    /// Returns the place in the tree.
    #[must_use]
    pub fn path(&self) -> &ActorPath {
        &self.path
    }

    /// Returns what the supervisor last knew.
    #[must_use]
    pub fn state(&self) -> ChildState {
        ChildState::ALL[usize::from(self.state.load(Acquire))]
    }

    /// Records what the supervisor knows, and wakes whoever waits for a change.
    pub fn set_state(&self, state: ChildState) {
        if self.state.swap(state as u8, SeqCst) != state as u8 {
            self.ring();
        }
    }

    /// Records that somebody is being started here.
    ///
    /// Cheaper than [`set_state`](Self::set_state), and who begins to wait for a change at this moment may miss it: a start
    /// that takes more than a moment is to be followed by [`announce`](Self::announce).
    pub fn begin_start(&self) {
        self.state.store(ChildState::Starting as u8, Release);
        self.ring();
    }

    /// Returns the run that is alive now.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Incarnation>> {
        if !self.is_occupied() {
            return None;
        }
        self.current_by_lock()
    }

    /// The same, without a look at anything else first: whoever enters or leaves before is seen, and whoever does so later
    /// sees what was done before this.
    pub(crate) fn current_by_lock(&self) -> Option<Arc<Incarnation>> {
        self.detail().current.clone()
    }

    /// Says whether a run is alive now.
    #[must_use]
    pub fn is_occupied(&self) -> bool {
        self.occupant() != 0
    }

    #[inline]
    pub(crate) fn occupant(&self) -> u64 {
        self.occupant.load(Acquire)
    }

    /// Returns how many runs were attempted.
    #[must_use]
    pub fn incarnations(&self) -> u64 {
        self.started.load(Acquire)
    }

    /// Returns how often a supervisor started it again after an end.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Acquire).into()
    }

    /// Counts a restart, and returns how many there were with it.
    pub fn count_restart(&self) -> u64 {
        u64::from(self.restarts.fetch_add(1, AcqRel)) + 1
    }

    /// Returns the last ends, oldest first.
    #[must_use]
    pub fn history(&self) -> Vec<Ended> {
        self.detail().history.in_order()
    }

    /// Returns the last end.
    #[must_use]
    pub fn last_end(&self) -> Option<Ended> {
        self.detail().history.last()
    }

    /// Returns since when nothing has run here: when the last run ended, to some milliseconds. `None` while one runs, and
    /// when none ever has.
    ///
    /// A start that failed is not a run, so it doesn't count.
    #[must_use]
    pub fn down_since(&self) -> Option<SystemTime> {
        let detail = self.detail();
        let left = detail.history.left();
        left.filter(|_| detail.current.is_none())
    }

    /// Returns when its supervisor will start it again, while that is put off: by a backoff or a quarantine.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.detail().more.as_ref()?.due
    }

    /// Records until when its restart is put off; `None` when it no longer is.
    pub fn set_due(&self, due: Option<Instant>) {
        self.detail().more().due = due;
    }

    /// Records that its restart is no longer put off until `due`. One that was put off again since then stays so.
    pub fn clear_due(&self, due: Instant) {
        if let Some(more) = &mut self.detail().more {
            more.due.take_if(|it| *it == due);
        }
    }

    /// Records the end of a child that the run which lives here now will end with.
    pub fn escalate(&self, child: &Self) {
        let Some(ended) = child.last_end() else {
            return;
        };
        let because = Some(Arc::new(Escalation {
            child: child.path.clone(),
            ended,
        }));
        let before = std::mem::replace(&mut self.detail().more().because, because);
        // Foreign code: an error has a destructor.
        let_go(before);
    }

    /// Returns kind, restart type and shutdown, once a spec is known.
    #[must_use]
    pub fn spec(&self) -> Option<(ChildKind, Restart, Shutdown)> {
        self.detail().spec.map(Shape::unpack)
    }

    /// Records the spec that the actor is started from.
    pub fn set_spec(&self, kind: ChildKind, restart: Restart, shutdown: Shutdown) {
        self.detail().spec = Some(Shape::pack(kind, restart, shutdown));
    }

    /// Waits until the actor runs and returns the run.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: waiting changes nothing.
    pub async fn running(&self) -> Arc<Incarnation> {
        loop {
            let changed = self.changed();
            if let Some(current) = self.current() {
                return current;
            }
            changed.await;
        }
    }

    /// Waits for the next change of state.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. A change between two calls is missed; read the state after making the future.
    pub fn changed(&self) -> impl Future<Output = ()> + '_ {
        let changed = self.rare().changed.next(&self.awaited);
        // What the bell asks of whoever waits. All that changes before a ring changes before a write to the state.
        self.state.load(SeqCst);
        // Runs enter and leave under the lock, and look there whether somebody waits: if they did not see it, they are seen.
        drop(self.detail());
        changed
    }

    /// Returns the key that its supervisor gave it last.
    #[must_use]
    pub fn key(&self) -> ChildKey {
        self.key.load(Acquire)
    }

    /// Records its supervisor's key for it.
    pub fn set_key(&self, key: ChildKey) {
        self.key.store(key, Release);
    }

    pub(crate) fn rank(&self) -> u64 {
        self.rank.load(Relaxed)
    }

    /// Only under the lock of the parent's detail.
    pub(crate) fn set_rank(&self, rank: u64) {
        self.rank.store(rank, Relaxed);
    }

    /// Gives up on a run that does not yield to a kill, so that another can live here. Its end is recorded with
    /// this reason; `false` when it has ended by itself meanwhile.
    ///
    /// `tell` is for whoever has to hear of it before those do who wait for the end: its parent, unless that waits itself.
    ///
    /// What is left of it is counted in the [`Scope`](crate::Scope) until it yields.
    pub fn abandon(
        &self,
        scope: &Scope,
        run: &Arc<Incarnation>,
        reason: &ExitReason,
        tell: impl FnOnce(),
    ) -> bool {
        // Counted first: the run may end at this moment, and is then taken off again.
        scope.count_detached();
        if !run.detach(reason) {
            scope.uncount_detached();
            return false;
        }
        self.note_left_behind(run);
        drop(self.leave(run, reason, WallTime::recent()));
        scope.events().emit(
            &self.path,
            EventKind::Detached {
                incarnation: run.number(),
                reason: reason.clone(),
            },
        );
        tell();
        run.announce();
        true
    }

    /// Wakes whoever waits for a change, without one.
    pub fn announce(&self) {
        self.state.fetch_or(0, SeqCst);
        self.ring();
    }

    pub(crate) fn next_incarnation(&self) -> u64 {
        if self.is_off_duty() {
            self.revive();
        }
        self.started.fetch_add(1, AcqRel) + 1
    }

    pub(crate) fn enter(&self, incarnation: Arc<Incarnation>) {
        let number = incarnation.number();
        let mut detail = self.detail();
        let observers = detail.observers();
        detail.note_first(|| First::Run(Arc::clone(&incarnation)));
        let Some(observers) = observers else {
            detail.current.insert(incarnation).set_present(true);
            self.occupy(number, detail);
            return;
        };
        let run = Arc::clone(&incarnation);
        detail.current.insert(incarnation).set_present(true);
        drop(detail);
        // Whoever sees that it runs may rely on that all who observe it have been told.
        observers.tell(self, &run);
        self.occupy(number, self.detail());
    }

    /// Says that the run which has been entered lives here.
    ///
    /// All of it under the lock, where whoever [waits](Self::changed) is seen: so no write has to be in an order with those
    /// of others, each of which would wait until all before it have reached memory.
    fn occupy(&self, number: u64, detail: MutexGuard<'_, Detail>) {
        self.occupant.store(number, Release);
        self.state.store(ChildState::Running as u8, Release);
        let is_awaited = self.awaited.load(Relaxed);
        drop(detail);
        if is_awaited {
            self.ring();
        }
    }

    /// Notes a start that failed, as an end without a life, so that the history shows why nothing runs.
    pub fn note_failed_start(&self, incarnation: u64, reason: &ExitReason) {
        let mut detail = self.detail();
        let ended = detail.failed_start(incarnation, reason);
        detail.note_first(|| First::FailedStart(ended.clone()));
        let forgotten = detail.history.push_failed_start(ended);
        drop(detail);
        let_go(forgotten);
    }

    /// Notes the end of a run, and returns the handle of it that was kept here. A successor that already lives here is
    /// left alone.
    pub(crate) fn leave(
        &self,
        incarnation: &Arc<Incarnation>,
        reason: &ExitReason,
        at: WallTime,
    ) -> Option<Arc<Incarnation>> {
        let number = incarnation.number();
        let uptime = incarnation.recent_uptime_nanos();
        let mut detail = self.detail();
        let because = detail.take_cause();
        let forgotten = detail.history.push(number, reason, uptime, at, because);
        // Each run leaves once, and before a successor enters; one that was left behind has left already. So nobody else
        // writes it meanwhile.
        let left = self.occupant() == number;
        incarnation.set_present(false);
        let mut is_awaited = false;
        let current = left.then(|| {
            self.occupant.store(0, Release);
            self.state.store(ChildState::Stopped as u8, Release);
            // As in `occupy`.
            is_awaited = self.awaited.load(Relaxed);
            detail.current.take()
        });
        drop(detail);
        // Foreign code: an error has a destructor.
        let_go(forgotten);
        if is_awaited {
            self.ring();
        }
        current.flatten()
    }

    /// Looks at the books that the next message is entered in, so that they are brought from memory while something else
    /// is.
    #[inline]
    pub(crate) fn expect_message(&self) {
        if let Some(ledger) = self.ledger.get() {
            ledger.look();
        }
    }

    /// Looks at what is written here when a run ends: whoever knows that one is about to end has it brought from memory
    /// all at once, where each atomic operation would wait for the one before.
    pub(crate) fn expect_end(self: &Arc<Self>) {
        self.look();
        self.path.look();
    }

    /// Reads something of each part of this, so that all of it is at hand.
    pub fn look(self: &Arc<Self>) {
        std::hint::black_box((
            Arc::strong_count(self),
            self.detail.is_poisoned(),
            self.duty.load(Relaxed),
        ));
    }

    /// Wakes whoever waits for a change that was made by a sequentially consistent read-modify-write; see [`Bell`].
    fn ring(&self) {
        // The flag first: whoever waits has made the bell before it says so.
        if self.awaited.load(SeqCst)
            && let Some(rare) = self.rare.get()
        {
            rare.changed.ring(&self.awaited);
        }
    }

    fn rare(&self) -> &Rare {
        self.rare.get_or_init(|| {
            Box::new(Rare {
                changed: Bell::new(),
                post: OnceBox::new(),
            })
        })
    }

    fn detail(&self) -> MutexGuard<'_, Detail> {
        // Nothing in a critical section panics; a poisoned lock still holds whole values.
        self.detail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("path", &self.path)
            .field("state", &self.state())
            .field("restarts", &self.restarts())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
