//! What stands behind the actors that take [`Mail`]: the messages that outlast a run.

use std::any::{Any, TypeId};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ractor::{ActorCell, Message};
use tracing::Span;

use crate::adapter::Special;
use crate::dead::{Kept, Obituary, Replay};
use crate::incarnation::Custody;
use crate::mail::{Cover, Letter};
use crate::mailbox::front::Front;
use crate::mailbox::homes::Home;
use crate::mailbox::intake::{Intake, NoEntry};
use crate::mailbox::keys::Index;
use crate::mailbox::ledger::Ledger;
use crate::mailbox::store::Store;
use crate::mailbox::{AtRestart, Overflow};
use crate::panic::let_go;
use crate::traffic::Traffic;
use crate::{ActorPath, Clock, DeadReason, Incarnation, Mail, Mailbox, Moment, Node};

/// The letterbox of a place: where messages wait between two runs, and where the one in hand is put down.
///
/// While an actor runs, its messages travel in ractor's port, each in its [`Mail`]. When the port dies it drops them, in
/// order, and each comes here by its `Drop`. The next run gets one claim for each, before anything else, and a claim
/// fetches the first that is here. Where the settings may drop or replace what waits, all messages wait here and only
/// claims travel.
pub(crate) struct Letterbox<M: Message> {
    front: Arc<Front>,
    traffic: Arc<Traffic>,
    place: Weak<Node>,
    path: ActorPath,
    /// Those of the run that was sent the first letter; they stay with the place.
    settings: Mailbox,
    store: Mutex<Store<M>>,
    /// What the handler in hand has dropped without taking it out. It was handled, or comes back.
    down: Mutex<Option<Letter<M>>>,
    /// The dead letter that stands for those that were replaced; [`NO_LETTER`] while none was.
    replaced: AtomicU64,
}

/// No dead letter has this id.
const NO_LETTER: u64 = u64::MAX;

/// Has a run take a message of a type in hand that it got through the letterbox of this front.
pub(crate) type Open<T> = fn(&mut T, &Front, &Incarnation) -> Option<Special>;

/// A message that was in hand at too many crashes.
#[derive(Clone, Copy)]
pub(crate) struct SetAside {
    pub(crate) message: &'static str,
    pub(crate) crashes: u32,
    pub(crate) dead_letter: u64,
}

/// A letterbox, whatever the type of its messages.
pub(crate) trait AnyLetterbox: Any + Send + Sync {
    /// Has a run take a message in hand.
    fn open(&self, message: &mut dyn Any, run: &Incarnation) -> Option<Special>;
    /// Returns the [`Open`] of its mail.
    fn opener(&self) -> &'static dyn Any;
    /// Returns the span in which a message was sent.
    fn span<'a>(&self, message: &'a dyn Any) -> Option<&'a Span>;
    /// Returns how long ago a message was sent, where that is written on it.
    fn age(&self, message: &dyn Any) -> Option<Duration>;
    /// The message in hand was handled, and put down before.
    fn handled(&self, custody: Option<Custody<'_>>);
    /// The run ended with the message in hand. Returns what is known of it, if that was once too often.
    fn crashed(&self, custody: Option<Custody<'_>>) -> Option<SetAside>;
    /// A run is about to begin that takes this type of message: gives it what waits.
    fn resume(&self, cell: &ActorCell);
    /// The run of this actor has ended; nothing is changed if another one is here by now.
    fn pause(&self, cell: &ActorCell);
    /// The run was left behind: what it has in hand is no longer of concern here.
    fn part(&self, cell: &ActorCell);
    /// Nobody will come any more.
    fn close(&self, reason: DeadReason);
    /// Returns since when one waits, of those that are known to: what waits here, and not in the actor's port, and one that
    /// is looked at there.
    fn waits_since(&self) -> Option<Moment>;
    fn intake(&self) -> &Intake;
    fn settings(&self) -> &Mailbox;
    fn mail(&self) -> TypeId;
    fn front(&self) -> &Arc<Front>;
}

impl<M: Message> Letterbox<M> {
    pub(crate) fn new(
        node: &Arc<Node>,
        ledger: Arc<Ledger>,
        traffic: Arc<Traffic>,
        settings: Mailbox,
        present: Option<ActorCell>,
    ) -> Arc<Self> {
        let index = match &settings.overflow {
            Overflow::Coalesce(_, keyed) => keyed.index().downcast::<Box<dyn Index<M>>>().ok(),
            _ => None,
        };
        let room = match settings.overflow {
            Overflow::DropOldest(_) | Overflow::Coalesce(..) => 0,
            _ => settings.capacity(),
        };
        let front = Arc::new(Front::new(room, ledger));
        let home = front.home;
        let new = Arc::new(Self {
            front,
            traffic,
            place: Arc::downgrade(node),
            path: node.path().clone(),
            settings,
            store: Mutex::new(Store::new(index.map(|it| *it), present)),
            down: Mutex::new(None),
            replaced: AtomicU64::new(NO_LETTER),
        });
        home.found(&(Arc::clone(&new) as Arc<dyn AnyLetterbox>));
        new
    }

    pub(crate) fn clock(&self) -> &Clock {
        self.traffic.clock()
    }

    /// Hands a letter over that the intake has let in.
    pub(crate) fn hand_over(
        &self,
        cell: &ActorCell,
        letter: Letter<M>,
    ) -> Result<(), (NoEntry, M)> {
        if self.stores() {
            return self.store(cell, letter, true);
        }
        let letter = Some(letter);
        cell.send_message(Mail { letter }).map_err(|error| {
            self.front.come_back();
            (NoEntry::Closed, unsent(error))
        })
    }

    /// Hands a letter over, where there is room or the settings make it.
    pub(crate) fn offer(&self, cell: &ActorCell, letter: Letter<M>) -> Result<u64, (NoEntry, M)> {
        if self.stores() {
            return self.store(cell, letter, false).map(|()| 0);
        }
        let is_inside = || self.traffic.is_sender_inside();
        match self.front.intake.enter_from(self.capacity(), is_inside) {
            Ok(before) => self.hand_over(cell, letter).map(|()| before),
            Err(NoEntry::Full)
                if matches!(self.settings.overflow, Overflow::DropNewest)
                    && letter.cover.caller().is_none() =>
            {
                self.front.ledger.count_passed_by();
                self.bury(letter, DeadReason::Overflow);
                Ok(0)
            }
            Err(no_entry) => Err((no_entry, letter.message)),
        }
    }

    /// Says whether the tree was shut before whoever did so could find this one.
    pub(crate) fn has_to_be_shut(&self) -> bool {
        self.traffic.closing().has_begun()
    }

    /// Returns how many letters are let in at the most.
    pub(crate) fn capacity(&self) -> u64 {
        match self.front.room() {
            0 => self.settings.capacity(),
            room => room,
        }
    }

    pub(crate) fn front(&self) -> &Front {
        &self.front
    }

    /// Says whether messages wait here and not in the actor's port.
    fn stores(&self) -> bool {
        self.front.stores()
    }

    /// Stores a letter and sends a claim for it, unless it takes the place of another that has one.
    fn store(
        &self,
        cell: &ActorCell,
        letter: Letter<M>,
        is_let_in: bool,
    ) -> Result<(), (NoEntry, M)> {
        if !is_let_in && self.front.intake.is_shut() && !self.traffic.is_sender_inside() {
            return Err((NoEntry::Shut, letter.message));
        }
        let mut store = self.lock();
        if let Some(same) = store.same_as(&letter.message) {
            let replaced = std::mem::replace(&mut store.letters[same], letter);
            if is_let_in {
                self.let_go();
            } else {
                self.front.ledger.count_passed_by();
            }
            drop(store);
            self.note_replaced(replaced);
            return Ok(());
        }
        let enter = || {
            let is_inside = || self.traffic.is_sender_inside();
            self.front
                .intake
                .enter_from(self.settings.capacity(), is_inside)
        };
        if !is_let_in && let Err(no_entry) = enter() {
            let may_drop = matches!(self.settings.overflow, Overflow::DropOldest(_));
            if !may_drop || no_entry == NoEntry::Shut {
                store.forget_last(&letter.message);
                return Err((no_entry, letter.message));
            }
            let Some(oldest) = store.pop() else {
                // The last one is being taken at this moment.
                return Err((no_entry, letter.message));
            };
            self.front.ledger.count_passed_by();
            store.letters.push_back(letter);
            drop(store);
            self.bury(oldest, DeadReason::Overflow);
            return Ok(());
        }
        store.letters.push_back(letter);
        if cell.send_message(Mail::<M>::claim()).is_ok() {
            // Its port may keep the claim for good if it closes at this moment, and the next run be here by now, which has
            // claims for all that waited before.
            if let Some(present) = store.present.as_ref()
                && present.get_id() != cell.get_id()
            {
                drop(present.send_message(Mail::<M>::claim()));
            }
            return Ok(());
        }
        let letter = store.letters.pop_back();
        let letter = letter.expect("it was put there under the same lock");
        store.forget_last(&letter.message);
        self.front.come_back();
        Err((NoEntry::Closed, letter.message))
    }

    /// Keeps a letter that its port has dropped: it waits for the next run.
    pub(crate) fn keep(&self, letter: Letter<M>) {
        let mut store = self.lock();
        // One that was stuck in the port of a run that was left behind, and would have been returned at its end.
        let is_late = self.settings.at_restart == AtRestart::Return
            && store.present.is_some()
            && letter.cover.sent() < store.present_since;
        let returned = is_late.then_some(DeadReason::Returned);
        if let Some(reason) = store.closed.or(returned) {
            drop(store);
            self.let_go();
            self.bury(letter, reason);
            return;
        }
        store.letters.push_back(letter);
        // For one that was stuck in its port until now: somebody else may run here. The run whose port drops it takes
        // no more.
        if let Some(present) = &store.present {
            drop(present.send_message(Mail::<M>::claim()));
        }
    }

    /// Puts the letter down that was in hand: its handler has dropped it without taking it out. Returns what nobody needs.
    pub(crate) fn put_down(&self, letter: Letter<M>) -> Option<Letter<M>> {
        let mut down = self.lock_down();
        if !self.front.hand.has(letter.cover.number()) {
            // It was put away for later and is counted as handled, or its handler was left behind.
            return Some(letter);
        }
        let previous = down.replace(letter);
        self.front.hand.put_down();
        previous
    }

    /// Has a run take a letter in hand. For nearly all nothing is needed of the letterbox but its front.
    fn take(mail: &mut Mail<M>, front: &Front, run: &Incarnation) -> Option<Special> {
        match &mut mail.letter {
            Some(letter) => letter.cover.take(front, run),
            None => Self::take_waiting(mail, front, run),
        }
    }

    /// Has a run take the first of those that wait in the letterbox.
    #[inline(never)]
    fn take_waiting(mail: &mut Mail<M>, front: &Front, run: &Incarnation) -> Option<Special> {
        let now = run.take_in_hand();
        mail.letter = Self::of(run).and_then(Self::claim);
        match &mut mail.letter {
            Some(letter) => letter.cover.take_counted(front, now, run),
            None => {
                // What it was for has been handled by the claim of another.
                run.take_back_in_hand();
                Some(Special::Skip)
            }
        }
    }

    /// Returns the letterbox of a run.
    fn of(run: &Incarnation) -> Option<&Self> {
        let letterbox: &dyn Any = &**run.known_letterbox()?;
        letterbox.downcast_ref()
    }

    /// The actor takes the first of those that wait here.
    #[inline(never)]
    fn claim(&self) -> Option<Letter<M>> {
        let mut store = self.lock();
        let letter = store.pop()?;
        // Under the lock, so that whoever finds no room finds a letter that makes some.
        self.front.count_taken();
        Some(letter)
    }

    /// A letter leaves that its actor has not taken: from here on it is in the books alone.
    fn let_go(&self) {
        self.front.intake.take_back(|| Some(&self.front.lobby));
        self.front.ledger.count_passed_by();
    }

    fn pick_up(&self) -> Option<Letter<M>> {
        if !self.front.hand.is_down() {
            return None;
        }
        self.front.hand.pick_up();
        let letter = self.lock_down().take()?;
        // Else it is one that the handler of a run has put down which was then left behind: it is in the books.
        self.front.hand.has(letter.cover.number()).then_some(letter)
    }

    /// A later letter has taken the place of this one.
    fn note_replaced(&self, letter: Letter<M>) {
        Ledger::count_shared(&self.front.ledger.dead);
        letter.cover.note_dropped();
        let obituary = self.obituary(&letter.cover, DeadReason::Replaced);
        // Of two at the same time that both find none, each makes one.
        let dead = self.traffic.dead_letters();
        let id = dead.add_to(self.replaced.load(Relaxed), obituary);
        self.replaced.store(id, Relaxed);
        let_go(letter);
    }

    fn obituary(&self, cover: &Cover, reason: DeadReason) -> Obituary {
        Obituary {
            target: self.path.clone(),
            message_type: std::any::type_name::<M>(),
            reason,
            sender: cover.sender().cloned(),
            age: Some(self.clock().since(cover.sent())),
            crashes: cover.crashes(),
            messages: 1,
        }
    }

    /// Makes a dead letter of it, and returns the id of that.
    fn bury(&self, letter: Letter<M>, reason: DeadReason) -> u64 {
        let counter = match reason {
            DeadReason::Returned => &self.front.ledger.returned,
            _ => &self.front.ledger.dead,
        };
        Ledger::count_shared(counter);
        match reason {
            DeadReason::Overflow => letter.cover.note_dropped(),
            DeadReason::Stopped => self.traffic.closing().note_given_up(&self.path),
            _ => {}
        }
        let Letter { message, cover } = letter;
        let obituary = self.obituary(&cover, reason);
        let is_call = cover.caller().is_some();
        let place = Weak::clone(&self.place);
        // Of a call only what is known of it: its caller hears at once that the answer will not come.
        let content: Option<Box<dyn Replay>> = if is_call {
            let_go(message);
            None
        } else {
            Some(Box::new(Kept { message, place }))
        };
        let id = self.traffic.dead_letters().add(obituary, content);
        self.traffic.closing().stir();
        id
    }

    fn lock(&self) -> MutexGuard<'_, Store<M>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_down(&self) -> MutexGuard<'_, Option<Letter<M>>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Message> AnyLetterbox for Letterbox<M> {
    fn open(&self, message: &mut dyn Any, run: &Incarnation) -> Option<Special> {
        match message.downcast_mut() {
            Some(mail) => Self::take(mail, &self.front, run),
            None => run.begin_plain(),
        }
    }

    fn opener(&self) -> &'static dyn Any {
        const { &(Self::take as Open<Mail<M>>) }
    }

    fn span<'a>(&self, message: &'a dyn Any) -> Option<&'a Span> {
        let mail = message.downcast_ref::<Mail<M>>()?;
        mail.letter.as_ref()?.cover.span()
    }

    fn age(&self, message: &dyn Any) -> Option<Duration> {
        let mail = message.downcast_ref::<Mail<M>>()?;
        let cover = &mail.letter.as_ref()?.cover;
        // One that was skipped has no home any more, but a reason to be; an actor's own has neither.
        let was_sent = cover.home() != Home::NOWHERE || cover.origin().is_some();
        was_sent.then(|| self.clock().since(cover.sent()))
    }

    #[inline]
    fn handled(&self, custody: Option<Custody<'_>>) {
        let done = self.pick_up();
        self.front.hand.put_away();
        drop(custody);
        let_go(done);
    }

    fn crashed(&self, custody: Option<Custody<'_>>) -> Option<SetAside> {
        let letter = self.pick_up();
        self.front.hand.put_away();
        let mut letter = match letter {
            Some(letter) if letter.cover.caller().is_none() => letter,
            taken_or_call => {
                Ledger::count(&self.front.ledger.failed);
                drop(custody);
                let_go(taken_or_call);
                return None;
            }
        };
        let reason = if letter.cover.note_crash() >= self.settings.poison_after.get() {
            DeadReason::Poison
        } else if self.settings.at_restart == AtRestart::Return {
            DeadReason::Returned
        } else {
            Ledger::count_shared(&self.front.ledger.redelivered);
            let mut store = self.lock();
            self.front.intake.put_back();
            store.put_back(letter);
            return None;
        };
        drop(custody);
        let crashes = letter.cover.crashes();
        let dead_letter = self.bury(letter, reason);
        (reason == DeadReason::Poison).then_some(SetAside {
            message: std::any::type_name::<M>(),
            crashes,
            dead_letter,
        })
    }

    fn resume(&self, cell: &ActorCell) {
        let mut store = self.lock();
        store.closed = None;
        for _ in 0..store.letters.len() {
            drop(cell.send_message(Mail::<M>::claim()));
        }
        store.present = Some(cell.clone());
        store.present_since = self.clock().recent();
    }

    fn pause(&self, cell: &ActorCell) {
        let mut store = self.lock();
        let is_present = |it: &ActorCell| it.get_id() == cell.get_id();
        if !store.present.as_ref().is_some_and(is_present) {
            // One that was left behind ends late. What is stuck in its port is about to come here.
            let stuck = store.come_late(cell.get_id());
            self.front.take_room_back(stuck);
            return;
        }
        let present = store.present.take();
        drop(store);
        drop(present);
        if self.settings.at_restart == AtRestart::Return {
            self.close(DeadReason::Returned);
        }
    }

    fn part(&self, cell: &ActorCell) {
        // It does not begin another one: it was killed. What it puts down at this moment it does before, or not at all.
        let down = self.lock_down();
        self.front.hand.put_away();
        drop(down);
        if !self.stores() {
            let mut store = self.lock();
            let stuck = store.leave_behind(cell.get_id(), self.front.intake.depth());
            self.front.make_room(stuck);
        }
        self.pause(cell);
    }

    fn close(&self, reason: DeadReason) {
        let letters = {
            let mut store = self.lock();
            store.closed = Some(reason);
            store.clear()
        };
        self.front.tracked.clear();
        for letter in letters {
            self.let_go();
            self.bury(letter, reason);
        }
    }

    fn waits_since(&self) -> Option<Moment> {
        let first = self.lock().letters.front().map(|it| it.cover.sent());
        if first.is_none() {
            let depth = || self.front.intake.depth();
            self.front.tracked.look(depth, self.clock());
        }
        first.into_iter().chain(self.front.tracked.since()).min()
    }

    fn intake(&self) -> &Intake {
        &self.front.intake
    }

    fn settings(&self) -> &Mailbox {
        &self.settings
    }

    fn mail(&self) -> TypeId {
        TypeId::of::<Mail<M>>()
    }

    fn front(&self) -> &Arc<Front> {
        &self.front
    }
}

impl<M: Message> Drop for Letterbox<M> {
    fn drop(&mut self) {
        // The place is gone for good.
        self.close(DeadReason::Stopped);
        let counted = self.front.intake.close(|| Some(&self.front.lobby));
        // What is still on its way, as in a port that closed at that moment, does not find back.
        let lost = self.front.ledger.take_over(counted);
        if lost > 0 {
            let message_type = std::any::type_name::<M>();
            let obituary = Obituary::of_lost(self.path.clone(), message_type, lost);
            self.traffic.dead_letters().add(obituary, None);
        }
        self.front.home.leave();
    }
}

/// Gives a message back that was not sent.
pub(crate) fn unsent<M: Message>(error: ractor::MessagingErr<Mail<M>>) -> M {
    match error {
        ractor::MessagingErr::SendErr(mut mail) => {
            let letter = mail.letter.take();
            // It never left, so it is not to be kept.
            letter.expect("it was sent with one").message
        }
        // The type was checked, and ractor has no other way to fail here.
        ractor::MessagingErr::ChannelClosed | ractor::MessagingErr::InvalidActorType => {
            unreachable!("checked before")
        }
    }
}
