//! What a run does with its messages: takes each in hand, notes what became of it, and at its end settles the rest.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};

use ractor::Message;

use super::{Custody, Incarnation, Known};
use crate::adapter::Special;
use crate::dead::Obituary;
use crate::mail::low;
use crate::mailbox::front::Front;
use crate::mailbox::intake::Counted;
use crate::mailbox::ledger::Ledger;
use crate::mailbox::letterbox::Open;
use crate::{Clock, DeadReason, Moment, span};

impl Incarnation {
    /// Takes over the letters of earlier runs, which this one gets before all others.
    pub(crate) fn resume(&self) {
        let Some(letterbox) = self.node.known_letterbox(self.takes_id()) else {
            return;
        };
        letterbox.resume(self.cell());
        // Nobody can have sent anything yet.
        drop(self.more().letterbox.set(Known::new(letterbox)));
    }

    /// Takes a message in hand, whatever its type.
    #[inline(never)]
    pub(crate) fn begin_message(&self, message: &mut dyn Any) -> Option<Special> {
        match self.known() {
            Some(known) => known.letterbox.open(message, self),
            None => self.begin_plain(),
        }
    }

    /// Returns how letters of a type are taken in hand, where the actor takes such and one was sent.
    pub(crate) fn opener<T: Message>(&self) -> Option<(Open<T>, Arc<Front>)> {
        let known = self.known()?;
        let open = known.letterbox.opener().downcast_ref::<Open<T>>()?;
        Some((*open, Arc::clone(&known.front)))
    }

    /// Takes a message in hand that did not come through a letterbox.
    #[inline(never)]
    pub(crate) fn begin_plain(&self) -> Option<Special> {
        self.take_in_hand();
        let ledger = self.ledger();
        if !self.intake.take(|| self.known_lobby()) {
            Ledger::count(&ledger.past_count);
        }
        ledger.tracked.taken();
        None
    }

    /// Notes that a message is in hand, before it is counted as taken, and returns since when.
    #[inline(always)]
    pub(crate) fn take_in_hand(&self) -> Moment {
        // One writer: the actor's own task. Plain stores suffice, and are cheaper than read-modify-write.
        let taken = self.taken.load(Relaxed) + 1;
        let clock = self.traffic.clock();
        let now = if self.is_timed(taken) {
            exactly(clock)
        } else {
            clock.recent()
        };
        // Before the count, so that a message is not taken for handled in between.
        self.in_hand.store(now.as_nanos() + 1, Relaxed);
        self.taken.store(taken, Relaxed);
        now
    }

    /// What was taken in hand is to be skipped.
    pub(crate) fn take_back_in_hand(&self) {
        self.taken.store(self.taken.load(Relaxed) - 1, Relaxed);
        self.in_hand.store(0, Relaxed);
    }

    /// Makes the span of a message that was taken.
    pub(crate) fn span_of(&self, message: &dyn Any) -> tracing::Span {
        let letterbox = self.known_letterbox();
        let sender = letterbox.and_then(|it| it.span(message));
        span::of_message(self, sender)
    }

    /// The message in hand was handled, or has failed.
    ///
    /// A function of its own, so that what polls a handler is small enough to be in place.
    #[inline(never)]
    pub(crate) fn end_message(&self, front: Option<&Front>, is_handled: bool) {
        let since = self.in_hand.load(Relaxed);
        // One look for all that is rare.
        if is_handled && !self.is_marked() {
            self.put_down_handled(front, since, None);
            return;
        }
        self.end_specially(since, is_handled);
    }

    #[inline(never)]
    fn end_specially(&self, since: u64, is_handled: bool) {
        if !is_handled {
            self.mark_failing();
        }
        // Nobody is left behind who was not killed; so one that has just failed asks for no memory here.
        let custody = self.is_killed().then(|| self.custody());
        if self.is_detached() {
            // It counts as failed once the run has settled, whatever came of it: a successor may be here.
            return;
        }
        match is_handled {
            true => self.put_down_handled(self.front(), since, custody),
            false => self.put_down_failed(since, custody),
        }
        self.tell_rest();
    }

    /// The message in hand, if it was not skipped, is no longer there. What is the host's is dropped without custody.
    #[inline(always)]
    fn put_down_handled(&self, front: Option<&Front>, since: u64, custody: Option<Custody<'_>>) {
        self.in_hand.store(0, Relaxed);
        if since == 0 {
            // It was skipped, and is in the books already.
            return;
        }
        let front = front.or_else(|| self.front());
        let ledger = front.map_or_else(|| self.ledger(), |it| &it.ledger);
        Ledger::count(&ledger.handled);
        let taken = self.taken.load(Relaxed);
        let is_down = front.is_some_and(|it| it.hand.is_down());
        if is_down || self.is_timed(taken) {
            self.note_handled(taken, since, custody);
        } else if let Some(front) = front {
            front.hand.put_away();
        }
    }

    #[cold]
    fn note_handled(&self, taken: u64, since: u64, custody: Option<Custody<'_>>) {
        if self.is_timed(taken) {
            self.note_time(taken, since);
        }
        if let Some(known) = self.known() {
            known.letterbox.handled(custody);
        }
    }

    /// As [`put_down_handled`](Self::put_down_handled), of one that has failed.
    fn put_down_failed(&self, since: u64, custody: Option<Custody<'_>>) {
        // Whoever sees that it is at rest sees, too, that it is failing.
        self.in_hand.store(0, Release);
        if since == 0 {
            return;
        }
        match self.known() {
            Some(known) => {
                if let Some(set_aside) = known.letterbox.crashed(custody) {
                    // A run has one message in hand when it ends.
                    drop(self.more().set_aside.set(Box::new(set_aside)));
                }
            }
            None => Ledger::count(&self.ledger().failed),
        }
    }

    /// Notes how long the handler of a message took: of the first, of one in sixteen until that is known of sixty-four,
    /// and of one in sixty-four from then on, since to read the clock is a tenth of what such a message costs. After a
    /// restart it begins with the second, so that an actor that fails again and again at its first is back sooner.
    fn note_time(&self, taken: u64, since: u64) {
        let every = if taken < 1_024 { 16 } else { 64 };
        self.timed.store(low(taken + every), Relaxed);
        let now = self.traffic.clock().now().as_nanos();
        let took = (now + 1).saturating_sub(since);
        self.ledger().times.record(took);
    }

    /// Settles what became of its messages: the one in hand, and those that wait in a port that is gone.
    pub(crate) fn settle(&self) {
        let in_hand = self.in_hand.load(Relaxed) != 0;
        // Before the one in hand is put back to them.
        let letters = self.letters();
        if in_hand {
            self.end_message(None, false);
        }
        if self.in_hand.load(Relaxed) != 0 {
            // It was left behind. Not for the letterbox, which is a successor's.
            self.in_hand.store(0, Relaxed);
            Ledger::count_shared(&self.ledger().failed_late);
        }
        if let Some(letterbox) = self.known_letterbox() {
            letterbox.pause(self.cell());
            if self.node.is_retired() {
                letterbox.close(DeadReason::Stopped);
            }
        }
        let lost = self.close_intake();
        self.note_loss(letters, lost, in_hand);
    }

    /// It was left behind: what waits in its port has nobody who would take it. The message in hand is settled by its own
    /// end, since it may be through with it at this moment.
    pub(crate) fn part(&self) {
        if let Some(letterbox) = self.known_letterbox() {
            letterbox.part(self.cell());
        }
        self.close_intake();
    }

    /// Returns how many were lost that waited.
    fn close_intake(&self) -> u64 {
        let counted = self.intake.close(|| self.known_lobby());
        if counted == Counted::default() {
            return 0;
        }
        // Made here, if it ends before it has taken its first message.
        let ledger = self.ledger();
        let lost = ledger.take_over(counted);
        ledger.tracked.clear();
        if lost > 0 {
            let message_type = self.message_type().name;
            let obituary = Obituary::of_lost(self.node.path().clone(), message_type, lost);
            self.traffic.dead_letters().add(obituary, None);
        }
        lost
    }

    #[inline]
    fn is_timed(&self, taken: u64) -> bool {
        low(taken) == self.timed.load(Relaxed)
    }
}

/// Reads a clock; apart, as all that few messages do, so that the others need not keep so much at hand.
#[cold]
fn exactly(clock: &Clock) -> Moment {
    clock.now()
}
