//! Who sent a message, and whether its caller still waits: what both ends of a call share.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
    fence,
};

use tracing::Span;

use super::{Mark, Plain};
use crate::mailbox::homes::Home;
use crate::{ActorPath, Moment, Traffic, current, span};

/// Where a message comes from: of a call, the two ends as far as each needs to know of the other.
#[derive(Clone, Debug)]
pub struct Caller(pub(super) Arc<Slip>);

thread_local! {
    static SPARE: Spare = const {
        Spare {
            own: Cell::new(None),
            other: Cell::new(None),
        }
    };
}

/// The slip of the last call from outside of all handlers which is over, with both its handles: the next call takes no
/// memory, and counts none of them up and down, which costs as much as to hand the message over.
struct Spare {
    /// That of whoever waited, once the call is over and nobody else comes to the slip any more.
    own: Cell<Option<Caller>>,
    /// That of the envelope, once the message was taken out on the thread that has sent it; of this call or another.
    other: Cell<Option<Caller>>,
}

impl Spare {
    /// Returns a number that no other thread has at the same time, and that is not 0.
    fn thread(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Returns a slip of which nobody else knows, for who waits and for the envelope. What each call says of itself is
    /// written when it is sent.
    #[inline(always)]
    fn take(&self) -> (Caller, Caller) {
        match (self.own.take(), self.other.take()) {
            (Some(own), Some(other)) if other.is_same(&own) => (own, other),
            (own, _) => self.pair(own),
        }
    }

    #[inline(never)]
    fn pair(&self, own: Option<Caller>) -> (Caller, Caller) {
        let own = own.unwrap_or_else(|| Caller::of(true, None, self.thread()));
        (own.clone(), own)
    }

    /// Keeps the slip of a call that is over, if nobody else comes to it any more; else it comes back.
    #[inline(always)]
    fn put(&self, own: Caller) -> Option<Caller> {
        let other = self.other.take();
        let is_back = other.as_ref().is_some_and(|it| it.is_same(&own));
        self.other.set(other);
        if Arc::strong_count(&own.0) > 1 + usize::from(is_back) {
            return Some(own);
        }
        // Whoever had the message has let go of it.
        fence(Acquire);
        own.0.was_dropped.store(false, Relaxed);
        self.own.set(Some(own));
        None
    }
}

#[derive(Debug)]
pub(super) struct Slip {
    pub(super) is_call: bool,
    /// The caller waits no longer.
    is_gone: AtomicBool,
    pub(super) was_dropped: AtomicBool,
    pub(super) crashes: AtomicU32,
    /// Which thread made it for calls from outside of all handlers; 0 for one that no other call is to have.
    thread: usize,
    /// What a plain cover has: when it was sent, and its [`Mark`].
    sent: AtomicU64,
    mark: AtomicU64,
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
            return SPARE.with(Spare::take);
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
                    it.other.set(Some(self));
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

    /// Returns what a plain cover has.
    #[inline]
    pub(super) fn plain(&self) -> Plain {
        Plain {
            sent: self.0.sent.load(Relaxed),
            mark: Mark::new(self.0.mark.load(Relaxed)).unwrap_or(Home::NOWHERE.get().into()),
        }
    }

    /// Sets what a plain cover has.
    #[inline]
    pub(super) fn set_plain(&self, plain: Plain) {
        self.0.sent.store(plain.sent, Relaxed);
        self.0.mark.store(plain.mark.get(), Relaxed);
    }

    /// Says whether its message is on its way from this letterbox.
    #[inline]
    pub(super) fn is_from(&self, home: Home) -> bool {
        self.0.mark.load(Relaxed) == home.get().get().into()
    }

    pub(super) fn of(is_call: bool, sender: Option<ActorPath>, thread: usize) -> Self {
        let span = span::of_sender();
        Self(Arc::new(Slip {
            is_call,
            thread: if span.is_none() { thread } else { 0 },
            is_gone: AtomicBool::new(false),
            was_dropped: AtomicBool::new(false),
            crashes: AtomicU32::new(0),
            sent: AtomicU64::new(0),
            mark: AtomicU64::new(0),
            deadline: AtomicU64::new(Moment::NEVER.as_nanos()),
            sender,
            span,
        }))
    }

    #[inline]
    pub(crate) fn deadline(&self) -> Moment {
        Moment::from_nanos(self.0.deadline.load(Relaxed))
    }

    /// The caller waits no longer: its message need not be handled any more.
    #[inline]
    pub fn leave(self) {
        let mut own = Some(self);
        if own.as_ref().is_some_and(|it| it.0.thread != 0) {
            // Without a place for it at the end of a thread.
            _ = SPARE.try_with(|it| own = own.take().and_then(|own| it.put(own)));
        }
        if let Some(own) = own {
            own.0.is_gone.store(true, Release);
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.0.is_gone.load(Acquire)
    }

    /// Says whether anybody is served if its message is handled now.
    #[inline(always)]
    pub(super) fn is_wanted(&self, now: Moment) -> bool {
        self.deadline() > now && !self.is_gone()
    }

    /// Its message is in hand, with this number, and goes down with the run that has it.
    #[inline(always)]
    pub(super) fn take(&self, number: u32) {
        let home = u64::from(super::low(self.0.mark.load(Relaxed)));
        let mark = home | u64::from(number) << u32::BITS;
        self.0.mark.store(mark, Release);
    }

    /// Says whether the message has been taken in hand.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.0.mark.load(Acquire) >> u32::BITS != 0
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
        first.set_plain(Plain::new(Home::new(), Moment::default()));
        first.take(3);
        assert!(first.is_taken());
        first.0.was_dropped.store(true, Release);
        first.leave();
        let second = Caller::new(&tree).with_deadline(Moment::NEVER);
        assert_eq!(Arc::as_ptr(&second.0), slip.as_ptr());
        second.set_plain(Plain::new(Home::new(), Moment::default()));
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
            SPARE.with(|it| it.other.take().is_none())
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
