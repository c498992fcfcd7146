//! The messages of a place: its books, and what waits between two runs.

use std::any::TypeId;
use std::sync::atomic::{Ordering::Acquire, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ractor::{ActorCell, Message};

use super::Node;
use crate::mailbox::ledger::{Figures, Ledger};
use crate::mailbox::letterbox::{AnyLetterbox, Letterbox};
use crate::traffic::Traffic;
use crate::{DeadReason, Incarnation, Mail, Mailbox};

/// Somebody lives here, or will be started.
pub(super) const ON: u8 = 0;
/// Its supervisor starts it only when it is told to.
const OFF: u8 = 1;
/// So, since it was told to stop it.
const DISMISSED: u8 = 2;
/// Nobody will be started here any more, as far as is known.
const RETIRED: u8 = 3;

/// So many places are looked at together before something is done with each: then they are brought from memory at the
/// same time.
pub(super) const FEW: usize = 32;

/// What outlasts the runs of a place that letters were sent to, or whose run was left behind.
#[derive(Default)]
pub(super) struct Post(Mutex<Shelf>);

#[derive(Default)]
struct Shelf {
    letterbox: Option<Arc<dyn AnyLetterbox>>,
    /// Letterboxes for other types, which a run or a message still holds: they have counted what is in no other book.
    earlier: Vec<Weak<dyn AnyLetterbox>>,
    /// Runs that were left behind: each may still have a message in hand.
    left_behind: Vec<Weak<Incarnation>>,
}

impl Post {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// Returns what became of the messages that were sent here; `None` while none was.
    #[must_use]
    pub fn figures(&self) -> Option<Figures> {
        self.known_ledger()?;
        self.figures_with(self.current().as_ref())
    }

    pub(super) fn figures_with(&self, run: Option<&Arc<Incarnation>>) -> Option<Figures> {
        let ledger = self.known_ledger()?;
        let (letterboxes, left_behind) = match self.known_post() {
            Some(post) => {
                let shelf = post.shelf();
                let earlier = shelf.earlier.iter().filter_map(Weak::upgrade);
                let letterboxes: Vec<_> = shelf.letterbox.iter().cloned().chain(earlier).collect();
                let left_behind = shelf.left_behind.iter().filter_map(Weak::upgrade);
                (letterboxes, left_behind.collect::<Vec<_>>())
            }
            None => (Vec::new(), Vec::new()),
        };
        let letters = letterboxes.iter().map(|it| it.intake());
        let intakes = run.iter().map(|it| it.intake()).chain(letters);
        let runs = run.into_iter().chain(&left_behind);
        let in_hand = runs.filter(|it| it.in_hand_since().is_some()).count();
        if let Some(run) = run {
            let clock = run.traffic().clock();
            ledger.tracked.look(|| run.intake().depth(), clock);
        }
        let waits_since = letterboxes.iter().filter_map(|it| it.waits_since()).min();
        Some(ledger.read(intakes, waits_since, in_hand as u64))
    }

    /// Counts a message that was refused: in the books of the tree alone, if nothing was sent here before the place was
    /// given up.
    pub fn count_refused(&self, traffic: &Arc<Traffic>) {
        // It may have left the tree, and then nobody would find books that are opened now.
        if self.is_retired() && self.known_ledger().is_none() {
            return traffic.count_refused();
        }
        Ledger::count_shared(&self.ledger(traffic).refused);
    }

    /// Says that nobody will be started here any more, nor below, as far as is known: what waits becomes dead letters,
    /// and whoever waits for the place is told.
    ///
    /// A start takes it back, for this place and all below.
    pub fn retire(&self) {
        self.retire_here();
        let mut open = self.children_in_any_order();
        while !open.is_empty() {
            let some = open.split_off(open.len().saturating_sub(FEW));
            some.iter().for_each(Self::look);
            for node in some {
                node.retire_here();
                open.append(&mut node.children_in_any_order());
            }
        }
    }

    /// Says that its supervisor has failed to start it when it was told to, and starts it only when it is told to: what
    /// waits here and below is kept, and no shutdown waits for it.
    ///
    /// A start takes it back, for this place and all below.
    pub fn take_off_duty(&self) {
        self.lower_duty(OFF);
    }

    /// As [`take_off_duty`](Self::take_off_duty), for one that its supervisor has stopped because it was told to: that it
    /// is down is as somebody wants it, however its last run ended.
    pub fn dismiss(&self) {
        self.lower_duty(DISMISSED);
    }

    fn lower_duty(&self, duty: u8) {
        // Whoever drains the tree waits for the supervisor's order to be carried out, and looks again then.
        self.duty.fetch_max(duty, SeqCst);
        let mut open = self.children_in_any_order();
        while let Some(node) = open.pop() {
            node.duty.fetch_max(duty, SeqCst);
            open.append(&mut node.children_in_any_order());
        }
    }

    /// Says whether it, or a supervisor above it, was [dismissed](Self::dismiss), and nobody has been started here since.
    #[must_use]
    pub fn is_dismissed(&self) -> bool {
        self.duty.load(Acquire) == DISMISSED
    }

    /// Says whether it is started only when its supervisor is told to, or not at all.
    pub(super) fn is_off_duty(&self) -> bool {
        self.duty.load(Acquire) != ON
    }

    /// Says whether the place was [retired](Self::retire), and nobody has been started here since.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.duty.load(Acquire) == RETIRED
    }

    /// Waits until the place is [retired](Self::retire).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: waiting changes nothing.
    pub async fn retired(&self) {
        loop {
            let changed = self.changed();
            if self.is_retired() {
                return;
            }
            changed.await;
        }
    }

    fn retire_here(&self) {
        // Before the letterbox is closed: a run that ends meanwhile either sees it, or finds the letterbox closed.
        self.duty.store(RETIRED, SeqCst);
        let letterbox = self
            .known_post()
            .and_then(|it| it.shelf().letterbox.clone());
        if let Some(letterbox) = letterbox {
            letterbox.close(DeadReason::Stopped);
        }
        self.announce();
    }

    #[cold]
    pub(super) fn revive(&self) {
        self.duty.store(ON, SeqCst);
        let mut open = self.children_in_any_order();
        while let Some(node) = open.pop() {
            node.duty.store(ON, SeqCst);
            open.append(&mut node.children_in_any_order());
        }
    }

    /// Retires a place that the tree no longer holds; somebody else may, and then it stays in the books.
    pub(super) fn leave_tree(self: Arc<Self>) {
        let mut open = vec![self];
        while let Some(node) = open.pop() {
            node.retire_here();
            open.append(&mut node.children_in_any_order());
            if let Some(ledger) = node.known_ledger() {
                ledger.traffic().add_gone(&node);
            }
        }
    }

    /// Notes a run that is no longer the one of this place, and may still have a message in hand.
    pub(super) fn note_left_behind(&self, run: &Arc<Incarnation>) {
        // Without books it has taken no message.
        if self.known_ledger().is_some() {
            let mut shelf = self.post().shelf();
            shelf.left_behind.retain(|it| it.strong_count() > 0);
            shelf.left_behind.push(Arc::downgrade(run));
        }
        run.part();
    }

    /// Returns the runs that were left behind here and still have a message in hand.
    #[must_use]
    pub fn left_behind(&self) -> Vec<Arc<Incarnation>> {
        let Some(post) = self.known_post() else {
            return Vec::new();
        };
        let mut runs: Vec<_> = {
            let shelf = post.shelf();
            shelf.left_behind.iter().filter_map(Weak::upgrade).collect()
        };
        runs.retain(|it| it.in_hand_since().is_some());
        runs
    }

    /// Returns how many letters wait here, for whichever run.
    pub(super) fn letters(&self) -> u64 {
        let letterbox = self
            .known_post()
            .and_then(|it| it.shelf().letterbox.clone());
        letterbox.map_or(0, |it| it.intake().depth())
    }

    /// Returns how long a shutdown waits for what waits here, where its spec limits that.
    #[must_use]
    pub fn drain_limit(&self) -> Option<Duration> {
        if let Some(run) = self.current() {
            return run.mailbox().drain_limit();
        }
        let letterbox = self.known_post()?.shelf().letterbox.clone()?;
        letterbox.settings().drain_limit()
    }

    /// Lets in letters only from inside the tree any more.
    pub(crate) fn shut_post(&self) {
        let letterbox = self
            .known_post()
            .and_then(|it| it.shelf().letterbox.clone());
        if let Some(letterbox) = letterbox {
            letterbox.intake().shut();
        }
    }

    #[inline]
    pub(crate) fn ledger(&self, traffic: &Arc<Traffic>) -> &Arc<Ledger> {
        self.ledger
            .get_or_init(|| Arc::new(Ledger::new(Arc::clone(traffic))))
    }

    fn post(&self) -> &Post {
        self.rare().post.get_or_init(Box::default)
    }

    fn known_post(&self) -> Option<&Post> {
        self.rare.get()?.post.get()
    }

    #[inline]
    pub(crate) fn known_ledger(&self) -> Option<&Arc<Ledger>> {
        self.ledger.get()
    }

    /// Returns the place's letterbox for messages of this type; what waits in one of another type becomes dead letters.
    pub(crate) fn letterbox<M: Message>(
        self: &Arc<Self>,
        traffic: &Arc<Traffic>,
        settings: &Mailbox,
        present: Option<ActorCell>,
    ) -> Arc<dyn AnyLetterbox> {
        let ledger = Arc::clone(self.ledger(traffic));
        let mut shelf = self.post().shelf();
        if let Some(known) = shelf
            .letterbox
            .as_ref()
            .filter(|it| it.mail() == TypeId::of::<Mail<M>>())
        {
            return Arc::clone(known);
        }
        let traffic = Arc::clone(traffic);
        let new = Letterbox::<M>::new(self, ledger, traffic, settings.clone(), present);
        let old = shelf.letterbox.replace(new.clone());
        shelf.earlier.retain(|it| it.strong_count() > 0);
        shelf.earlier.extend(old.as_ref().map(Arc::downgrade));
        if new.has_to_be_shut() {
            new.intake().shut();
        }
        drop(shelf);
        if let Some(old) = old {
            old.close(DeadReason::OtherType);
        }
        new
    }

    /// Returns the letterbox that earlier runs have left, for an actor that takes this type of mail.
    pub(crate) fn known_letterbox(&self, mail: TypeId) -> Option<Arc<dyn AnyLetterbox>> {
        let known = self.known_post()?.shelf().letterbox.clone()?;
        if known.mail() == mail {
            return Some(known);
        }
        known.close(DeadReason::OtherType);
        None
    }
}
