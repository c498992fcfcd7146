//! The shared cell of one breaker: what outlives its actor.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use crate::counters::Counters;
use crate::event::{self, BreakerEvent};
use crate::gate::{Gate, Surroundings, Ticket};
use crate::machine::{Command, Machine, Move, Nanos, Verdict, nanos};
use crate::sync::{Mutex, lock};
use crate::{BreakerConfig, BreakerState, BreakerStatus, CircuitOpen};

/// Events that a slow subscriber may be behind before it misses some.
const EVENTS: usize = 32;

#[derive(Debug)]
pub(crate) struct Cell {
    name: Arc<str>,
    epoch: Instant,
    gate: Gate,
    counters: Counters,
    state: watch::Sender<BreakerState>,
    events: broadcast::Sender<BreakerEvent>,
    /// The channel of the set that this breaker is registered in.
    set_events: Option<broadcast::Sender<BreakerEvent>>,
    outbox: Mutex<Outbox>,
}

/// What logs and metrics are still to be told.
///
/// They run code that is not ours, so they are told without any lock held: it may be slow, panic, or call a
/// breaker, this one included. One thread at a time empties the outbox, which keeps the order.
#[derive(Debug, Default)]
struct Outbox {
    entries: VecDeque<Entry>,
    has_teller: bool,
}

#[derive(Debug)]
enum Entry {
    Event(BreakerEvent),
    Report,
}

impl Cell {
    pub(crate) fn new(
        name: Arc<str>,
        config: BreakerConfig,
        set_events: Option<broadcast::Sender<BreakerEvent>>,
    ) -> Self {
        Self {
            name,
            epoch: Instant::now(),
            gate: Gate::new(Machine::new(config)),
            counters: Counters::new(),
            state: watch::Sender::new(BreakerState::Closed),
            events: broadcast::Sender::new(EVENTS),
            set_events,
            outbox: Mutex::default(),
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
        self.events.subscribe()
    }

    pub(crate) fn acquire(&self) -> Result<Ticket, CircuitOpen> {
        let around = Around::new(self);
        let answer = self.gate.acquire(&around);
        around.finish();
        answer.map_err(|refusal| {
            self.counters.refused();
            CircuitOpen {
                breaker: Arc::clone(&self.name),
                state: refusal.state,
                retry_after: refusal.retry_after,
            }
        })
    }

    pub(crate) fn settle(&self, ticket: Ticket, verdict: Verdict) {
        if ticket.is_uncounted() {
            return;
        }
        self.counters.ended(verdict);
        let around = Around::new(self);
        if self.gate.settle(ticket, verdict, &around) {
            self.counters.late();
        }
        if verdict == Verdict::Failure {
            self.counters
                .failed_at(around.read.get().unwrap_or_else(|| around.now()));
        }
        around.finish();
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
            transitions: view.transitions,
            since_last_failure: self
                .counters
                .last_failure()
                .map(|then| Duration::from_nanos(now.saturating_sub(then))),
        }
    }

    /// Publishes the state and the totals, behind the events that are waiting.
    pub(crate) fn report(&self) {
        lock(&self.outbox).entries.push_back(Entry::Report);
        self.tell();
    }

    fn tell(&self) {
        let mut outbox = lock(&self.outbox);
        if outbox.has_teller {
            return;
        }
        outbox.has_teller = true;
        while let Some(entry) = outbox.entries.pop_front() {
            drop(outbox);
            // A subscriber or a recorder that panics has been reported by the panic hook; the call that it met here
            // has nothing to do with it.
            drop(catch_unwind(AssertUnwindSafe(|| self.tell_one(&entry))));
            outbox = lock(&self.outbox);
        }
        outbox.has_teller = false;
    }

    fn tell_one(&self, entry: &Entry) {
        match entry {
            Entry::Event(moved) => event::emit(moved),
            Entry::Report => event::state(&self.name, *self.state.borrow()),
        }
        event::totals(&self.name, &self.counters.totals());
    }
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

    fn moved(&self, moved: &Move) {
        let moved = BreakerEvent::new(Arc::clone(&self.cell.name), moved);
        self.cell.state.send_replace(moved.to());
        for channel in self.cell.set_events.iter().chain([&self.cell.events]) {
            // An error only says that nobody listens.
            drop(channel.send(moved.clone()));
        }
        lock(&self.cell.outbox)
            .entries
            .push_back(Entry::Event(moved));
        self.has_moved.set(true);
    }
}
