//! The envelope of messages: [`Mail`].

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
    fence,
};
use std::time::Duration;

use ractor::Message;
use tracing::Span;

use crate::mailbox::homes::{Home, HomeCell};
use crate::mailbox::letterbox::Letterbox;
use crate::{ActorPath, Moment, current, span};

/// A message in its envelope: what an actor takes that says `type Msg = Mail<M>`.
///
/// It is sent to by the same `Name<M>` as an actor that says `type Msg = M`; nothing changes for who sends. The actor
/// gets more:
///
/// - A message whose deadline has passed, or whose caller has gone, is skipped.
/// - What waits when the actor crashes is handled by its next run, in order.
/// - What was in hand at a crash is handled again, unless it was a call or the handler had taken it with
///   [`into_inner`](Self::into_inner); at the third crash in a row it is set aside as a dead letter, and the actor goes on.
/// - What nobody will ever handle becomes a dead letter that can be replayed.
///
/// ```
/// use perennial_lifecycle::Mail;
/// use ractor::{Actor, ActorProcessingErr, ActorRef};
///
/// struct Printer;
///
/// impl Actor for Printer {
///     type Msg = Mail<String>;
///     type State = ();
///     type Arguments = ();
///
///     async fn pre_start(&self, _: ActorRef<Self::Msg>, _: ()) -> Result<(), ActorProcessingErr> {
///         Ok(())
///     }
///
///     async fn handle(&self, _: ActorRef<Self::Msg>, text: Mail<String>, _: &mut ()) -> Result<(), ActorProcessingErr> {
///         if text.crashes() > 0 {
///             println!("once more:");
///         }
///         println!("{}", *text);
///         Ok(())
///     }
/// }
///
/// // An actor's own messages, as its timers send them, are plain ones in an empty envelope.
/// let own = Mail::from(String::from("tick"));
/// assert_eq!(own.into_inner(), "tick");
/// ```
///
/// A handler that puts the envelope away for later has handled it, as far as the books are concerned.
pub struct Mail<M: Message> {
    /// `None` on the way to fetch the one that is first in the letterbox.
    pub(crate) letter: Option<Letter<M>>,
}

/// A message and what is written on its envelope.
pub(crate) struct Letter<M> {
    pub(crate) message: M,
    pub(crate) cover: Cover,
}

impl<M> Letter<M> {
    #[inline(always)]
    pub(crate) fn new(message: M, home: Home, sent: Moment, origin: Option<Caller>) -> Self {
        let cover = Cover::new(home, sent, origin);
        Self { message, cover }
    }
}

/// What is written on an envelope: two words, since each is moved a dozen times on the way.
pub(crate) enum Cover {
    /// Nothing but what each one has.
    Plain {
        home: Home,
        number: u32,
        sent: Moment,
    },
    /// Of what was sent by an actor, of calls, of what has a deadline, and of what was in hand at a crash.
    Slip(Caller),
}

impl Cover {
    #[inline(always)]
    pub(crate) fn new(home: Home, sent: Moment, origin: Option<Caller>) -> Self {
        match origin {
            None => Self::Plain {
                home,
                number: 0,
                sent,
            },
            Some(caller) => Self::Slip(caller.with_plain(home, 0, sent)),
        }
    }

    /// Returns through which letterbox it was sent.
    #[inline]
    pub(crate) fn home(&self) -> Home {
        match self {
            Self::Plain { home, .. } => *home,
            Self::Slip(caller) => caller.0.home.get(),
        }
    }

    /// It is no longer to find back there.
    pub(crate) fn leave_home(&mut self) {
        match self {
            Self::Plain { home, .. } => *home = Home::NOWHERE,
            Self::Slip(caller) => caller.0.home.set(Home::NOWHERE),
        }
    }

    /// Returns the number that it has in hand, and had when it was last; 0 on its first way.
    #[inline]
    pub(crate) fn number(&self) -> u32 {
        match self {
            Self::Plain { number, .. } => *number,
            Self::Slip(caller) => caller.0.number.load(Relaxed),
        }
    }

    #[inline]
    pub(crate) fn set_number(&mut self, new: u32) {
        match self {
            Self::Plain { number, .. } => *number = new,
            Self::Slip(caller) => caller.0.number.store(new, Relaxed),
        }
    }

    /// Says whether it was not in hand yet.
    #[inline]
    pub(crate) fn is_on_its_way(&self) -> bool {
        self.number() == 0
    }

    pub(crate) fn sent(&self) -> Moment {
        match self {
            Self::Plain { sent, .. } => *sent,
            Self::Slip(caller) => Moment::from_nanos(caller.0.sent.load(Relaxed)),
        }
    }

    /// Returns what few have.
    #[inline]
    pub(crate) fn origin(&self) -> Option<&Caller> {
        match self {
            Self::Plain { .. } => None,
            Self::Slip(caller) => Some(caller),
        }
    }

    /// Returns when it need not be handled any more.
    pub(crate) fn deadline(&self) -> Moment {
        self.origin().map_or(Moment::NEVER, Caller::deadline)
    }

    /// Returns at how many crashes in a row it was in hand.
    pub(crate) fn crashes(&self) -> u32 {
        self.origin().map_or(0, |it| it.0.crashes.load(Relaxed))
    }

    /// Notes that it was in hand at one more, and returns at how many it was.
    pub(crate) fn note_crash(&mut self) -> u32 {
        if let Self::Plain { home, number, sent } = *self {
            *self = Self::Slip(Caller::of(false, None, 0).with_plain(home, number, sent));
        }
        let Self::Slip(caller) = self else { return 0 };
        // Whoever has the letter has its count.
        let crashes = caller.0.crashes.load(Relaxed).saturating_add(1);
        caller.0.crashes.store(crashes, Relaxed);
        crashes
    }

    /// Returns who waits for an answer.
    pub(crate) fn caller(&self) -> Option<&Caller> {
        self.origin().filter(|it| it.0.is_call)
    }

    pub(crate) fn sender(&self) -> Option<&ActorPath> {
        self.origin()?.0.sender.as_ref()
    }

    /// Notes that the mailbox has dropped it, for whoever waits for an answer.
    pub(crate) fn note_dropped(&self) {
        if let Some(caller) = self.caller() {
            caller.0.was_dropped.store(true, Release);
        }
    }

    /// Returns the span that it was sent in.
    pub(crate) fn span(&self) -> Option<&Span> {
        self.origin()?.0.span.as_ref()
    }
}

impl<M: Message> Mail<M> {
    pub(crate) fn claim() -> Self {
        Self { letter: None }
    }

    fn letter(&self) -> &Letter<M> {
        self.letter
            .as_ref()
            .expect("taken out only by `into_inner`, which consumes the envelope")
    }

    fn cover(&self) -> &Cover {
        &self.letter().cover
    }

    /// Takes the message out. If the handler fails from here on, the message has failed with it, and is not handled again.
    #[inline]
    #[must_use]
    pub fn into_inner(mut self) -> M {
        let letter = self.letter.take();
        // Its drop would only find that there is nothing left.
        std::mem::forget(self);
        let Letter { message, cover } = letter.expect("taken out only here");
        if let Cover::Slip(caller) = cover {
            caller.give_back();
        }
        message
    }

    /// Returns how long is left until the message's deadline; `None` when it has none.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        let cover = self.cover();
        let (deadline, home) = (cover.deadline(), cover.home());
        if deadline == Moment::NEVER || home == Home::NOWHERE {
            return None;
        }
        let left = home.look(|it: &Letterbox<M>| it.clock().until(deadline));
        // Nobody waits for it any more where its tree is gone.
        Some(left.unwrap_or(Duration::ZERO))
    }

    /// Says whether this is a call whose caller no longer waits for the answer.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.cover().caller().is_some_and(Caller::is_gone)
    }

    /// Says whether this is a call: somebody waits for an answer.
    #[must_use]
    pub fn is_call(&self) -> bool {
        self.cover().caller().is_some()
    }

    /// Returns at how many crashes in a row it was in hand.
    #[must_use]
    pub fn crashes(&self) -> u32 {
        self.cover().crashes()
    }

    /// Returns which actor of the tree sent it; `None` for one from outside.
    #[must_use]
    pub fn sender(&self) -> Option<&ActorPath> {
        self.cover().sender()
    }

    /// Returns how long ago it was sent; zero for an actor's own, and for one whose tree is gone.
    #[must_use]
    pub fn age(&self) -> Duration {
        let sent = self.cover().sent();
        let age = self
            .cover()
            .home()
            .look(|it: &Letterbox<M>| it.clock().since(sent));
        age.unwrap_or_default()
    }
}

impl<M: Message> From<M> for Mail<M> {
    fn from(message: M) -> Self {
        Self {
            letter: Some(Letter {
                message,
                cover: Cover::new(Home::NOWHERE, Moment::default(), None),
            }),
        }
    }
}

impl<M: Message> Deref for Mail<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.letter().message
    }
}

impl<M: Message> DerefMut for Mail<M> {
    fn deref_mut(&mut self) -> &mut M {
        let letter = self.letter.as_mut();
        &mut letter.expect("taken out only by `into_inner`").message
    }
}

impl<M: Message> Drop for Mail<M> {
    #[inline]
    fn drop(&mut self) {
        if let Some(letter) = self.letter.take() {
            put_away(letter);
        }
    }
}

/// Has a letter kept that was not taken out of its envelope.
#[inline(never)]
fn put_away<M: Message>(letter: Letter<M>) {
    let home = letter.cover.home();
    let previous = if home == Home::NOWHERE {
        Some(letter)
    } else if letter.cover.is_on_its_way() {
        home.look(|it: &Letterbox<M>| it.keep(letter));
        None
    } else {
        home.look(|it: &Letterbox<M>| it.put_down(letter)).flatten()
    };
    // What is the host's is dropped last.
    drop(previous);
}

impl<M: Message> fmt::Debug for Mail<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mail")
            .field("message", &std::any::type_name::<M>())
            .finish_non_exhaustive()
    }
}

/// Where a message comes from: of a call, the two ends as far as each needs to know of the other.
#[derive(Clone, Debug)]
pub struct Caller(Arc<Slip>);

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
    /// That of whoever waited, once the call is over.
    own: Cell<Option<Caller>>,
    /// That of the envelope, once the message was taken out on the thread that has sent it.
    other: Cell<Option<Caller>>,
}

impl Spare {
    /// Returns a number that no other thread has at the same time, and that is not 0.
    fn thread(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Returns a slip of which nobody else knows: new, or with nothing of what it said.
    #[inline]
    fn take(&self) -> (Caller, Option<Caller>) {
        let Some(own) = self.own.take() else {
            return (Caller::of(true, None, self.thread()), None);
        };
        let slip = &own.0;
        slip.is_gone.store(false, Relaxed);
        slip.is_taken.store(false, Relaxed);
        slip.was_dropped.store(false, Relaxed);
        slip.deadline.store(Moment::NEVER.as_nanos(), Relaxed);
        let other = self.other.take().filter(|it| it.is_same(&own));
        (own, other)
    }

    /// Keeps the slip of a call that is over, if nobody else comes to it any more.
    #[inline]
    fn put(&self, own: Caller) {
        let other = self.other.take().filter(|it| it.is_same(&own));
        let known = 1 + usize::from(other.is_some());
        if Arc::strong_count(&own.0) == known {
            // Whoever had the message has let go of it.
            fence(Acquire);
            self.other.set(other);
            self.own.set(Some(own));
        }
    }
}

#[derive(Debug)]
struct Slip {
    is_call: bool,
    /// Which thread made it for calls from outside of all handlers; 0 for one that no other call is to have.
    thread: usize,
    /// The caller waits no longer.
    is_gone: AtomicBool,
    is_taken: AtomicBool,
    was_dropped: AtomicBool,
    home: HomeCell,
    number: AtomicU32,
    sent: AtomicU64,
    crashes: AtomicU32,
    deadline: AtomicU64,
    sender: Option<ActorPath>,
    /// In which it was sent, while anybody traces messages.
    span: Option<Span>,
}

impl Caller {
    /// Notes a call by the actor whose handler is being run on this thread, or by nobody of the tree.
    #[must_use]
    pub fn new() -> Self {
        Self::pair().0
    }

    /// Notes it as [`new`](Self::new) does, for who waits and for the envelope.
    #[must_use]
    pub fn pair() -> (Self, Self) {
        let own = if current::is_any() || span::is_on() {
            Self::of(true, current::path(), 0)
        } else {
            match SPARE.with(Spare::take) {
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
    fn give_back(self) {
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
    pub(crate) fn sender(is_traced: bool) -> Option<Self> {
        let is_known = current::is_any() || is_traced;
        is_known.then(Self::of_sender)
    }

    #[inline(never)]
    fn of_sender() -> Self {
        Self::of(false, current::path(), 0)
    }

    /// Notes who sends a message that nobody waits for and that has a deadline.
    pub(crate) fn until(deadline: Moment) -> Self {
        Self::of(false, current::path(), 0).with_deadline(deadline)
    }

    /// Sets when the message need not be handled any more.
    pub(crate) fn with_deadline(self, deadline: Moment) -> Self {
        self.0.deadline.store(deadline.as_nanos(), Relaxed);
        self
    }

    /// Sets what a plain cover has.
    fn with_plain(self, home: Home, number: u32, sent: Moment) -> Self {
        self.0.home.set(home);
        self.0.number.store(number, Relaxed);
        self.0.sent.store(sent.as_nanos(), Relaxed);
        self
    }

    fn of(is_call: bool, sender: Option<ActorPath>, thread: usize) -> Self {
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

impl Default for Caller {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn a_call_gets_the_slip_of_one_that_is_over_and_nothing_of_what_it_said() {
        let first = Caller::new().with_deadline(Moment::default());
        // As long as this is here, no other slip gets its memory.
        let slip = Arc::downgrade(&first.0);
        first.take();
        first.0.was_dropped.store(true, Release);
        first.leave();
        let second = Caller::new();
        assert_eq!(Arc::as_ptr(&second.0), slip.as_ptr());
        assert!(!second.is_gone() && !second.is_taken() && !second.was_dropped());
        assert_eq!(second.deadline(), Moment::NEVER);
    }

    #[test]
    fn a_call_gets_both_handles_of_a_slip_whose_message_was_taken_out_on_its_thread() {
        let counted = |it: &Caller| Arc::strong_count(&it.0);
        let (first, envelope) = Caller::pair();
        let slip = Arc::downgrade(&first.0);
        let has_slip = |it: &Caller| Arc::as_ptr(&it.0) == slip.as_ptr();
        envelope.give_back();
        first.leave();
        let (second, envelope) = Caller::pair();
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
        let (third, envelope) = Caller::pair();
        assert!(has_slip(&third) && has_slip(&envelope));
        assert_eq!(counted(&third), 2);

        // Given back for a call that is not over: not to the next one.
        envelope.give_back();
        let (fourth, envelope) = Caller::pair();
        assert!(envelope.is_same(&fourth) && !fourth.is_same(&third));
        // Of two that are over at once, the one that is kept last.
        third.leave();
        fourth.leave();
        assert!(envelope.is_gone());
        assert!(has_slip(&Caller::new()));
    }

    #[test]
    fn a_slip_is_not_given_to_another_call_while_its_message_is_on_its_way() {
        let first = Caller::new();
        let on_its_way = first.clone();
        first.leave();
        assert!(on_its_way.is_gone());
        let second = Caller::new();
        assert!(!Arc::ptr_eq(&second.0, &on_its_way.0));
        drop(second);
        assert!(on_its_way.is_gone());
    }
}
