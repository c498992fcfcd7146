//! What outlives the actors of a pool: its books, its queue, whether it is open.

mod alarm;
mod handover;
mod keeping;
mod lending;
mod looking;
mod waiter;

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Release,
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Duration;

use perennial_lifecycle::{
    ActorPath, ChildState, Count, ExitReason, Moment, Node, Restart, Scope, Stopwatch, shield,
};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::alarm::Alarm;
use self::handover::Handovers;
pub(crate) use self::lending::{Borrower, Claim, Offer, Taken, Turn};
pub(crate) use self::waiter::{Joined, Waiter};
use crate::event::{self, Meters};
use crate::machine::{Effect, Effects, Machine};
use crate::worker::Desk;
use crate::{Holder, PoolConfig};

/// None of what follows; each of them may come to each other.
const OPEN: u8 = 0;
/// Stopped by its supervisor; over when it is started again.
const STOPPED: u8 = 1;
/// Lends nothing until it is resumed.
const DRAINED: u8 = 2;
/// For good.
const CLOSED: u8 = 4;

/// The pause after the first failed start of a worker; it doubles with each that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// The longest pause after a failed start of a worker.
const LONGEST_PAUSE: Duration = Duration::from_millis(640);

/// Who holds a worker.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    since: Moment,
    location: &'static Location<'static>,
    /// Apart, so that a holder of whom there is no more to say is copied fast; and shared, so that who looks at the books
    /// takes a copy away: to copy a span is the code of who listens to spans.
    more: Option<Arc<More>>,
}

#[derive(Debug)]
struct More {
    actor: Option<ActorPath>,
    span: tracing::Span,
}

impl Held {
    fn show(&self, desk: &Desk, now: Moment) -> Holder {
        Holder {
            worker: desk.node.path().id().into(),
            incarnation: desk.incarnation.number(),
            held_for: now.since(self.since),
            location: self.location,
            actor: match &self.more {
                Some(more) if more.actor.is_some() => more.actor.clone(),
                _ => desk.borrower(),
            },
            span: self
                .more
                .as_ref()
                .map_or_else(tracing::Span::none, |more| more.span.clone()),
        }
    }
}

type Books = Machine<Arc<Desk>, Held, Waker>;

/// The books, and what else is under their lock. In this order: see [`Machine`].
#[repr(C)]
struct Ledger {
    machine: Books,
    alarm: Alarm,
}

/// What each loan writes lies on one cache line, with the lock.
const _: () = assert!(size_of::<Mutex<()>>() + Books::WRITTEN <= 64);

impl Deref for Ledger {
    type Target = Books;

    fn deref(&self) -> &Books {
        &self.machine
    }
}

impl DerefMut for Ledger {
    fn deref_mut(&mut self) -> &mut Books {
        &mut self.machine
    }
}

/// What all borrowers write, away from what they only read.
#[repr(align(128))]
struct Apart<T>(T);

pub(crate) struct Cells {
    pub(crate) name: Arc<str>,
    pub(crate) config: PoolConfig,
    /// Workers are replaced, ended or checked after some time, so when they come back matters.
    is_timed: bool,
    phase: AtomicU8,
    /// The supervisor is up: workers can be started. Written under the lock of `home`, for what one run of the
    /// supervisor says late must not be taken for news of the next.
    ready: AtomicBool,
    /// The supervisor and its workers were up once.
    was_open: AtomicBool,
    machine: Apart<Mutex<Ledger>>,
    handovers: Handovers,
    /// The last start failed; what is in `failures` matters.
    failing: AtomicBool,
    failures: Mutex<Failures>,
    /// Where the pool's supervisor lives; known from its first start.
    home: Mutex<Option<Home>>,
    /// Somebody will look again for starts that were put off.
    waking: AtomicBool,
    /// Tells those who wait for anything but their turn that the pool closed, that a start failed, or that a worker is back.
    news: Notify,
    /// Where the jitter of lifetimes begins, so that two pools do not go in step.
    seed: u64,
    births: AtomicU64,
    meters: OnceLock<Meters>,
    stopwatch: OnceLock<Stopwatch>,
}

#[derive(Default)]
struct Failures {
    in_a_row: u32,
    last: Option<ExitReason>,
    /// No attempt before.
    retry_at: Option<Instant>,
}

/// Where a pool lives.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) scope: Scope,
    pub(crate) node: Arc<Node>,
    /// Counts the starts of the supervisor.
    pub(crate) epoch: u64,
    /// Work that a checkin begins goes on there: it may be done on any thread.
    runtime: Handle,
}

impl Home {
    /// Says whether the pool was told to stop, and not only because a supervisor above was lost.
    fn is_stopping(&self) -> bool {
        self.node.state() == ChildState::Stopping && !self.scope.is_orphaned(self.node.path())
    }
}

impl Cells {
    pub(crate) fn new(name: Arc<str>, config: PoolConfig) -> Arc<Self> {
        let times = [
            config.overflow_ttl,
            config.idle_timeout,
            config.max_lifetime,
            config.check_after,
        ];
        Arc::new(Self {
            name,
            is_timed: times.iter().any(Option::is_some),
            phase: AtomicU8::new(OPEN),
            ready: AtomicBool::new(false),
            was_open: AtomicBool::new(false),
            machine: Apart(Mutex::new(Ledger {
                machine: Machine::new(&config),
                alarm: Alarm::new(),
            })),
            handovers: Handovers::new(&config),
            failing: AtomicBool::new(false),
            failures: Mutex::default(),
            home: Mutex::default(),
            waking: AtomicBool::new(false),
            news: Notify::new(),
            seed: RandomState::new().hash_one(0),
            births: AtomicU64::new(0),
            meters: OnceLock::new(),
            stopwatch: OnceLock::new(),
            config,
        })
    }

    /// The pool's supervisor is being started.
    pub(crate) fn settle_at(self: &Arc<Self>, scope: &Scope, node: &Arc<Node>) -> u64 {
        let mut home = lock(&self.home);
        let epoch = home.as_ref().map_or(0, |home| home.epoch) + 1;
        self.ready.store(false, Release);
        let before = home.replace(Home {
            scope: scope.clone(),
            node: Arc::clone(node),
            epoch,
            runtime: Handle::current(),
        });
        drop(home);
        drop(before);
        self.waking.store(false, Release);
        lock(&self.failures).retry_at = None;
        self.books().settle();
        self.note_return();
        epoch
    }

    pub(crate) fn home(&self) -> Option<Home> {
        lock(&self.home).clone()
    }

    /// The pool's supervisor, in the run that began this epoch, is up, and its workers are, or are started when they can be.
    pub(crate) fn open(self: &Arc<Self>, epoch: u64) {
        let opened = self.during(epoch, || {
            self.ready.store(true, Release);
            self.was_open.store(true, Release);
            self.phase.fetch_and(!STOPPED, AcqRel)
        });
        if opened.is_some_and(|before| before & !STOPPED == OPEN) {
            event::opened(&self.name);
        }
        self.mend();
    }

    pub(crate) fn was_open(&self) -> bool {
        self.was_open.load(Acquire)
    }

    /// The run of the supervisor that began this epoch takes no more requests.
    pub(crate) fn not_ready(&self, epoch: u64) {
        self.during(epoch, || self.ready.store(false, Release));
    }

    /// Does something, unless the supervisor was started again since it began this epoch, nor is meanwhile.
    fn during<T>(&self, epoch: u64, then: impl FnOnce() -> T) -> Option<T> {
        let home = lock(&self.home);
        let is_now = home.as_ref().is_some_and(|home| home.epoch == epoch);
        is_now.then(then)
    }

    /// The pool's keeper has ended: was the pool told to stop?
    pub(crate) fn keeper_ended(self: &Arc<Self>) {
        // A supervisor that was killed, or that gave up, comes back, and who waits goes on waiting. One that
        // its own supervisor stops is marked before it is asked to.
        if let Some(home) = self.home().filter(Home::is_stopping) {
            self.stop(home.epoch);
        }
    }

    /// The run of the supervisor that began this epoch has ended.
    pub(crate) fn home_ended(self: &Arc<Self>, epoch: u64, reason: &ExitReason) {
        let Some(home) = self.home().filter(|home| home.epoch == epoch) else {
            return;
        };
        self.not_ready(epoch);
        let comes_back = match home.node.spec() {
            Some((_, Restart::Temporary, _)) => false,
            Some((_, Restart::Transient, _)) => !reason.is_clean(),
            _ => !home.is_stopping(),
        };
        if !comes_back {
            self.stop(epoch);
        }
    }

    /// Nobody can start this pool again: its spec is gone from the tree.
    pub(crate) fn forgotten(self: &Arc<Self>, epoch: u64) {
        self.stop(epoch);
    }

    /// The pool's supervisor was told to stop in this epoch, or will not come back.
    fn stop(self: &Arc<Self>, epoch: u64) {
        let stopped = self.during(epoch, || {
            self.ready.store(false, Release);
            self.phase.fetch_or(STOPPED, AcqRel)
        });
        if stopped.is_some_and(|before| before & (STOPPED | CLOSED) == 0) {
            event::closed(&self.name, false);
            self.tell();
        }
    }

    pub(crate) fn close(self: &Arc<Self>) {
        if self.phase.fetch_or(CLOSED, AcqRel) & CLOSED == 0 {
            event::closed(&self.name, true);
            self.tell();
        }
    }

    /// Lends nothing more, for now.
    pub(crate) fn drain(self: &Arc<Self>) {
        if self.phase.fetch_or(DRAINED, AcqRel) & DRAINED == 0 {
            event::drained(&self.name);
            self.tell();
        }
    }

    /// Waits until nothing is on loan, or the pool is resumed.
    pub(crate) async fn returned(&self) {
        loop {
            let news = self.news();
            if self.in_use() == 0 || !self.is_drained() {
                return;
            }
            news.await;
        }
    }

    pub(crate) fn resume(self: &Arc<Self>) {
        let before = self.phase.fetch_and(!DRAINED, AcqRel);
        if before & DRAINED != 0 {
            if before == DRAINED {
                event::opened(&self.name);
            }
            self.tell();
        }
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.phase.load(Acquire) & DRAINED != 0
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.phase.load(Acquire) & (STOPPED | CLOSED) != 0
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase.load(Acquire) == OPEN
    }

    /// Tells who drains the pool that something is on loan no more.
    pub(super) fn note_return(&self) {
        if self.is_drained() {
            shield(|| self.news.notify_waiters());
        }
    }

    /// Waits until the pool lends nothing.
    pub(crate) async fn shut(&self) {
        loop {
            let news = self.news();
            if !self.is_open() {
                return;
            }
            news.await;
        }
    }

    /// Tells whoever waits for anything that there is news.
    fn tell(self: &Arc<Self>) {
        shield(|| self.news.notify_waiters());
        self.books().call_all();
    }

    /// Waits for news after this call; look at what they are about once it is made.
    pub(crate) fn news(&self) -> impl Future<Output = ()> + '_ {
        self.news.notified()
    }

    fn books(self: &Arc<Self>) -> OpenBooks<'_> {
        OpenBooks {
            cells: self,
            machine: Some(lock(&self.machine.0)),
        }
    }

    /// Does what follows from a change in the books.
    #[inline(never)]
    fn carry_on(self: &Arc<Self>, mut ledger: MutexGuard<'_, Ledger>) {
        let first = ledger.next_call();
        let rest = ledger.effects();
        drop(ledger);
        first.into_iter().for_each(call);
        let Some(Effects { calls, rest }) = rest else {
            return;
        };
        calls.into_iter().for_each(call);
        for effect in rest {
            match effect {
                Effect::End(ending) => self.carry_out(ending),
                Effect::LetGo(gone) => shield(|| drop(gone)),
            }
        }
    }

    /// Returns the present moment, by which loans and idleness are measured; whoever waits goes by tokio's clock.
    pub(crate) fn now(&self) -> Moment {
        // Made at first use, which is in the runtime whose time it is to follow.
        self.stopwatch.get_or_init(Stopwatch::new).now()
    }

    /// Returns the moment at which the processor's counter showed this; else the present one.
    #[inline]
    pub(crate) fn at(&self, count: Option<Count>) -> Moment {
        let stopwatch = self.stopwatch.get_or_init(Stopwatch::new);
        match count {
            Some(count) => stopwatch.at(count),
            None => stopwatch.now(),
        }
    }

    pub(crate) fn since(&self, moment: Moment) -> Duration {
        self.now().since(moment)
    }

    fn meters(&self) -> &Meters {
        // Made at first use, by when a host has installed its recorder.
        self.meters.get_or_init(|| Meters::of_workers(&self.name))
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

/// The books, locked; what follows from a change is done when they are closed.
struct OpenBooks<'a> {
    cells: &'a Arc<Cells>,
    /// Taken away only when it is dropped.
    machine: Option<MutexGuard<'a, Ledger>>,
}

impl OpenBooks<'_> {
    fn alarm(&mut self) -> &mut Alarm {
        let ledger = self.machine.as_mut();
        &mut ledger.expect("there until it is dropped").alarm
    }
}

impl Deref for OpenBooks<'_> {
    type Target = Books;

    fn deref(&self) -> &Self::Target {
        self.machine.as_ref().expect("there until it is dropped")
    }
}

impl DerefMut for OpenBooks<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.machine.as_mut().expect("there until it is dropped")
    }
}

impl Drop for OpenBooks<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(ledger) = self.machine.take()
            && ledger.has_effects()
        {
            self.cells.carry_on(ledger);
        }
    }
}

/// Calls somebody who waits. What that runs is his: if it panics, the others are called all the same.
fn call(waker: Waker) {
    shield(|| waker.wake());
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in a critical section panics; a poisoned lock still holds whole values.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
