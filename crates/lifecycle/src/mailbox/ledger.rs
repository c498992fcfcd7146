//! The books of one place: what became of the messages that were sent to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::mailbox::intake::{Counted, Intake, Lobby, TakenBack};
use crate::mailbox::times::{HandlerTimes, Times};
use crate::traffic::Traffic;
use crate::{Clock, Moment};

/// Counts what became of messages, over all runs of a place. Made by the first message.
pub(crate) struct Ledger {
    traffic: Arc<Traffic>,
    /// Let in by intakes that are closed, or past them.
    accepted: AtomicU64,
    pub(crate) handled: AtomicU64,
    /// As the actor itself counts them.
    pub(crate) failed: AtomicU64,
    /// More of them, of runs that were left behind, while a successor may be counting.
    pub(crate) failed_late: AtomicU64,
    /// Among the handled and failed: those that came past the count, as what an actor sends itself.
    uncounted: AtomicU64,
    /// More of them, as the actor itself counts them.
    pub(crate) past_count: AtomicU64,
    pub(crate) expired: AtomicU64,
    pub(crate) returned: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) dead: AtomicU64,
    pub(crate) redelivered: AtomicU64,
    /// Of those that have no envelope. Beside the counters, since every message looks at it.
    pub(crate) tracked: Tracked,
    pub(crate) times: Times,
}

/// A message that waits, and since when: one at a time is looked at, so that the others cost nothing.
#[derive(Debug, Default)]
pub(crate) struct Tracked {
    /// How many were to be taken before it and with it; 0 while none is looked at.
    left: AtomicU64,
    since: AtomicU64,
}

impl Tracked {
    /// A message was sent that waits behind `before` others.
    #[inline]
    pub(crate) fn sent(&self, before: u64, clock: &Clock) {
        if before > 0 && self.left.load(Relaxed) == 0 {
            self.track(before, clock);
        }
    }

    #[cold]
    fn track(&self, before: u64, clock: &Clock) {
        self.since.store(clock.recent().as_nanos(), Relaxed);
        self.left.store(before + 1, Relaxed);
    }

    /// Somebody asks for how long messages have waited: where none is looked at, those that wait now are from here on.
    pub(crate) fn look(&self, depth: impl Fn() -> u64, clock: &Clock) {
        let is_looked_at = self.left.load(Relaxed) > 0;
        let waiting = depth();
        if waiting == 0 && is_looked_at {
            // It was taken while its sender was about to say so, and would pass for one that comes later.
            self.clear();
        }
        if waiting == 0 || is_looked_at {
            return;
        }
        self.since.store(clock.now().as_nanos(), Relaxed);
        self.left.store(waiting, Relaxed);
        if depth() == 0 {
            // They were taken at this moment, and nobody may come for long.
            self.clear();
        }
    }

    /// A message was taken.
    #[inline]
    pub(crate) fn taken(&self) {
        let left = self.left.load(Relaxed);
        if left > 0 {
            self.left.store(left - 1, Relaxed);
        }
    }

    /// All that waited is gone.
    pub(crate) fn clear(&self) {
        self.left.store(0, Relaxed);
    }

    pub(crate) fn since(&self) -> Option<Moment> {
        let since = Moment::from_nanos(self.since.load(Relaxed));
        (self.left.load(Relaxed) > 0).then_some(since)
    }
}

impl Ledger {
    pub(crate) fn new(traffic: Arc<Traffic>) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            traffic,
            accepted: zero(),
            handled: zero(),
            failed: zero(),
            failed_late: zero(),
            uncounted: zero(),
            past_count: zero(),
            expired: zero(),
            returned: zero(),
            refused: zero(),
            dead: zero(),
            redelivered: zero(),
            tracked: Tracked::default(),
            times: Times::default(),
        }
    }

    /// Reads something, so that it is at hand.
    #[inline]
    pub(crate) fn look(&self) {
        std::hint::black_box(self.past_count.load(Relaxed));
    }

    /// Counts one that the actor itself counts, and nobody else.
    #[inline]
    pub(crate) fn count(counter: &AtomicU64) {
        counter.store(counter.load(Relaxed) + 1, Relaxed);
    }

    /// Counts one that anybody may count.
    pub(crate) fn count_shared(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }

    /// Takes over what an intake has counted that is closed. What is still in it has nobody who would take it: returns
    /// how many these are.
    pub(crate) fn take_over(&self, counted: Counted) -> u64 {
        let Counted {
            depth,
            accepted,
            beyond,
        } = counted;
        self.accepted.fetch_add(accepted, Relaxed);
        self.dead.fetch_add(depth, Relaxed);
        self.uncounted.fetch_add(beyond, Relaxed);
        depth
    }

    /// Counts a message as let in that goes elsewhere at once. Not in its intake, which may be closed by now.
    pub(crate) fn count_passed_by(&self) {
        self.accepted.fetch_add(1, Relaxed);
    }

    /// A message could not be handed over that an intake had let in.
    pub(crate) fn come_back<'a>(&self, intake: &Intake, lobby: impl Fn() -> Option<&'a Lobby>) {
        match intake.take_back(lobby) {
            TakenBack::Open => {}
            TakenBack::Left => {
                self.accepted.fetch_sub(1, Relaxed);
                self.dead.fetch_sub(1, Relaxed);
            }
            TakenBack::Taken => {
                self.accepted.fetch_sub(1, Relaxed);
                self.uncounted.fetch_add(1, Relaxed);
            }
        }
        self.traffic.closing().stir();
    }

    pub(crate) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    pub(crate) fn read<'a>(
        &self,
        intakes: impl Iterator<Item = &'a Intake>,
        waits_since: Option<Moment>,
        in_hand: u64,
    ) -> Figures {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        let mut depth = 0;
        let mut beyond = 0;
        let mut accepted = read(&self.accepted);
        for counted in intakes.map(Intake::read) {
            depth += counted.depth;
            beyond += counted.beyond;
            accepted = accepted.wrapping_add(counted.accepted);
        }
        let since = self.tracked.since().into_iter().chain(waits_since).min();
        Figures {
            depth,
            oldest_at_least: since
                .filter(|_| depth > 0)
                .map(|since| self.traffic.clock().since(since)),
            in_hand,
            handled: read(&self.handled),
            failed: read(&self.failed).wrapping_add(read(&self.failed_late)),
            uncounted: read(&self.uncounted)
                .wrapping_add(read(&self.past_count))
                .wrapping_add(beyond),
            expired: read(&self.expired),
            returned: read(&self.returned),
            refused: read(&self.refused),
            dead: read(&self.dead),
            redelivered: read(&self.redelivered),
            times: self.times.read(),
            accepted,
        }
    }

    fn totals(&self) -> Totals {
        Totals::from(&self.read(std::iter::empty(), None, 0))
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.traffic.bury(&self.totals());
    }
}

/// What became of the messages that were sent to one actor, over all its runs, as far as any were.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Figures {
    /// How many wait.
    pub depth: u64,
    /// For how long at least the oldest of them has waited; `None` while none waits. One message at a time is looked at,
    /// beside those that wait in the framework and not in the actor's port. One that waits alone, behind the one in hand,
    /// is looked at from when somebody first asks.
    pub oldest_at_least: Option<Duration>,
    /// 1 while a message is in hand; more where runs that were left behind still have theirs.
    pub in_hand: u64,
    /// How many were handled with success.
    pub handled: u64,
    /// How many were in hand when their actor failed or was killed.
    pub failed: u64,
    /// Among the handled and the failed: those that came past the framework, as what an actor sends to itself.
    pub uncounted: u64,
    /// How many were skipped, since their deadline had passed or their caller had gone.
    pub expired: u64,
    /// How many were returned at a restart.
    pub returned: u64,
    /// How many were refused; these were never in the mailbox.
    pub refused: u64,
    /// How many became dead letters, those that were replaced by a later one among them.
    pub dead: u64,
    /// How often a message was handed to the actor again after a crash.
    pub redelivered: u64,
    /// How long handlers took: of each run the first (after a restart the second) and one in sixteen; of the messages
    /// after the first thousand, one in sixty-four.
    pub times: HandlerTimes,
    accepted: u64,
}

impl Figures {
    /// Says whether each message that was let in is accounted for: it waits, is in hand, or ended in one way.
    ///
    /// True whenever nothing is on its way; while messages come and go the figures are read one after the other.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        Totals::from(self).is_balanced()
    }
}

/// The books of many places together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// How many messages wait.
    pub waiting: u64,
    /// How many are in hand.
    pub in_hand: u64,
    /// How many were handled with success.
    pub handled: u64,
    /// How many were in hand when their actor failed or was killed.
    pub failed: u64,
    /// Among the handled and the failed: those that came past the framework.
    pub uncounted: u64,
    /// How many were skipped, since their deadline had passed or their caller had gone.
    pub expired: u64,
    /// How many were returned at a restart.
    pub returned: u64,
    /// How many were refused.
    pub refused: u64,
    /// How many became dead letters.
    pub dead: u64,
    accepted: u64,
}

impl Totals {
    /// Says whether each message that was let in is accounted for.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.accepted == self.accounted()
    }

    /// All that were let in and are accounted for.
    fn accounted(&self) -> u64 {
        let ended = self.handled + self.failed + self.expired + self.returned;
        let all = ended + self.waiting + self.in_hand;
        // Those that were counted out twice over are taken off: an intake's loss may be undone before it is noted.
        all.wrapping_add(self.dead).wrapping_sub(self.uncounted)
    }

    /// Adds the books of others, as of one place: those come [from](Self::from) its figures.
    pub fn add(&mut self, other: &Self) {
        let sum = |a: u64, b: u64| a.wrapping_add(b);
        *self = Self {
            waiting: sum(self.waiting, other.waiting),
            in_hand: sum(self.in_hand, other.in_hand),
            handled: sum(self.handled, other.handled),
            failed: sum(self.failed, other.failed),
            uncounted: sum(self.uncounted, other.uncounted),
            expired: sum(self.expired, other.expired),
            returned: sum(self.returned, other.returned),
            refused: sum(self.refused, other.refused),
            dead: sum(self.dead, other.dead),
            accepted: sum(self.accepted, other.accepted),
        };
    }
}

impl From<&Figures> for Totals {
    fn from(figures: &Figures) -> Self {
        Self {
            waiting: figures.depth,
            in_hand: figures.in_hand,
            handled: figures.handled,
            failed: figures.failed,
            uncounted: figures.uncounted,
            expired: figures.expired,
            returned: figures.returned,
            refused: figures.refused,
            dead: figures.dead,
            accepted: figures.accepted,
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn one_that_was_taken_before_its_sender_said_so_is_forgotten_by_who_looks() {
        let (clock, tracked) = (Clock::new(), Tracked::default());
        tracked.sent(1, &clock);
        tracked.look(|| 2, &clock);
        assert!(tracked.since().is_some());
        tracked.look(|| 0, &clock);
        assert!(tracked.since().is_none());
    }
}
