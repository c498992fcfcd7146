//! The shared cell of one breaker: what outlives its actor.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use perennial_lifecycle::{Outbox, shield};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use crate::counters::Counters;
use crate::event::{self, BreakerEvent};
use crate::gate::{Gate, Settled, Surroundings, Ticket};
use crate::machine::{Command, Machine, Move, Nanos, Timing, Verdict, nanos};
use crate::{BreakerConfig, BreakerState, BreakerStatus, CircuitOpen};

/// Events that a slow subscriber may be behind before it misses some.
const EVENTS: usize = 32;

#[derive(Debug)]
pub(crate) struct Cell {
    name: Arc<str>,
    place: Place,
    epoch: Instant,
    gate: Gate,
    counters: Counters,
    state: watch::Sender<BreakerState>,
    /// Made when somebody first asks for them.
    events: OnceLock<broadcast::Sender<BreakerEvent>>,
    is_removed: AtomicBool,
    /// Events of which subscribers are still to hear.
    news: Outbox<BreakerEvent>,
    /// What logs and metrics are still to be told.
    outbox: Outbox<Entry>,
}

/// Where a breaker belongs.
#[derive(Debug)]
pub(crate) enum Place {
    Alone,
    /// In a set of names, which hears of its events.
    Named(broadcast::Sender<BreakerEvent>),
    /// Among the keys of a service. Their number is not known beforehand, so they have no metrics of their own.
    Keyed {
        service: Arc<str>,
        events: broadcast::Sender<BreakerEvent>,
    },
}

#[derive(Debug)]
enum Entry {
    Event(BreakerEvent),
    Report,
}

impl Cell {
    pub(crate) fn new(name: Arc<str>, config: BreakerConfig, place: Place) -> Self {
        let seed = seed(&config, &name).unwrap_or_else(|| fastrand::u64(..));
        Self {
            name,
            place,
            epoch: Instant::now(),
            gate: Gate::new(Machine::new(config, seed)),
            counters: Counters::new(),
            state: watch::Sender::new(BreakerState::Closed),
            events: OnceLock::new(),
            is_removed: AtomicBool::new(false),
            news: Outbox::new(),
            outbox: Outbox::new(),
        }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn config(&self) -> BreakerConfig {
        self.gate.with_config(Clone::clone)
    }

    pub(crate) fn watch(&self) -> watch::Receiver<BreakerState> {
        self.state.subscribe()
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<BreakerEvent> {
        self.events
            .get_or_init(|| broadcast::Sender::new(EVENTS))
            .subscribe()
    }

    #[inline]
    pub(crate) fn acquire(&self) -> Result<Ticket, CircuitOpen> {
        match self.gate.admit() {
            Some(ticket) if !ticket.is_timed() => Ok(ticket),
            _ => self.acquire_timed(),
        }
    }

    /// As [`acquire`](Self::acquire), for a call whose time somebody else takes.
    #[inline]
    pub(crate) fn acquire_untimed(&self) -> Result<Ticket, CircuitOpen> {
        match self.gate.admit() {
            Some(ticket) => Ok(ticket),
            None => self.acquire_elsewise(),
        }
    }

    #[inline(never)]
    fn acquire_timed(&self) -> Result<Ticket, CircuitOpen> {
        let mut ticket = self.acquire_elsewise()?;
        ticket.begin(|| Around::new(self).now());
        Ok(ticket)
    }

    #[inline(never)]
    fn acquire_elsewise(&self) -> Result<Ticket, CircuitOpen> {
        let around = Around::new(self);
        let answer = self.gate.acquire(&around);
        around.finish();
        answer.map_err(|refusal| {
            self.counters.refused(refusal.injected);
            CircuitOpen {
                breaker: Arc::clone(&self.name),
                state: refusal.state,
                retry_after: refusal.retry_after,
                injected: refusal.injected,
            }
        })
    }

    /// Whether a call is admitted by the state in which the breaker is still.
    #[inline]
    pub(crate) fn is_current(&self, ticket: Ticket) -> bool {
        self.gate.is_current(ticket)
    }

    /// Admits a call that was admitted earlier and is not begun yet.
    pub(crate) fn renew(&self, ticket: Ticket) -> Result<Ticket, CircuitOpen> {
        if self.gate.is_current(ticket) {
            Ok(ticket)
        } else {
            self.acquire()
        }
    }

    #[inline]
    pub(crate) fn settle(&self, ticket: Ticket, verdict: Verdict, timing: Timing) {
        if verdict == Verdict::Success && self.gate.lets_succeed(ticket) {
            self.counters.ended(verdict);
        } else {
            self.settle_elsewise(ticket, verdict, timing);
        }
    }

    #[inline(never)]
    fn settle_elsewise(&self, ticket: Ticket, verdict: Verdict, timing: Timing) {
        if ticket.is_uncounted() {
            return;
        }
        let around = Around::new(self);
        match self.gate.settle(ticket, verdict, timing, &around) {
            Settled::Counted => {}
            Settled::Slow => self.counters.slow(),
            Settled::Late => self.counters.late(verdict),
        }
        self.counters.ended(verdict);
        if verdict == Verdict::Failure {
            self.note_failure(&around);
        }
        around.finish();
    }

    /// Takes what is known of the service from elsewhere.
    pub(crate) fn report(&self, verdict: Verdict) {
        let around = Around::new(self);
        if self.gate.report(verdict, &around) {
            self.counters.ended(verdict);
            self.counters.reported();
            if verdict == Verdict::Failure {
                self.note_failure(&around);
            }
        }
        around.finish();
    }

    fn note_failure(&self, around: &Around<'_>) {
        let now = around.read.get().unwrap_or_else(|| around.now());
        self.counters.failed_at(now);
    }

    pub(crate) fn configure(&self, config: BreakerConfig) -> BreakerState {
        let around = Around::new(self);
        let seed = seed(&config, &self.name);
        let state = self.gate.configure(config, seed, &around);
        around.finish();
        state
    }

    /// Whether a breaker made anew would do the same from now on.
    pub(crate) fn is_as_new(&self) -> bool {
        self.gate.is_as_new(&Around::new(self))
    }

    /// Takes leave of its set, which hears of its moves no more. Whoever still has the breaker can go on with it.
    pub(crate) fn remove(&self) {
        self.is_removed.store(true, Relaxed);
    }

    /// Leaves no state set in the metrics, of one that was removed.
    pub(crate) fn clear_state(&self) {
        shield(|| event::gone(&self.name));
    }

    pub(crate) fn command(&self, command: Command) -> BreakerState {
        let around = Around::new(self);
        let state = self.gate.command(command, &around);
        around.finish();
        state
    }

    /// Lets an open time that is over end, and returns what is left of one that is not.
    pub(crate) fn tick(&self) -> Option<Duration> {
        let around = Around::new(self);
        let left = self.gate.tick(&around);
        around.finish();
        left
    }

    /// Whether nobody holds the lock.
    #[cfg(test)]
    pub(crate) fn is_free(&self) -> bool {
        self.gate.is_free()
    }

    pub(crate) fn state(&self) -> BreakerState {
        self.gate.state(&Around::new(self))
    }

    pub(crate) fn status(&self) -> BreakerStatus {
        let around = Around::new(self);
        let view = self.gate.view(&around);
        let now = around.read.get().unwrap_or_default();
        let totals = self.counters.totals();
        BreakerStatus {
            name: self.name.as_ref().to_owned(),
            state: view.state,
            retry_after: view.retry_after,
            successes: totals.successes,
            failures: totals.failures,
            refused: totals.refused,
            cancelled: totals.cancelled,
            late: totals.late,
            slow: totals.slow,
            injected: totals.injected,
            reported: totals.reported,
            transitions: view.transitions,
            since_last_failure: self
                .counters
                .last_failure()
                .map(|then| Duration::from_nanos(now.saturating_sub(then))),
        }
    }

    /// Publishes the state and the totals, behind the events that are waiting.
    pub(crate) fn publish(&self) {
        self.outbox.push(Entry::Report);
        self.outbox.empty(|entry| self.tell_one(&entry));
    }

    /// Tells of what was noted while the breaker moved. Subscribers do not wait for logs that take their time.
    fn tell(&self) {
        self.news.empty(|moved| self.tell_subscribers(&moved));
        self.outbox.empty(|entry| self.tell_one(&entry));
    }

    /// Wakes them, and a waker may run anything.
    fn tell_subscribers(&self, moved: &BreakerEvent) {
        let to = moved.to();
        shield(|| {
            self.state.send_if_modified(|state| {
                let is_other = *state != to;
                *state = to;
                is_other
            });
        });
        for channel in self.set_events().into_iter().chain(self.events.get()) {
            // An error only says that nobody listens.
            shield(|| drop(channel.send(moved.clone())));
        }
    }

    fn tell_one(&self, entry: &Entry) {
        let has_metrics =
            !matches!(self.place, Place::Keyed { .. }) && !self.is_removed.load(Relaxed);
        if let Entry::Event(moved) = entry {
            event::log(moved);
            if let Place::Keyed { service, .. } = &self.place {
                event::count(service, moved);
            }
        }
        if !has_metrics {
            return;
        }
        match entry {
            Entry::Event(moved) => {
                event::count(&self.name, moved);
                event::state(&self.name, moved.to());
            }
            Entry::Report => event::state(&self.name, self.gate.last_state()),
        }
        event::totals(&self.name, &self.counters.totals());
    }

    fn set_events(&self) -> Option<&broadcast::Sender<BreakerEvent>> {
        match &self.place {
            Place::Alone => None,
            Place::Named(events) | Place::Keyed { events, .. } => {
                (!self.is_removed.load(Relaxed)).then_some(events)
            }
        }
    }
}

/// Breakers that share settings, and so a seed, still differ in what chance does to them.
fn seed(config: &BreakerConfig, name: &str) -> Option<u64> {
    let seed = config.seed()?;
    let mut hasher = DefaultHasher::new();
    (seed, name).hash(&mut hasher);
    Some(hasher.finish())
}

/// The gate's view of the cell during one operation.
struct Around<'a> {
    cell: &'a Cell,
    /// The last clock reading.
    read: std::cell::Cell<Option<Nanos>>,
    has_moved: std::cell::Cell<bool>,
}

impl<'a> Around<'a> {
    fn new(cell: &'a Cell) -> Self {
        Self {
            cell,
            read: std::cell::Cell::new(None),
            has_moved: std::cell::Cell::new(false),
        }
    }

    fn finish(&self) {
        if self.has_moved.get() {
            self.cell.tell();
        }
    }
}

impl Surroundings for Around<'_> {
    fn now(&self) -> Nanos {
        let now = nanos(self.cell.epoch.elapsed());
        self.read.set(Some(now));
        now
    }

    fn successes(&self) -> u64 {
        self.cell.counters.successes_in_time()
    }

    fn moved(&self, moved: &Move) {
        let moved = BreakerEvent::new(Arc::clone(&self.cell.name), moved);
        self.cell.news.push(moved.clone());
        self.cell.outbox.push(Entry::Event(moved));
        self.has_moved.set(true);
    }
}
