//! The envelope of messages: [`Mail`].

mod caller;

use std::fmt;
use std::num::NonZeroU64;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{Ordering::Relaxed, Ordering::Release};
use std::time::Duration;

use ractor::Message;
use tracing::Span;

pub use self::caller::Caller;
use crate::adapter::Special;
use crate::mailbox::front::Front;
use crate::mailbox::homes::Home;
use crate::mailbox::ledger::Ledger;
use crate::mailbox::letterbox::Letterbox;
use crate::{ActorPath, Incarnation, Moment};

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

/// A message and what is written on its envelope; in this order, see [`Plain::take`].
#[repr(C)]
pub(crate) struct Letter<M> {
    pub(crate) cover: Cover,
    pub(crate) message: M,
}

impl<M> Letter<M> {
    #[inline(always)]
    pub(crate) fn new(message: M, home: Home, sent: Moment, origin: Option<Caller>) -> Self {
        let cover = Cover::new(home, sent, origin);
        Self { cover, message }
    }
}

/// What is written on an envelope: two words, since each is moved a dozen times on the way.
pub(crate) enum Cover {
    /// Nothing but what each one has.
    Plain(Plain),
    /// Of what was sent by an actor, of calls, of what has a deadline, and of what was in hand at a crash.
    Slip(Caller),
}

/// Through which letterbox a letter was sent, and in the upper half which number it has in hand.
type Mark = NonZeroU64;

/// What each envelope says.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Plain {
    /// When it was sent; and [`TAKEN`], once it has been in hand.
    sent: u64,
    mark: Mark,
}

/// No clock has come that far.
const TAKEN: u64 = 1 << 63;

impl Plain {
    #[inline(always)]
    fn new(home: Home, sent: Moment) -> Self {
        Self {
            sent: sent.as_nanos(),
            mark: home.get().into(),
        }
    }

    #[inline]
    fn home(self) -> Home {
        Home::of(low(self.mark.get()))
    }

    #[inline]
    fn number(self) -> u32 {
        low(self.mark.get() >> u32::BITS)
    }

    fn sent(self) -> Moment {
        Moment::from_nanos(self.sent & !TAKEN)
    }

    /// Says whether it is on its way from this letterbox.
    #[inline(always)]
    pub(crate) fn is_from(&self, home: Home) -> bool {
        self.mark == home.get().into()
    }

    /// Has a run take its letter in hand, which is on its way from the letterbox of this front.
    #[inline(never)]
    fn take_from(&mut self, front: &Front, run: &Incarnation) -> Option<Special> {
        run.take_in_hand();
        front.count_taken();
        front.tracked.taken();
        self.take(front.hand.take(Moment::NEVER));
        None
    }

    /// Notes which number it has in hand. It had none.
    ///
    /// A letter that was taken is moved at once, two words at a time, and if only one of them is just being written, the
    /// processor waits until it is. So both are, and in a function of its own, where the compiler makes one step of it.
    #[inline(never)]
    pub(crate) fn take(&mut self, number: u32) {
        self.sent |= TAKEN;
        self.mark |= u64::from(number) << u32::BITS;
    }
}

/// The lower half of a number.
#[expect(
    clippy::cast_possible_truncation,
    reason = "it is the half that is wanted"
)]
pub(crate) fn low(number: u64) -> u32 {
    number as u32
}

impl Cover {
    #[inline(always)]
    pub(crate) fn new(home: Home, sent: Moment, origin: Option<Caller>) -> Self {
        let plain = Plain::new(home, sent);
        match origin {
            None => Self::Plain(plain),
            Some(caller) => Self::slip(caller, plain),
        }
    }

    #[inline(always)]
    fn slip(caller: Caller, plain: Plain) -> Self {
        caller.set_plain(plain);
        Self::Slip(caller)
    }

    /// Returns what each envelope says.
    #[inline]
    fn plain(&self) -> Plain {
        match self {
            Self::Plain(plain) => *plain,
            Self::Slip(caller) => caller.plain(),
        }
    }

    /// Returns through which letterbox it was sent.
    #[inline]
    pub(crate) fn home(&self) -> Home {
        self.plain().home()
    }

    /// It is no longer to find back there.
    pub(crate) fn leave_home(&mut self) {
        let left = Plain::new(Home::NOWHERE, self.sent());
        match self {
            Self::Plain(plain) => *plain = left,
            Self::Slip(caller) => caller.set_plain(left),
        }
    }

    /// Returns the number that it has in hand, and had when it was last; 0 on its first way.
    #[inline]
    pub(crate) fn number(&self) -> u32 {
        self.plain().number()
    }

    /// Says whether it was not in hand yet.
    #[inline]
    pub(crate) fn is_on_its_way(&self) -> bool {
        self.number() == 0
    }

    /// Has a run take its letter in hand, unless nobody wants it any more.
    ///
    /// Each kind in a function of its own, which keeps no more at hand than it needs.
    #[inline(always)]
    pub(crate) fn take(&mut self, front: &Front, run: &Incarnation) -> Option<Special> {
        match self {
            Self::Plain(plain) if plain.is_from(front.home) => plain.take_from(front, run),
            Self::Slip(caller) if caller.is_from(front.home) => self.take_slip(front, run),
            // An actor's own, one that was handled and sent on in its envelope, or one sent by a `Name<Mail<M>>`.
            _ => run.begin_plain(),
        }
    }

    #[inline(never)]
    fn take_slip(&mut self, front: &Front, run: &Incarnation) -> Option<Special> {
        let now = run.take_in_hand();
        front.count_taken();
        self.take_counted(front, now, run)
    }

    /// As [`take`](Self::take), of one that is counted as taken.
    #[inline(always)]
    pub(crate) fn take_counted(
        &mut self,
        front: &Front,
        now: Moment,
        run: &Incarnation,
    ) -> Option<Special> {
        front.tracked.taken();
        match self {
            Self::Plain(plain) => plain.take(front.hand.take(Moment::NEVER)),
            Self::Slip(caller) if caller.is_wanted(now) => {
                caller.take(front.hand.take(caller.deadline()));
            }
            Self::Slip(_) => return self.skip(run),
        }
        None
    }

    /// What was taken in hand is wanted by nobody any more.
    #[cold]
    #[inline(never)]
    fn skip(&mut self, run: &Incarnation) -> Option<Special> {
        Ledger::count(&run.ledger().expired);
        self.leave_home();
        run.take_back_in_hand();
        Some(Special::Skip)
    }

    pub(crate) fn sent(&self) -> Moment {
        self.plain().sent()
    }

    /// Returns what few have.
    #[inline]
    pub(crate) fn origin(&self) -> Option<&Caller> {
        match self {
            Self::Plain(_) => None,
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
        if let Self::Plain(plain) = *self {
            *self = Self::slip(Caller::of(false, None, 0), plain);
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

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn a_cover_says_the_same_once_it_was_taken() {
        let (home, other) = (Home::new(), Home::new());
        let sent = Moment::from_nanos(1 << 40);
        let mut plain = Plain::new(home, sent);
        assert!(plain.is_from(home) && !plain.is_from(other));
        assert_eq!(plain.number(), 0);
        plain.take(u32::MAX);
        assert!(!plain.is_from(home));
        assert_eq!(
            (plain.home(), plain.number(), plain.sent()),
            (home, u32::MAX, sent)
        );
    }
}
