//! The envelope of messages: [`Mail`].

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU8, Ordering::AcqRel, Ordering::Acquire};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ractor::Message;
use tracing::Span;

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
    pub(crate) letter: Option<Letter<M>>,
    pub(crate) home: Option<Arc<Letterbox<M>>>,
    pub(crate) stage: Stage,
}

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// On its way, with its message.
    Sent,
    /// On its way to fetch the message that is first in the letterbox.
    Claim,
    /// In hand; with its number.
    InHand(u32),
}

/// A message and what is written on its envelope.
pub(crate) struct Letter<M> {
    pub(crate) message: M,
    pub(crate) sent: Moment,
    pub(crate) deadline: Moment,
    /// Of what was sent by an actor, and of calls. One word, since each word is moved a dozen times on the way.
    pub(crate) origin: Option<Caller>,
    pub(crate) crashes: u32,
}

impl<M> Letter<M> {
    /// Returns who waits for an answer.
    pub(crate) fn caller(&self) -> Option<&Caller> {
        self.origin.as_ref().filter(|it| it.0.is_call)
    }

    pub(crate) fn sender(&self) -> Option<&ActorPath> {
        self.origin.as_ref()?.0.sender.as_ref()
    }

    /// Notes that the mailbox has dropped it, for whoever waits for an answer.
    pub(crate) fn note_dropped(&self) {
        if let Some(caller) = self.caller() {
            caller.0.flags.fetch_or(DROPPED, AcqRel);
        }
    }

    /// Returns the span that it was sent in.
    pub(crate) fn span(&self) -> Option<&Span> {
        self.origin.as_ref()?.0.span.as_ref()
    }
}

impl<M: Message> Mail<M> {
    pub(crate) fn claim(home: Arc<Letterbox<M>>) -> Self {
        Self {
            letter: None,
            home: Some(home),
            stage: Stage::Claim,
        }
    }

    /// Says whether it was sent through this letterbox.
    pub(crate) fn is_of(&self, letterbox: &Weak<Letterbox<M>>) -> bool {
        let home = self.home.as_ref().map(Arc::as_ptr);
        home == Some(letterbox.as_ptr())
    }

    fn letter(&self) -> &Letter<M> {
        self.letter
            .as_ref()
            .expect("taken out only by `into_inner`, which consumes the envelope")
    }

    /// Takes the message out. If the handler fails from here on, the message has failed with it, and is not handled again.
    #[must_use]
    pub fn into_inner(mut self) -> M {
        let letter = self.letter.take();
        letter.expect("taken out only here").message
    }

    /// Returns how long is left until the message's deadline; `None` when it has none.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        let deadline = self.letter().deadline;
        let home = self.home.as_ref()?;
        (deadline != Moment::NEVER).then(|| home.clock().until(deadline))
    }

    /// Says whether this is a call whose caller no longer waits for the answer.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.letter().caller().is_some_and(Caller::is_gone)
    }

    /// Says whether this is a call: somebody waits for an answer.
    #[must_use]
    pub fn is_call(&self) -> bool {
        self.letter().caller().is_some()
    }

    /// Returns at how many crashes in a row it was in hand.
    #[must_use]
    pub fn crashes(&self) -> u32 {
        self.letter().crashes
    }

    /// Returns which actor of the tree sent it; `None` for one from outside.
    #[must_use]
    pub fn sender(&self) -> Option<&ActorPath> {
        self.letter().sender()
    }

    /// Returns how long ago it was sent; zero for an actor's own.
    #[must_use]
    pub fn age(&self) -> Duration {
        let home = self.home.as_ref();
        home.map_or(Duration::ZERO, |it| it.clock().since(self.letter().sent))
    }
}

impl<M: Message> From<M> for Mail<M> {
    fn from(message: M) -> Self {
        Self {
            letter: Some(Letter {
                message,
                sent: Moment::default(),
                deadline: Moment::NEVER,
                origin: None,
                crashes: 0,
            }),
            home: None,
            stage: Stage::Sent,
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
    fn drop(&mut self) {
        let (Some(home), Some(letter)) = (self.home.take(), self.letter.take()) else {
            return;
        };
        match self.stage {
            Stage::Sent => home.keep(letter),
            Stage::InHand(number) => home.put_down(number, letter),
            Stage::Claim => {}
        }
    }
}

impl<M: Message> fmt::Debug for Mail<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mail")
            .field("message", &std::any::type_name::<M>())
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

/// Where a message comes from: of a call, the two ends as far as each needs to know of the other.
#[derive(Clone, Debug)]
pub struct Caller(Arc<Slip>);

#[derive(Debug)]
struct Slip {
    flags: AtomicU8,
    is_call: bool,
    sender: Option<ActorPath>,
    /// In which it was sent, while anybody traces messages.
    span: Option<Span>,
}

const GONE: u8 = 1;
const TAKEN: u8 = 2;
const DROPPED: u8 = 4;

impl Caller {
    /// Notes a call by the actor whose handler is being run on this thread, or by nobody of the tree.
    #[must_use]
    pub fn new() -> Self {
        let sender = current::with(|run| run.map(|run| run.node().path().clone()));
        Self::of(true, sender)
    }

    /// Notes who sends a message that nobody waits for; nothing for one from outside.
    pub(crate) fn sender() -> Option<Self> {
        let sender = current::with(|run| run.map(|run| run.node().path().clone()));
        (sender.is_some() || span::is_on()).then(|| Self::of(false, sender))
    }

    fn of(is_call: bool, sender: Option<ActorPath>) -> Self {
        Self(Arc::new(Slip {
            flags: AtomicU8::new(0),
            is_call,
            sender,
            span: span::of_sender(),
        }))
    }

    /// The caller waits no longer: its message need not be handled any more.
    pub fn leave(&self) {
        self.0.flags.fetch_or(GONE, AcqRel);
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.0.flags.load(Acquire) & GONE != 0
    }

    /// Its message is in hand, and goes down with the run that has it.
    pub(crate) fn take(&self) {
        self.0.flags.fetch_or(TAKEN, AcqRel);
    }

    /// Says whether the message has been taken in hand.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.0.flags.load(Acquire) & TAKEN != 0
    }

    /// Says whether the mailbox has dropped the message, for want of room or for a later one with the same key.
    #[must_use]
    pub fn was_dropped(&self) -> bool {
        self.0.flags.load(Acquire) & DROPPED != 0
    }
}

impl Default for Caller {
    fn default() -> Self {
        Self::new()
    }
}
