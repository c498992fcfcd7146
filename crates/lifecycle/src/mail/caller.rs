//! Who sent a message, and whether its caller still waits: what both ends of a call share.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
    fence,
};

use tracing::Span;

use crate::mailbox::homes::{Home, HomeCell};
use crate::{ActorPath, Moment, Traffic, current, span};

/// Where a message comes from: of a call, the two ends as far as each needs to know of the other.
#[derive(Clone, Debug)]
pub struct Caller(pub(super) Arc<Slip>);

thread_local! {
    static SPARE: Spare = const {
        Spare {
            kept: Cell::new(None),
            back: Cell::new(None),
        }
    };
}

/// The slip of the last call from outside of all handlers which is over, with both its handles: the next call takes no
/// memory, and counts none of them up and down, which costs as much as to hand the message over.
struct Spare {
    /// That of whoever waited, once the call is over; and that of the envelope, if it had come back by then.
    kept: Cell<Option<(Caller, Option<Caller>)>>,
    /// That of the envelope, once the message was taken out on the thread that has sent it.
    back: Cell<Option<Caller>>,
}

impl Spare {
    /// Returns a number that no other thread has at the same time, and that is not 0.
    fn thread(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Returns a slip of which nobody else knows: new, or with nothing of what it said.
    #[inline(always)]
    fn take(&self) -> (Caller, Option<Caller>) {
        let Some((own, other)) = self.kept.take() else {
            return (Caller::of(true, None, self.thread()), None);
        };
        let slip = &own.0;
        slip.is_gone.store(false, Relaxed);
        slip.is_taken.store(false, Relaxed);
        slip.was_dropped.store(false, Relaxed);
        slip.deadline.store(Moment::NEVER.as_nanos(), Relaxed);
        (own, other)
    }

    /// Keeps the slip of a call that is over, if nobody else comes to it any more.
    #[inline]
    fn put(&self, own: Caller) {
        let other = self.back.take().filter(|it| it.is_same(&own));
        let known = 1 + usize::from(other.is_some());
        if Arc::strong_count(&own.0) == known {
            // Whoever had the message has let go of it.
            fence(Acquire);
            self.kept.set(Some((own, other)));
        }
    }
}

#[derive(Debug)]
pub(super) struct Slip {
    pub(super) is_call: bool,
    /// Which thread made it for calls from outside of all handlers; 0 for one that no other call is to have.
    thread: usize,
    /// The caller waits no longer.
    is_gone: AtomicBool,
    is_taken: AtomicBool,
    pub(super) was_dropped: AtomicBool,
    pub(super) home: HomeCell,
    pub(super) number: AtomicU32,
    pub(super) sent: AtomicU64,
    pub(super) crashes: AtomicU32,
    deadline: AtomicU64,
    pub(super) sender: Option<ActorPath>,
    /// In which it was sent, while anybody traces messages.
    pub(super) span: Option<Span>,
}

impl Caller {
    /// Notes a call to an actor of this tree by the one whose handler is being run on this thread, or by nobody of the
    /// tree.
    #[must_use]
    pub fn new(tree: &Traffic) -> Self {
        Self::pair(tree).0
    }

    /// Notes it as [`new`](Self::new) does, for who waits and for the envelope.
    #[must_use]
    pub fn pair(tree: &Traffic) -> (Self, Self) {
        let own = if current::is_any() || span::is_on() {
            Self::of(true, current::path_in(tree), 0)
        } else {
            match SPARE.with(|it| it.take()) {
                (own, Some(other)) => return (own, other),
                (own, None) => own,
            }
        };
        (own.clone(), own)
    }

    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The message was taken out of its envelope, which needs this no more.
    #[inline]
    pub(super) fn give_back(self) {
        if self.0.thread != 0 {
            // Without a place for it at the end of a thread.
            _ = SPARE.try_with(|it| {
                if self.0.thread == it.thread() {
                    it.back.set(Some(self));
                }
            });
        }
    }

    /// Notes who sends a message that nobody waits for; nothing for one from outside.
    #[inline(always)]
    pub(crate) fn sender(tree: &Traffic, is_traced: bool) -> Option<Self> {
        let is_known = current::is_any() || is_traced;
        is_known.then(|| Self::of_sender(tree))
    }

    #[inline(never)]
    fn of_sender(tree: &Traffic) -> Self {
        Self::of(false, current::path_in(tree), 0)
    }

    /// Notes who sends a message that nobody waits for and that has a deadline.
    pub(crate) fn until(tree: &Traffic, deadline: Moment) -> Self {
        Self::of_sender(tree).with_deadline(deadline)
    }

    /// Sets when the message need not be handled any more.
    pub(crate) fn with_deadline(self, deadline: Moment) -> Self {
        self.0.deadline.store(deadline.as_nanos(), Relaxed);
        self
    }

    /// Sets what a plain cover has.
    pub(super) fn with_plain(self, home: Home, number: u32, sent: Moment) -> Self {
        self.0.home.set(home);
        self.0.number.store(number, Relaxed);
        self.0.sent.store(sent.as_nanos(), Relaxed);
        self
    }

    pub(super) fn of(is_call: bool, sender: Option<ActorPath>, thread: usize) -> Self {
        let span = span::of_sender();
        Self(Arc::new(Slip {
            is_call,
            thread: if span.is_none() { thread } else { 0 },
            is_gone: AtomicBool::new(false),
            is_taken: AtomicBool::new(false),
            was_dropped: AtomicBool::new(false),
            home: HomeCell::default(),
            number: AtomicU32::new(0),
            sent: AtomicU64::new(0),
            crashes: AtomicU32::new(0),
            deadline: AtomicU64::new(Moment::NEVER.as_nanos()),
            sender,
            span,
        }))
    }

    pub(crate) fn is_call(&self) -> bool {
        self.0.is_call
    }

    pub(crate) fn deadline(&self) -> Moment {
        Moment::from_nanos(self.0.deadline.load(Relaxed))
    }

    /// The caller waits no longer: its message need not be handled any more.
    pub fn leave(self) {
        self.0.is_gone.store(true, Release);
        if self.0.thread != 0 {
            // Without a place for it at the end of a thread.
            _ = SPARE.try_with(|it| it.put(self));
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.0.is_gone.load(Acquire)
    }

    /// Its message is in hand, and goes down with the run that has it.
    pub(crate) fn take(&self) {
        self.0.is_taken.store(true, Release);
    }

    /// Says whether the message has been taken in hand.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.0.is_taken.load(Acquire)
    }

    /// Says whether the mailbox has dropped the message, for want of room or for a later one with the same key.
    #[must_use]
    pub fn was_dropped(&self) -> bool {
        self.0.was_dropped.load(Acquire)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn a_call_gets_the_slip_of_one_that_is_over_and_nothing_of_what_it_said() {
        let tree = Traffic::new();
        let first = Caller::new(&tree).with_deadline(Moment::default());
        // As long as this is here, no other slip gets its memory.
        let slip = Arc::downgrade(&first.0);
        first.take();
        first.0.was_dropped.store(true, Release);
        first.leave();
        let second = Caller::new(&tree);
        assert_eq!(Arc::as_ptr(&second.0), slip.as_ptr());
        assert!(!second.is_gone() && !second.is_taken() && !second.was_dropped());
        assert_eq!(second.deadline(), Moment::NEVER);
    }

    #[test]
    fn a_call_gets_both_handles_of_a_slip_whose_message_was_taken_out_on_its_thread() {
        let tree = Traffic::new();
        let counted = |it: &Caller| Arc::strong_count(&it.0);
        let (first, envelope) = Caller::pair(&tree);
        let slip = Arc::downgrade(&first.0);
        let has_slip = |it: &Caller| Arc::as_ptr(&it.0) == slip.as_ptr();
        envelope.give_back();
        first.leave();
        let (second, envelope) = Caller::pair(&tree);
        assert!(has_slip(&second) && has_slip(&envelope));
        assert_eq!(counted(&second), 2);

        // Taken out by another thread, which has no use for it.
        let thread = std::thread::spawn(move || {
            envelope.give_back();
            SPARE.with(|it| it.back.take().is_none())
        });
        assert!(thread.join().unwrap());
        assert_eq!(counted(&second), 1);
        second.leave();
        let (third, envelope) = Caller::pair(&tree);
        assert!(has_slip(&third) && has_slip(&envelope));
        assert_eq!(counted(&third), 2);

        // Given back for a call that is not over: not to the next one.
        envelope.give_back();
        let (fourth, envelope) = Caller::pair(&tree);
        assert!(envelope.is_same(&fourth) && !fourth.is_same(&third));
        // Of two that are over at once, the one that is kept last.
        third.leave();
        fourth.leave();
        assert!(envelope.is_gone());
        assert!(has_slip(&Caller::new(&tree)));
    }

    #[test]
    fn a_slip_is_not_given_to_another_call_while_its_message_is_on_its_way() {
        let tree = Traffic::new();
        let first = Caller::new(&tree);
        let on_its_way = first.clone();
        first.leave();
        assert!(on_its_way.is_gone());
        let second = Caller::new(&tree);
        assert!(!Arc::ptr_eq(&second.0, &on_its_way.0));
        drop(second);
        assert!(on_its_way.is_gone());
    }
}
