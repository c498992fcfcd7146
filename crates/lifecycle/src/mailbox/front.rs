//! The part of a letterbox that each message looks at, whatever its type.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::Moment;
use crate::mailbox::homes::Home;
use crate::mailbox::intake::{Intake, Lobby};
use crate::mailbox::ledger::{Ledger, Tracked};

/// What lets letters in, and says which one is in hand.
pub(crate) struct Front {
    pub(crate) home: Home,
    /// How many may wait in the actor's port, beside those that are stuck in the port of a run that was left behind; none,
    /// where letters wait in the letterbox.
    room: AtomicU64,
    pub(crate) intake: Intake,
    pub(crate) lobby: Lobby,
    pub(crate) hand: Hand,
    /// Of the letters in the actor's port.
    pub(crate) tracked: Tracked,
    pub(crate) ledger: Arc<Ledger>,
}

impl Front {
    pub(crate) fn new(room: u64, ledger: Arc<Ledger>) -> Self {
        Self {
            home: Home::new(),
            room: AtomicU64::new(room),
            intake: Intake::new(room),
            lobby: Lobby::default(),
            hand: Hand::new(),
            tracked: Tracked::default(),
            ledger,
        }
    }

    /// A letter could not be handed over that was let in.
    #[cold]
    pub(crate) fn come_back(&self) {
        self.ledger.come_back(&self.intake, || Some(&self.lobby));
    }

    /// Says whether letters wait in the letterbox and not in the actor's port.
    pub(crate) fn stores(&self) -> bool {
        self.room() == 0
    }

    /// Returns how many may wait in the actor's port.
    pub(crate) fn room(&self) -> u64 {
        self.room.load(Relaxed)
    }

    /// So many are stuck in the port of a run that was left behind: they take up no room of its successors.
    pub(crate) fn make_room(&self, stuck: u64) {
        self.room.fetch_add(stuck, Relaxed);
    }

    /// They are no longer.
    pub(crate) fn take_room_back(&self, stuck: u64) {
        self.room.fetch_sub(stuck, Relaxed);
    }

    /// The actor takes a letter.
    #[inline]
    pub(crate) fn count_taken(&self) {
        self.intake.take(|| Some(&self.lobby));
    }

    /// Lets a letter into the actor's port that nothing stands in the way of, and returns how many wait before it.
    #[inline(always)]
    pub(crate) fn enter_quickly(&self) -> Option<u64> {
        match self.intake.enter_quickly() {
            Some(before) => Some(before),
            None => self.intake.enter(self.room()).ok(),
        }
    }
}

/// Which letter is in hand, whatever its type. Only the actor's own task writes here, but for what is said otherwise.
#[derive(Debug)]
pub(crate) struct Hand {
    /// The number of the letter that was taken last: odd while it is in hand, and the next lower one once it is not.
    ///
    /// That one comes again after two thousand million does no harm.
    number: AtomicU32,
    /// Whoever drops the letter writes here.
    is_down: AtomicBool,
    deadline: AtomicU64,
}

impl Hand {
    fn new() -> Self {
        Self {
            number: AtomicU32::new(0),
            is_down: AtomicBool::new(false),
            deadline: AtomicU64::new(Moment::NEVER.as_nanos()),
        }
    }

    /// Takes a letter and returns its number, which is never 0.
    #[inline]
    pub(crate) fn take(&self, deadline: Moment) -> u32 {
        let number = (self.number.load(Relaxed) | 1).wrapping_add(2);
        self.number.store(number, Relaxed);
        self.deadline.store(deadline.as_nanos(), Relaxed);
        number
    }

    /// The letter is through. Whoever leaves a run behind says so, too.
    #[inline]
    pub(crate) fn put_away(&self) {
        self.number.store(self.number.load(Relaxed) & !1, Relaxed);
    }

    /// Says whether the letter of this number is in hand.
    pub(crate) fn has(&self, number: u32) -> bool {
        self.number.load(Relaxed) == number
    }

    /// Returns the deadline of what is in hand; [`Moment::NEVER`] when it has none.
    pub(crate) fn deadline(&self) -> Moment {
        match self.number.load(Relaxed) & 1 {
            0 => Moment::NEVER,
            _ => Moment::from_nanos(self.deadline.load(Relaxed)),
        }
    }

    /// Notes that the letter in hand was dropped without being taken out.
    pub(crate) fn put_down(&self) {
        self.is_down.store(true, Relaxed);
    }

    /// Says whether it was.
    #[inline]
    pub(crate) fn is_down(&self) -> bool {
        self.is_down.load(Relaxed)
    }

    pub(crate) fn pick_up(&self) {
        self.is_down.store(false, Relaxed);
    }
}
