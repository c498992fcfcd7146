//! The permit counter in front of a mailbox.

use std::pin::pin;
use std::sync::atomic::{
    Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed, Ordering::Release, Ordering::SeqCst,
};

use crate::sync::{AtomicU32, AtomicU64, Notify, wake};

/// Somebody waits for room.
const WAITING: u64 = 1;
/// Nobody is let in any more.
const CLOSED: u64 = 1 << 1;
/// Nobody is let in any more who sends from outside the tree.
const SHUT: u64 = 1 << 2;
/// It was more than half full, so that somebody may come to wait for room.
const NEAR: u64 = 1 << 3;
/// The rest counts all that were let in.
const ACCEPTED: u64 = 1 << 4;

/// The most that any mailbox holds.
pub(crate) const MOST: u64 = (1 << 31) - 1;

/// Lets messages in as far as there is room, and counts them.
///
/// Who sends counts the message first and then hands it over; the one who takes them counts it as taken. So nobody ever
/// waits for anybody. The two counts are apart since only one writes the second: a plain store, which costs a third of a
/// step that others may make at the same time.
///
/// Such a store may be seen late by whoever finds no room and waits. So a message that fills more than half notes that in
/// the word, [`NEAR`], and from then on the taker makes a step in the word as well, where each sees the other's. It is
/// noted before anybody waits: whoever finds it full has seen at least as much of what was taken as the last message
/// that was let in, and so that one found it full but for one.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    word: AtomicU64,
    /// How many were taken. Only the one who takes writes here.
    taken: AtomicU64,
    /// Where fewer wait, a message fills no more than half: then it has nothing to note.
    half: u64,
}

/// Where those are who wait for room; beside the intake, since most have nobody who does.
#[derive(Debug, Default)]
pub(crate) struct Lobby {
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

/// Where a count was that was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakenBack {
    /// In an intake that is not closed.
    Open,
    /// In one that is closed, among those that nobody had taken by then.
    Left,
    /// In one that is closed, and another one, that had come past the count, was taken for it.
    Taken,
}

/// What an intake has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// How many are in there.
    pub(crate) depth: u64,
    /// How many were ever let in.
    pub(crate) accepted: u64,
    /// How many were taken that had come past the count, beyond those that [`Intake::take`] has said so of.
    pub(crate) beyond: u64,
}

impl Counted {
    fn new(word: u64, taken: u64) -> Self {
        let accepted = word / ACCEPTED;
        Self {
            depth: accepted.saturating_sub(taken),
            accepted,
            beyond: taken.saturating_sub(accepted),
        }
    }
}

impl Intake {
    /// Makes one for a mailbox that holds so many.
    pub(crate) fn new(capacity: u64) -> Self {
        Self {
            half: capacity / 2,
            ..Self::default()
        }
    }

    /// Counts a message in that nothing at all stands in the way of, and that need not note anything: what nearly all
    /// find. For the others there is [`enter`](Self::enter).
    #[inline(always)]
    pub(crate) fn enter_quickly(&self) -> Option<u64> {
        let word = self.word.load(Relaxed);
        let taken = self.taken.load(Acquire);
        // More were taken than let in: that is a lot.
        let depth = (word / ACCEPTED).wrapping_sub(taken);
        if word & (WAITING | CLOSED | SHUT) != 0 || depth >= self.half {
            return None;
        }
        let next = word + ACCEPTED;
        let entered = self.word.compare_exchange(word, next, AcqRel, Relaxed);
        entered.is_ok().then_some(depth)
    }

    /// Counts a message in, and returns how many wait before it.
    ///
    /// While others wait for room there is none for whoever did not wait.
    #[inline(never)]
    pub(crate) fn enter(&self, capacity: u64) -> Result<u64, NoEntry> {
        self.try_enter(capacity, capacity, WAITING, CLOSED | SHUT)
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
            Err(NoEntry::Shut) if is_inside() => {
                self.try_enter(capacity, capacity, WAITING, CLOSED)
            }
            entered => entered,
        }
    }

    /// One test for all that bars the way: who finds it open pays for one.
    #[inline(always)]
    fn try_enter(&self, capacity: u64, limit: u64, full: u64, barred: u64) -> Result<u64, NoEntry> {
        let mut word = self.word.load(Relaxed);
        loop {
            if word & barred != 0 {
                return Err(if word & CLOSED != 0 {
                    NoEntry::Closed
                } else {
                    NoEntry::Shut
                });
            }
            let taken = self.taken.load(Acquire);
            let depth = (word / ACCEPTED).saturating_sub(taken);
            if depth >= limit || word & full != 0 {
                return Err(NoEntry::Full);
            }
            let mut next = word + ACCEPTED;
            if depth >= capacity / 2 {
                next |= NEAR;
            }
            match self.word.compare_exchange_weak(word, next, AcqRel, Relaxed) {
                Ok(_) => return Ok(depth),
                Err(seen) => word = seen,
            }
        }
    }

    /// Counts a message in that is let in whether there is room or not; `false` when it is closed.
    pub(crate) fn enter_anyhow(&self, capacity: u64) -> bool {
        self.try_enter(capacity, MOST, 0, CLOSED).is_ok()
    }

    /// Waits for room and counts a message in. Who waits from outside while the tree is shut has to see to that itself.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: when dropped before it is ready, nothing was counted, and whoever waits next has its turn.
    pub(crate) async fn enter_when_room(
        &self,
        lobby: &Lobby,
        capacity: u64,
    ) -> Result<u64, NoEntry> {
        let _waiter = Waiter::new(self, lobby);
        loop {
            let mut freed = pin!(lobby.freed.notified());
            freed.as_mut().enable();
            // Said after the bell is listened to, and looked after it is said: whoever makes room before sees no
            // flag, and is seen here; whoever does later sees the flag.
            self.word.fetch_or(WAITING, AcqRel);
            match self.try_enter(capacity, capacity, 0, CLOSED) {
                Err(NoEntry::Full) => freed.await,
                entered => return entered,
            }
        }
    }

    /// Counts a message as taken; `false` when none was counted in: it came past the count. Only for the one who takes
    /// them.
    #[inline]
    pub(crate) fn take<'a>(&self, lobby: impl Fn() -> Option<&'a Lobby>) -> bool {
        let word = self.word.load(Relaxed);
        let taken = self.taken.load(Relaxed);
        if word / ACCEPTED <= taken {
            return false;
        }
        // What its actor does before it takes one is seen by whoever sees that it was taken.
        self.taken.store(taken + 1, Release);
        if word & (NEAR | WAITING) != 0 {
            self.make_room(taken + 1, lobby);
        }
        true
    }

    /// Makes a step in the word, so that whoever comes to wait for room after it sees what was taken, and tells those who
    /// came before.
    #[cold]
    fn make_room<'a>(&self, taken: u64, lobby: impl Fn() -> Option<&'a Lobby>) {
        let is_empty = |word| word / ACCEPTED <= taken;
        if !is_empty(self.word.load(Relaxed)) {
            tell(self.word.fetch_or(0, AcqRel), lobby);
            return;
        }
        let word = self.word.fetch_and(!NEAR, AcqRel);
        tell(word, &lobby);
        if !is_empty(word) {
            // One came at this moment, and may have filled more than half.
            tell(self.word.fetch_or(NEAR, AcqRel), lobby);
        }
    }

    /// Takes back the count of a message that could not be handed over.
    pub(crate) fn take_back<'a>(&self, lobby: impl Fn() -> Option<&'a Lobby>) -> TakenBack {
        let word = self.word.fetch_sub(ACCEPTED, AcqRel);
        tell(word, lobby);
        if word & CLOSED == 0 {
            // If another one was taken for it, the next one is taken for one that came past the count.
            return TakenBack::Open;
        }
        match Counted::new(word, self.taken.load(Acquire)).depth {
            0 => TakenBack::Taken,
            _ => TakenBack::Left,
        }
    }

    /// Counts a message in again that was taken and put back. Only for the one who takes them.
    pub(crate) fn put_back(&self) {
        self.taken.store(self.taken.load(Relaxed) - 1, Release);
        // More are in there than whoever was let in last has seen.
        self.word.fetch_or(NEAR, AcqRel);
    }

    /// Lets nobody in any more, and returns what it has counted: nothing to whoever comes second. Those who wait for
    /// room are told.
    pub(crate) fn close<'a>(&self, lobby: impl Fn() -> Option<&'a Lobby>) -> Counted {
        let word = self.word.fetch_or(CLOSED, AcqRel);
        if let Some(lobby) = lobby() {
            wake(|| lobby.freed.notify_waiters());
        }
        if word & CLOSED != 0 {
            return Counted::default();
        }
        Counted::new(word, self.taken.load(Acquire))
    }

    /// Lets in only those any more who send from inside the tree. Those who wait for room are not told.
    pub(crate) fn shut(&self) {
        self.word.fetch_or(SHUT, AcqRel);
    }

    pub(crate) fn is_shut(&self) -> bool {
        self.word.load(Relaxed) & SHUT != 0
    }

    /// Returns what it has counted, with all that its actor has done to take the messages: while others come, the depth
    /// is rather too high than too low.
    pub(crate) fn read(&self) -> Counted {
        let taken = self.taken.load(Acquire);
        Counted::new(self.word.load(Acquire), taken)
    }

    /// Returns how many messages wait.
    pub(crate) fn depth(&self) -> u64 {
        self.read().depth
    }
}

/// Rings for the next who waits for room, if the word says that somebody does.
///
/// The lobby is looked for after the step in the word: then it is there, if anybody waits.
fn tell<'a>(word: u64, lobby: impl Fn() -> Option<&'a Lobby>) {
    if word & WAITING != 0
        && let Some(lobby) = lobby()
    {
        wake(|| lobby.freed.notify_one());
    }
}

/// One who waits for room, as long as it does.
struct Waiter<'a> {
    intake: &'a Intake,
    lobby: &'a Lobby,
}

impl<'a> Waiter<'a> {
    fn new(intake: &'a Intake, lobby: &'a Lobby) -> Self {
        lobby.waiters.fetch_add(1, SeqCst);
        Self { intake, lobby }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let Self { intake, lobby } = self;
        if lobby.waiters.fetch_sub(1, SeqCst) > 1 {
            return;
        }
        loop {
            intake.word.fetch_and(!WAITING, SeqCst);
            if lobby.waiters.load(SeqCst) == 0 {
                return;
            }
            // Another one came meanwhile, and its flag may just have been taken down.
            intake.word.fetch_or(WAITING, SeqCst);
            wake(|| lobby.freed.notify_one());
            // If it has gone since, it has taken down its flag, but perhaps not this one.
            if lobby.waiters.load(SeqCst) > 0 {
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
