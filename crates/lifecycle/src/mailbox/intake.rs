//! The permit counter in front of a mailbox.

use std::pin::pin;
use std::sync::atomic::{Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed, Ordering::SeqCst};

use crate::sync::{AtomicU32, AtomicU64, Notify, OnceBox};

const ONE: u64 = 1;
/// How many messages were let in and not taken yet.
const DEPTH: u64 = (1 << 31) - 1;
/// Somebody waits for room.
const WAITING: u64 = 1 << 31;
/// Nobody is let in any more.
const CLOSED: u64 = 1 << 32;
/// Nobody is let in any more who sends from outside the tree.
const SHUT: u64 = 1 << 33;
/// The rest counts all that were let in, and wraps.
const ACCEPTED: u64 = 1 << 34;

/// How far [`Intake::accepted`] counts before it begins again.
pub(crate) const WRAP: u64 = 1 << 30;

/// The most that any mailbox holds.
pub(crate) const MOST: u64 = DEPTH;

/// Lets messages in as far as there is room, and counts them: one word, so that the look and the step are one.
///
/// Who sends counts the message first and then hands it over; who takes it counts it off. So nobody ever waits for
/// anybody, and what is in the word is at every moment true.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    word: AtomicU64,
    /// Made by the first who waits for room.
    room: OnceBox<Room>,
}

#[derive(Debug, Default)]
struct Room {
    freed: Notify,
    waiters: AtomicU32,
}

/// Why a message was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoEntry {
    Full,
    Closed,
    /// The tree is shutting down, and the message comes from outside.
    Shut,
}

/// What became of a count that was taken back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TakenBack {
    /// It was there still.
    pub(crate) was_there: bool,
    /// The intake had been closed before.
    pub(crate) was_closed: bool,
}

/// What an intake has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// How many are in there.
    pub(crate) depth: u64,
    /// How many were ever let in, modulo [`WRAP`].
    pub(crate) accepted: u64,
}

impl Intake {
    /// Counts a message in, and returns how many wait before it.
    ///
    /// While others wait for room there is none for whoever did not wait.
    #[inline]
    pub(crate) fn enter(&self, capacity: u64) -> Result<u64, NoEntry> {
        self.try_enter(capacity, WAITING, CLOSED | SHUT)
    }

    /// Counts a message in as [`enter`](Self::enter) does; where only those from inside the tree are let in, asks
    /// whether it comes from there.
    #[inline]
    pub(crate) fn enter_from(
        &self,
        capacity: u64,
        is_inside: impl FnOnce() -> bool,
    ) -> Result<u64, NoEntry> {
        match self.enter(capacity) {
            Err(NoEntry::Shut) if is_inside() => self.try_enter(capacity, WAITING, CLOSED),
            entered => entered,
        }
    }

    /// One test for all that bars the way: who finds it open pays for one.
    #[inline]
    fn try_enter(&self, capacity: u64, full: u64, barred: u64) -> Result<u64, NoEntry> {
        let mut word = self.word.load(Relaxed);
        loop {
            if word & barred != 0 {
                return Err(if word & CLOSED != 0 {
                    NoEntry::Closed
                } else {
                    NoEntry::Shut
                });
            }
            let depth = word & DEPTH;
            if depth >= capacity || word & full != 0 {
                return Err(NoEntry::Full);
            }
            let next = word.wrapping_add(ACCEPTED + ONE);
            match self.word.compare_exchange_weak(word, next, AcqRel, Relaxed) {
                Ok(_) => return Ok(depth),
                Err(seen) => word = seen,
            }
        }
    }

    /// Counts a message in that is let in whether there is room or not; `false` when it is closed.
    pub(crate) fn enter_anyhow(&self) -> bool {
        self.try_enter(DEPTH, 0, CLOSED).is_ok()
    }

    /// Waits for room and counts a message in. Who waits from outside while the tree is shut has to see to that itself.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: when dropped before it is ready, nothing was counted, and whoever waits next has its turn.
    pub(crate) async fn enter_when_room(&self, capacity: u64) -> Result<u64, NoEntry> {
        let room = self.room.get_or_init(Box::default);
        let _waiter = Waiter::new(self, room);
        loop {
            let mut freed = pin!(room.freed.notified());
            freed.as_mut().enable();
            // Said after the bell is listened to, and looked after it is said: whoever makes room before sees no
            // flag, and is seen here; whoever does later sees the flag.
            self.word.fetch_or(WAITING, AcqRel);
            match self.try_enter(capacity, 0, CLOSED) {
                Err(NoEntry::Full) => freed.await,
                entered => return entered,
            }
        }
    }

    /// Counts a message off that is taken; `false` when none was counted: it came past the count.
    #[inline]
    pub(crate) fn take(&self) -> bool {
        self.step(|word| word - ONE).is_some()
    }

    /// Takes back the count of a message that could not be handed over.
    pub(crate) fn take_back(&self) -> TakenBack {
        let word = self.step(|word| (word - ONE).wrapping_sub(ACCEPTED));
        let was_there = word.is_some();
        // Else another one, that had come past the count, was taken for it.
        let word = word.unwrap_or_else(|| self.word.fetch_sub(ACCEPTED, AcqRel));
        TakenBack {
            was_there,
            was_closed: word & CLOSED != 0,
        }
    }

    /// Makes a step if a message is counted, and returns the word before.
    #[inline]
    fn step(&self, next: impl Fn(u64) -> u64) -> Option<u64> {
        let mut word = self.word.load(Relaxed);
        loop {
            if word & DEPTH == 0 {
                return None;
            }
            match self
                .word
                .compare_exchange_weak(word, next(word), AcqRel, Relaxed)
            {
                Ok(_) => break,
                Err(seen) => word = seen,
            }
        }
        if word & WAITING != 0
            && let Some(room) = self.room.get()
        {
            room.freed.notify_one();
        }
        Some(word)
    }

    /// Counts a message in again that was taken and put back.
    pub(crate) fn put_back(&self) {
        self.word.fetch_add(ONE, AcqRel);
    }

    /// Counts a message as let in that goes elsewhere at once.
    pub(crate) fn count_only(&self) {
        self.word.fetch_add(ACCEPTED, AcqRel);
    }

    /// Lets nobody in any more, and returns what it has counted: nothing to whoever comes second. Those who wait for
    /// room are told.
    pub(crate) fn close(&self) -> Counted {
        let word = self.word.fetch_or(CLOSED, AcqRel);
        if let Some(room) = self.room.get() {
            room.freed.notify_waiters();
        }
        if word & CLOSED != 0 {
            return Counted {
                depth: 0,
                accepted: 0,
            };
        }
        Counted {
            depth: word & DEPTH,
            accepted: word / ACCEPTED,
        }
    }

    /// Lets in only those any more who send from inside the tree. Those who wait for room are not told.
    pub(crate) fn shut(&self) {
        self.word.fetch_or(SHUT, AcqRel);
    }

    pub(crate) fn is_shut(&self) -> bool {
        self.word.load(Relaxed) & SHUT != 0
    }

    /// Returns how many messages wait, with all that their actor has done to take the others before.
    pub(crate) fn depth_now(&self) -> u64 {
        self.word.load(Acquire) & DEPTH
    }

    /// Returns how many messages wait.
    pub(crate) fn depth(&self) -> u64 {
        self.word.load(Relaxed) & DEPTH
    }

    /// Returns how many were ever let in, modulo [`WRAP`].
    pub(crate) fn accepted(&self) -> u64 {
        self.word.load(Relaxed) / ACCEPTED
    }
}

/// One who waits for room, as long as it does.
struct Waiter<'a> {
    intake: &'a Intake,
    room: &'a Room,
}

impl<'a> Waiter<'a> {
    fn new(intake: &'a Intake, room: &'a Room) -> Self {
        room.waiters.fetch_add(1, SeqCst);
        Self { intake, room }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let Self { intake, room } = self;
        if room.waiters.fetch_sub(1, SeqCst) > 1 {
            return;
        }
        loop {
            intake.word.fetch_and(!WAITING, SeqCst);
            if room.waiters.load(SeqCst) == 0 {
                return;
            }
            // Another one came meanwhile, and its flag may just have been taken down.
            intake.word.fetch_or(WAITING, SeqCst);
            room.freed.notify_one();
            // If it has gone since, it has taken down its flag, but perhaps not this one.
            if room.waiters.load(SeqCst) > 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
#[cfg(loom)]
mod loom_tests;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
