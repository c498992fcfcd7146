//! The letters that wait in a letterbox.

use std::collections::VecDeque;

use ractor::{ActorCell, ActorId};

use crate::mail::Letter;
use crate::mailbox::keys::Index;
use crate::{DeadReason, Moment};

/// Where the numbers begin: messages are put back in front.
const FIRST: u64 = 1 << 32;

/// The letters of a letterbox, in order, and who is to take them.
pub(super) struct Store<M> {
    pub(super) letters: VecDeque<Letter<M>>,
    /// How many have left the front: the number of the first.
    first: u64,
    index: Option<Box<dyn Index<M>>>,
    /// Whom a claim is sent for what comes late.
    pub(super) present: Option<ActorCell>,
    /// Since when it is here, unless it was sent the first letter.
    pub(super) present_since: Moment,
    /// Nobody will come for what is here.
    pub(super) closed: Option<DeadReason>,
    /// Which runs were left behind, and how many letters are stuck in the port of each.
    stuck: Vec<(ActorId, u64)>,
}

impl<M> Store<M> {
    pub(super) fn new(index: Option<Box<dyn Index<M>>>, present: Option<ActorCell>) -> Self {
        Self {
            letters: VecDeque::new(),
            first: FIRST,
            index,
            present,
            present_since: Moment::default(),
            closed: None,
            stuck: Vec::new(),
        }
    }

    /// Returns where the letter waits that the new one replaces; if there is none, notes that the new one comes last.
    pub(super) fn same_as(&mut self, message: &M) -> Option<usize> {
        let last = self.first.wrapping_add(self.letters.len() as u64);
        let index = self.index.as_mut()?;
        let number = index.find_or_note(message, last)?;
        usize::try_from(number.wrapping_sub(self.first)).ok()
    }

    /// Takes back that a message comes last.
    pub(super) fn forget_last(&mut self, message: &M) {
        let last = self.first.wrapping_add(self.letters.len() as u64);
        if let Some(index) = &mut self.index {
            index.forget(message, last);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Letter<M>> {
        let letter = self.letters.pop_front()?;
        if let Some(index) = &mut self.index {
            index.forget(&letter.message, self.first);
        }
        self.first += 1;
        Some(letter)
    }

    /// Puts one back that was first.
    pub(super) fn put_back(&mut self, letter: Letter<M>) {
        // A later one with the same key may have come: both stay, in order.
        self.first -= 1;
        self.letters.push_front(letter);
    }

    /// Takes all out.
    pub(super) fn clear(&mut self) -> VecDeque<Letter<M>> {
        let letters = std::mem::take(&mut self.letters);
        self.first += letters.len() as u64;
        if let Some(index) = &mut self.index {
            index.clear();
        }
        letters
    }

    /// A run is left behind while so many letters are let in: notes which of them are stuck in its port, and returns how
    /// many these are.
    pub(super) fn leave_behind(&mut self, run: ActorId, depth: u64) -> u64 {
        let elsewhere = self.stuck.iter().map(|(_, stuck)| stuck).sum::<u64>();
        let stuck = depth.saturating_sub(elsewhere + self.letters.len() as u64);
        self.stuck.push((run, stuck));
        stuck
    }

    /// A run that was left behind has ended: forgets what was stuck in its port, and returns how many letters that were.
    pub(super) fn come_late(&mut self, run: ActorId) -> u64 {
        let at = self.stuck.iter().position(|(id, _)| *id == run);
        at.map_or(0, |at| self.stuck.swap_remove(at).1)
    }
}
