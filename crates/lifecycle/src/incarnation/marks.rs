//! What is to be minded at the end of a message, in one word, so that where there is nothing it costs one look.

use std::sync::atomic::{Ordering::Acquire, Ordering::Release, Ordering::SeqCst};

use super::Incarnation;
use crate::closing::Loss;
use crate::{AtRestart, ChildKind, ExitReason};

/// It was left behind: the end on record is not the end of the task.
const DETACHED: u8 = 1;
/// Somebody waits until it is at rest.
const AWAITED: u8 = 2;
/// It was killed, and may be left behind.
const KILLED: u8 = 4;

impl Incarnation {
    /// Says whether it was left behind, because it did not yield to a kill: the end on record is not the end of
    /// its task.
    #[must_use]
    pub fn is_detached(&self) -> bool {
        self.marks.load(Acquire) & DETACHED != 0
    }

    pub(super) fn mark_detached(&self) {
        self.marks.fetch_or(DETACHED, SeqCst);
    }

    /// Before the kill, so that a handler which ends after it sees it.
    pub(super) fn mark_killed(&self) {
        self.marks.fetch_or(KILLED, SeqCst);
    }

    pub(super) fn is_killed(&self) -> bool {
        self.marks.load(Acquire) & KILLED != 0
    }

    /// The message in hand has failed. Noted before it is put down: until the run has ended, it is in nobody's count.
    pub(super) fn mark_failing(&self) {
        self.is_failing.store(true, Release);
    }

    /// Says whether it is about to end, or has: its handler has failed, or it was asked to stop or killed.
    #[must_use]
    pub fn is_failing_or_ending(&self) -> bool {
        self.is_failing.load(Acquire) || self.is_ending()
    }

    #[inline]
    pub(super) fn is_marked(&self) -> bool {
        self.marks.load(Acquire) != 0
    }

    /// Tells whoever waits for it that a message is through.
    #[cold]
    pub(super) fn tell_rest(&self) {
        if self.marks.load(Acquire) & AWAITED != 0 && self.mailbox_depth() == 0 {
            self.traffic.closing().stir();
        }
    }

    /// Says whether a message is in hand, or has just failed: then the run is about to end.
    pub(crate) fn is_at_work(&self) -> bool {
        self.in_hand.load(Acquire) != 0 || self.is_failing.load(Acquire)
    }

    /// Lets in messages only from inside the tree any more, and tells whenever it is at rest.
    pub(crate) fn shut(&self) {
        self.intake.shut();
        self.marks.fetch_or(AWAITED, SeqCst);
    }

    /// For a run that has entered its place, perhaps too late to be found by whoever has shut the tree.
    pub(crate) fn shut_if_late(&self) {
        if self.traffic.closing().has_begun_before_lock() {
            self.shut();
            self.traffic.closing().stir();
        }
    }

    /// Returns how many letters wait for it.
    pub(super) fn letters(&self) -> u64 {
        self.known_letterbox().map_or(0, |it| it.intake().depth())
    }

    /// Notes what is lost with its end, where the tree is shutting down: what waited in its port, and the letters, too,
    /// unless they are kept for the next run, as they may be before the tree stops.
    pub(super) fn note_loss(&self, letters: u64, lost: u64, in_hand: bool) {
        if letters + lost == 0 && !in_hand {
            return;
        }
        // What waits behind the stop of a supervisor, as of a pool, is the framework's own.
        let spec = self.node.spec();
        if spec.is_some_and(|(kind, ..)| kind == ChildKind::Supervisor) {
            return;
        }
        let is_stopped = matches!(self.asked(), Some(ExitReason::Shutdown));
        self.traffic.closing().note_loss(is_stopped, |is_last| {
            let settings = self.known_letterbox().map(|it| it.settings());
            let are_kept = settings.is_some_and(|it| it.at_restart == AtRestart::Keep);
            let waiting = match is_last || !are_kept {
                true => lost + letters,
                false => lost,
            };
            let is_any = waiting > 0 || in_hand;
            // One that was left behind is known to whoever did so.
            (is_any && !self.is_detached()).then(|| Loss {
                path: self.node.path().clone(),
                waiting,
                in_hand: in_hand.then(|| self.message_type().name),
            })
        });
    }
}
