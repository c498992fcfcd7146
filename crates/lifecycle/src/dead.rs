//! Messages that nobody handled, kept for a while.

mod news;

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use ractor::Message;
use serde::Serialize;

pub use self::news::DeadLetterStream;
use self::news::News;
use crate::panic::let_go;
use crate::{ActorPath, Incarnation, Node, Undelivered};

/// How many dead letters a tree keeps unless told otherwise.
const CAPACITY: usize = 1_000;

/// Why a message became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeadReason {
    /// It was in hand at too many crashes in a row.
    Poison,
    /// There was no room for it, or it made room for another.
    Overflow,
    /// It waited when its actor ended, and the actor's spec has such messages returned.
    Returned,
    /// It waited when its actor ended for good, or in a mailbox that keeps nothing over a restart.
    Stopped,
    /// The place has got an actor that takes another type of message.
    OtherType,
    /// A later message with the same key took its place, as the actor's mailbox
    /// [has it](crate::Mailbox::coalesce).
    ///
    /// Those of one place are one letter, which counts them, so that they push out no other. It has the sender and the age
    /// of the last, and whoever follows the letters hears of the first.
    Replaced,
}

impl fmt::Display for DeadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Poison => "poison",
            Self::Overflow => "overflow",
            Self::Returned => "returned",
            Self::Stopped => "stopped",
            Self::OtherType => "other type",
            Self::Replaced => "replaced",
        })
    }
}

/// A message that nobody handled.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Counts up by one per dead letter of the tree.
    pub id: u64,
    /// Whom it was sent to.
    pub target: ActorPath,
    /// Its type.
    pub message_type: &'static str,
    /// Why nobody handled it.
    pub reason: DeadReason,
    /// Who sent it, where that was an actor of the tree.
    pub sender: Option<ActorPath>,
    /// How long it had waited, where that is known.
    pub age: Option<Duration>,
    /// At how many crashes it was in hand.
    pub crashes: u32,
    /// How many messages this stands for: more than one where a mailbox was lost that cannot be looked into, and where
    /// several were replaced.
    pub messages: u64,
    /// Whether the message itself is kept, so that it can be replayed.
    pub is_kept: bool,
    /// When it became one.
    pub at: SystemTime,
}

impl fmt::Display for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.messages > 1 {
            write!(f, "{} x ", self.messages)?;
        }
        write!(f, "{} to {}", self.message_type, self.target)?;
        if let Some(sender) = &self.sender {
            write!(f, " from {sender}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// What is known of a message that dies.
#[derive(Debug)]
pub(crate) struct Obituary {
    pub(crate) target: ActorPath,
    pub(crate) message_type: &'static str,
    pub(crate) reason: DeadReason,
    pub(crate) sender: Option<ActorPath>,
    pub(crate) age: Option<Duration>,
    pub(crate) crashes: u32,
    pub(crate) messages: u64,
}

impl Obituary {
    /// Of messages that went with their actor or its place, and of which only the number is known.
    pub(crate) fn of_lost(target: ActorPath, message_type: &'static str, messages: u64) -> Self {
        Self {
            target,
            message_type,
            reason: DeadReason::Stopped,
            sender: None,
            age: None,
            crashes: 0,
            messages,
        }
    }
}

/// The dead letters of a tree: the last ones, in a ring that is bounded.
///
/// A message is kept with its letter, and can be replayed, unless it was a call, since nobody waits for its answer any more,
/// or was [replaced](DeadReason::Replaced) by a later one.
pub struct DeadLetters {
    ring: Mutex<Ring>,
    /// Made by the first who follows them.
    news: OnceLock<News>,
    total: AtomicU64,
}

struct Ring {
    letters: VecDeque<Entry>,
    capacity: usize,
    next: u64,
}

impl Ring {
    fn find(&mut self, id: u64) -> Option<usize> {
        self.letters
            .binary_search_by_key(&id, |it| it.letter.id)
            .ok()
    }
}

struct Entry {
    letter: DeadLetter,
    /// Not there while it is being replayed, of a letter that is kept.
    content: Option<Box<dyn Replay>>,
}

/// A message that is kept, whatever its type.
pub(crate) trait Replay: Any + Send {
    fn replay(self: Box<Self>) -> Result<(), (Box<dyn Replay>, ReplayError)>;
}

/// A message and the place that it is for.
pub(crate) struct Kept<M> {
    pub(crate) message: M,
    pub(crate) place: Weak<Node>,
}

impl<M: Message> Replay for Kept<M> {
    fn replay(self: Box<Self>) -> Result<(), (Box<dyn Replay>, ReplayError)> {
        let run = self.place.upgrade().map(|node| node.current());
        let Some(run) = run else {
            return Err((self, ReplayError::Gone));
        };
        let Some(run) = run else {
            return Err((self, ReplayError::NotRunning));
        };
        // It would be a dead letter once more, or make one of another that came later.
        if run.would_drop() {
            return Err((self, ReplayError::Full));
        }
        let Self { message, place } = *self;
        let back = |message, error| -> (Box<dyn Replay>, ReplayError) {
            (Box::new(Kept { message, place }), error)
        };
        Incarnation::offer(&run, message).map_err(|undelivered| match undelivered {
            Undelivered::Full(message) => back(message, ReplayError::Full),
            Undelivered::Ended(message) => back(message, ReplayError::NotRunning),
            Undelivered::ShuttingDown(message) => back(message, ReplayError::ShuttingDown),
            Undelivered::WrongType(message) => back(message, ReplayError::OtherType),
        })
    }
}

/// A dead letter that was not replayed; it is still there, unless it is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// There is none of this id, or no longer.
    #[error("no dead letter has this id, or it has been forgotten or taken")]
    Unknown,
    /// Only what is known of it was kept, as of a call.
    #[error("the message itself was not kept")]
    NotKept,
    /// The place that it was sent to is no longer in the tree.
    #[error("the place that it was sent to is gone")]
    Gone,
    /// Nobody runs there now.
    #[error("its actor is not running")]
    NotRunning,
    /// The mailbox is full.
    #[error("the mailbox of its actor is full")]
    Full,
    /// The tree is shutting down.
    #[error("the tree is shutting down")]
    ShuttingDown,
    /// The actor that runs there now takes another type of message.
    #[error("its actor takes other messages now")]
    OtherType,
}

impl DeadLetters {
    pub(crate) fn new() -> Self {
        Self {
            ring: Mutex::new(Ring {
                letters: VecDeque::new(),
                capacity: CAPACITY,
                next: 0,
            }),
            news: OnceLock::new(),
            total: AtomicU64::new(0),
        }
    }

    /// Keeps at most so many from now on; 0 keeps none.
    pub fn set_capacity(&self, capacity: usize) {
        let forgotten: Vec<Entry> = {
            let mut ring = self.lock();
            ring.capacity = capacity;
            let surplus = ring.letters.len().saturating_sub(capacity);
            ring.letters.drain(..surplus).collect()
        };
        forgotten.into_iter().for_each(let_go);
    }

    /// Lists those that are kept, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<DeadLetter> {
        let ring = self.lock();
        ring.letters.iter().map(|it| it.letter.clone()).collect()
    }

    /// Returns how many messages became dead letters so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// Sends the message to the place that it was for, once more.
    ///
    /// # Errors
    ///
    /// [`ReplayError`]; the letter is still there, unless it is unknown.
    pub fn replay(&self, id: u64) -> Result<(), ReplayError> {
        let content = self.take_content(id, |_| true)?;
        // Without the lock: the message may be dropped on the way, and that is foreign code.
        match content.replay() {
            Ok(()) => {
                self.forget(id);
                Ok(())
            }
            Err((content, error)) => {
                self.give_back(id, content);
                Err(error)
            }
        }
    }

    /// Takes a message out, for whoever knows its type.
    ///
    /// # Errors
    ///
    /// [`ReplayError::Unknown`], [`ReplayError::NotKept`], and [`ReplayError::OtherType`] when it is no `M`.
    pub fn take<M: Message>(&self, id: u64) -> Result<M, ReplayError> {
        let content: Box<dyn Any> = self.take_content(id, <dyn Any>::is::<Kept<M>>)?;
        self.forget(id);
        let kept = content.downcast::<Kept<M>>();
        kept.map(|it| it.message)
            .map_err(|_| ReplayError::OtherType)
    }

    /// Takes out what is kept with a letter, if it is wanted, and nobody is about it.
    fn take_content(
        &self,
        id: u64,
        is_wanted: impl FnOnce(&dyn Any) -> bool,
    ) -> Result<Box<dyn Replay>, ReplayError> {
        let mut ring = self.lock();
        let at = ring.find(id).ok_or(ReplayError::Unknown)?;
        let Entry { letter, content } = &mut ring.letters[at];
        let is_wanted = content.as_deref().map(|it| is_wanted(it));
        match is_wanted {
            Some(true) => content.take().ok_or(ReplayError::NotKept),
            Some(false) => Err(ReplayError::OtherType),
            None if letter.is_kept => Err(ReplayError::Unknown),
            None => Err(ReplayError::NotKept),
        }
    }

    fn give_back(&self, id: u64, content: Box<dyn Replay>) {
        let mut ring = self.lock();
        match ring.find(id) {
            Some(at) => ring.letters[at].content = Some(content),
            None => {
                // It was forgotten meanwhile, for a later one.
                drop(ring);
                let_go(content);
            }
        }
    }

    /// Forgets a letter of which the message has gone.
    fn forget(&self, id: u64) {
        let mut ring = self.lock();
        if let Some(at) = ring.find(id) {
            ring.letters.remove(at);
        }
    }

    /// Follows the dead letters from now on.
    pub fn subscribe(&self) -> DeadLetterStream {
        self.news.get_or_init(News::new).follow()
    }

    /// Adds one more message to a letter that stands for several, or a new letter where that is no longer there. Returns
    /// the id of the letter.
    pub(crate) fn add_to(&self, id: u64, obituary: Obituary) -> u64 {
        let mut ring = self.lock();
        let Some(at) = ring.find(id) else {
            drop(ring);
            return self.add(obituary, None);
        };
        let letter = &mut ring.letters[at].letter;
        letter.messages += obituary.messages;
        letter.sender = obituary.sender;
        letter.age = obituary.age;
        letter.at = SystemTime::now();
        self.total.fetch_add(obituary.messages, Relaxed);
        id
    }

    /// Adds a letter, and returns its id.
    pub(crate) fn add(&self, obituary: Obituary, content: Option<Box<dyn Replay>>) -> u64 {
        self.total.fetch_add(obituary.messages, Relaxed);
        let Obituary {
            target,
            message_type,
            reason,
            sender,
            age,
            crashes,
            messages,
        } = obituary;
        let mut ring = self.lock();
        let id = ring.next;
        let letter = DeadLetter {
            id,
            target,
            message_type,
            reason,
            sender,
            age,
            crashes,
            messages,
            is_kept: content.is_some() && ring.capacity > 0,
            at: SystemTime::now(),
        };
        ring.next += 1;
        let news = self.news.get();
        if let Some(news) = news {
            // Here, so that they come in order.
            news.note(&letter);
        }
        ring.letters.push_back(Entry { letter, content });
        let surplus = ring.letters.len() > ring.capacity;
        let forgotten = surplus.then(|| ring.letters.pop_front());
        drop(ring);
        // Foreign code: a message has a destructor, and a waker may run anything.
        let_go(forgotten);
        if let Some(news) = news {
            news.tell();
        }
        id
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for DeadLetters {
    fn drop(&mut self) {
        let ring = self.ring.get_mut().unwrap_or_else(PoisonError::into_inner);
        ring.letters.drain(..).for_each(let_go);
    }
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters")
            .field("total", &self.total())
            .field("kept", &self.lock().letters.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::{Context, Wake, Waker};

    use super::*;

    fn obituary(reason: DeadReason) -> Obituary {
        Obituary {
            target: ActorPath::root("shop"),
            message_type: "u32",
            reason,
            sender: None,
            age: None,
            crashes: 0,
            messages: 1,
        }
    }

    fn kept(message: u32) -> Option<Box<dyn Replay>> {
        let place = Weak::new();
        Some(Box::new(Kept { message, place }))
    }

    #[tokio::test]
    async fn the_last_ones_are_kept_and_all_are_told() {
        let dead = DeadLetters::new();
        dead.set_capacity(2);
        let mut news = dead.subscribe();
        for message in 0..3 {
            dead.add(obituary(DeadReason::Overflow), kept(message));
        }
        let ids: Vec<_> = dead.list().iter().map(|it| it.id).collect();
        assert_eq!(ids, [1, 2]);
        assert_eq!(dead.total(), 3);
        for id in 0..3 {
            assert_eq!(news.next().await.unwrap().unwrap().id, id);
        }
    }

    /// Makes a dead letter of its own when it is woken, as a subscriber may that runs where it is woken.
    struct Busy(Arc<DeadLetters>, AtomicUsize);

    impl Wake for Busy {
        fn wake(self: Arc<Self>) {
            // To wait for the lock here would be to wait for ever.
            assert!(self.0.ring.try_lock().is_ok());
            if self.1.fetch_add(1, Relaxed) == 0 {
                self.0.add(obituary(DeadReason::Stopped), None);
            }
        }
    }

    #[tokio::test]
    async fn a_subscriber_may_make_dead_letters_where_it_is_woken_and_hears_of_all_in_order() {
        let dead = Arc::new(DeadLetters::new());
        let mut news = dead.subscribe();
        let busy = Arc::new(Busy(Arc::clone(&dead), AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&busy));
        {
            let mut waits = pin!(news.next());
            let mut context = Context::from_waker(&waker);
            assert!(waits.as_mut().poll(&mut context).is_pending());
            dead.add(obituary(DeadReason::Overflow), None);
            assert_eq!(busy.1.load(Relaxed), 1);
        }
        let mut told = Vec::new();
        drop((busy, waker, dead));
        while let Some(letter) = news.next().await {
            let letter = letter.unwrap();
            told.push((letter.id, letter.reason));
        }
        assert_eq!(told, [(0, DeadReason::Overflow), (1, DeadReason::Stopped)]);
    }

    #[tokio::test]
    async fn one_who_comes_after_all_others_have_gone_hears_of_nothing_before() {
        let dead = DeadLetters::new();
        let add = || dead.add(obituary(DeadReason::Overflow), None);
        drop(dead.subscribe());
        add();
        let mut first = dead.subscribe();
        add();
        drop(first.next().await);
        drop(first);
        add();
        let mut second = dead.subscribe();
        add();
        assert_eq!(second.next().await.unwrap().unwrap().id, 3);
        drop(dead);
        assert!(second.next().await.is_none());
    }

    /// Looks at the letters where it is replayed, and comes back.
    struct Mirror(Arc<DeadLetters>, usize);

    impl Replay for Mirror {
        fn replay(self: Box<Self>) -> Result<(), (Box<dyn Replay>, ReplayError)> {
            let Self(dead, more) = &*self;
            let of_all = |it: &DeadLetter| (it.id, it.is_kept);
            assert_eq!(dead.list().iter().map(of_all).next(), Some((0, true)));
            assert_eq!(dead.replay(0), Err(ReplayError::Unknown));
            assert_eq!(dead.take::<u32>(0), Err(ReplayError::Unknown));
            for _ in 0..*more {
                dead.add(obituary(DeadReason::Overflow), None);
            }
            Err((self, ReplayError::Full))
        }
    }

    #[test]
    fn a_letter_stays_in_its_place_while_it_is_replayed_if_there_is_room() {
        for (more, expected) in [(1, [0, 1]), (2, [1, 2])] {
            let dead = Arc::new(DeadLetters::new());
            dead.set_capacity(2);
            let mirror = Mirror(Arc::clone(&dead), more);
            dead.add(obituary(DeadReason::Overflow), Some(Box::new(mirror)));
            assert_eq!(dead.replay(0), Err(ReplayError::Full));
            let ids = || dead.list().iter().map(|it| it.id).collect::<Vec<_>>();
            assert_eq!(ids(), expected);
            // Nothing of it is left.
            dead.set_capacity(0);
            assert_eq!(Arc::strong_count(&dead), 1);
        }
    }

    #[test]
    fn a_letter_that_cannot_be_replayed_stays_where_it_was() {
        let dead = DeadLetters::new();
        dead.add(obituary(DeadReason::Poison), kept(7));
        dead.add(obituary(DeadReason::Stopped), None);
        assert_eq!(dead.replay(0), Err(ReplayError::Gone));
        assert_eq!(dead.replay(1), Err(ReplayError::NotKept));
        assert_eq!(dead.replay(2), Err(ReplayError::Unknown));
        let ids: Vec<_> = dead.list().iter().map(|it| it.id).collect();
        assert_eq!(ids, [0, 1]);
        assert_eq!(dead.take::<u64>(0), Err(ReplayError::OtherType));
        assert_eq!(dead.take::<u32>(0), Ok(7));
        assert_eq!(dead.take::<u32>(0), Err(ReplayError::Unknown));
    }
}
