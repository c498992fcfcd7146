//! What an actor's mailbox holds, and what happens where it holds no more.

pub(crate) mod door;
pub(crate) mod front;
pub(crate) mod homes;
pub(crate) mod intake;
mod keys;
pub(crate) mod ledger;
pub(crate) mod letterbox;
pub(crate) mod offer;
mod store;
pub(crate) mod times;

use std::any::TypeId;
use std::fmt;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ractor::Message;

use self::intake::MOST;
use self::keys::{Keyed, Keys};
use crate::mail::Mail;

/// How many messages a mailbox holds unless told otherwise.
pub(crate) const CAPACITY: u64 = 10_000;

/// The settings of an actor's mailbox.
///
/// | when full | a `cast` | a `send` or `call` | needs |
/// | --- | --- | --- | --- |
/// | wait (the default) | [`Full`](crate::Undelivered::Full) | waits for room, to its deadline | |
/// | [`reject_when_full`](Self::reject_when_full) | `Full` | `Full` | |
/// | [`drop_newest`](Self::drop_newest) | taken, and dead-lettered | a `send` the same, a `call` is `Full` | |
/// | [`drop_oldest`](Self::drop_oldest) | taken; the oldest is dead-lettered | the same | `Mail` |
/// | [`coalesce`](Self::coalesce) | replaces one with the same key, else `Full` | the same, else waits for room | `Mail` |
///
/// What the framework itself has to say to an actor (a stop, a kill, supervision, an operator's command) is never held
/// up by a full mailbox. Nor is what comes straight through a [`ractor::ActorRef`], as an actor's own timers.
///
/// ```
/// use perennial_lifecycle::Mailbox;
///
/// struct Price { share: u32, cents: u64 }
///
/// let latest_only = Mailbox::bounded(100).coalesce(|price: &Price| price.share);
/// let for_all_it_takes = Mailbox::unbounded();
/// let little = Mailbox::bounded(8).reject_when_full().poison_after(1);
/// # let _ = (latest_only, for_all_it_takes, little);
/// ```
#[derive(Clone)]
#[must_use]
pub struct Mailbox {
    capacity: u64,
    pub(crate) overflow: Overflow,
    pub(crate) at_restart: AtRestart,
    pub(crate) poison_after: NonZeroU32,
    drain_within: Option<Duration>,
}

/// What happens to a message for which there is no room.
#[derive(Clone)]
pub(crate) enum Overflow {
    Wait,
    Reject,
    DropNewest,
    DropOldest(Taking),
    Coalesce(Taking, Arc<dyn Keyed>),
}

/// The type of messages, and of the envelope that an actor must take for it.
#[derive(Clone, Copy)]
pub(crate) struct Taking {
    pub(crate) mail: TypeId,
    pub(crate) message: &'static str,
}

/// What becomes of the messages that wait when their actor ends and is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AtRestart {
    /// They are kept, and the next run handles them. This is the default.
    #[default]
    Keep,
    /// They are returned: casts as dead letters, from where they can be replayed; calls fail.
    Return,
}

/// What of a mailbox can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MailboxFault(pub(crate) &'static str);

impl Mailbox {
    /// Holds at most `capacity` messages; what is more waits outside.
    ///
    /// From 1 to 2,147,483,647: a spec with another capacity is refused.
    pub fn bounded(capacity: u32) -> Self {
        Self {
            capacity: capacity.into(),
            ..Self::default()
        }
    }

    /// Holds as many messages as there are, up to two thousand million.
    pub fn unbounded() -> Self {
        Self {
            capacity: MOST,
            ..Self::default()
        }
    }

    /// Refuses a message for which there is no room, also one that could wait.
    pub fn reject_when_full(mut self) -> Self {
        self.overflow = Overflow::Reject;
        self
    }

    /// Drops a message for which there is no room. Whoever sent it is not told; it becomes a dead letter. A call is refused
    /// instead: its caller waits for an answer.
    pub fn drop_newest(mut self) -> Self {
        self.overflow = Overflow::DropNewest;
        self
    }

    /// Drops the oldest message for a new one; it becomes a dead letter. The actor says `type Msg = Mail<M>`.
    pub fn drop_oldest<M: Message>(mut self) -> Self {
        self.overflow = Overflow::DropOldest(Taking::of::<M>());
        self
    }

    /// Lets a message take the place of one with the same key that still waits. The actor says `type Msg = Mail<M>`.
    ///
    /// What was replaced is counted in one [dead letter](crate::DeadReason::Replaced), and not kept. `key` is called whenever
    /// a message comes, goes or is looked for: it is cheap, gives the same key each time, and must not panic. The mailbox is
    /// locked meanwhile, so neither `key` nor the key itself may send messages or ask about the tree.
    pub fn coalesce<M: Message, K: Eq + Hash + Send + 'static>(
        mut self,
        key: impl Fn(&M) -> K + Send + Sync + 'static,
    ) -> Self {
        let keyed = Keys::new(Arc::new(key));
        self.overflow = Overflow::Coalesce(Taking::of::<M>(), Arc::new(keyed));
        self
    }

    /// Chooses what becomes of the messages that wait at a restart.
    pub fn at_restart(mut self, at_restart: AtRestart) -> Self {
        self.at_restart = at_restart;
        self
    }

    /// Sets aside a message that was in hand at so many crashes in a row, 3 unless told otherwise.
    ///
    /// Zero is taken for one. Only messages that their handler has not taken out of their [`Mail`] can be handled again. The
    /// actor's supervisor has to bear as many restarts: by itself it bears one within five seconds.
    pub fn poison_after(mut self, crashes: u32) -> Self {
        self.poison_after = NonZeroU32::new(crashes).unwrap_or(NonZeroU32::MIN);
        self
    }

    pub(crate) fn set_drain_within(&mut self, limit: Duration) {
        self.drain_within = Some(limit);
    }

    /// Returns how long a shutdown waits until it is empty, where that is limited:
    /// see [`ChildSpec::drain_within`](crate::ChildSpec::drain_within).
    #[must_use]
    pub fn drain_limit(&self) -> Option<Duration> {
        self.drain_within
    }

    /// Returns how many messages it holds.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(crate) fn check(&self) -> Result<(), MailboxFault> {
        if self.capacity == 0 {
            return Err(MailboxFault("capacity must not be zero"));
        }
        // What is more would be counted where it means something else.
        if self.capacity > MOST {
            return Err(MailboxFault("capacity must be at most 2147483647"));
        }
        Ok(())
    }

    /// Returns what the actor must take, if the settings need it to take something else.
    pub(crate) fn misfit(&self, takes: TypeId) -> Option<Taking> {
        match &self.overflow {
            Overflow::DropOldest(taking) | Overflow::Coalesce(taking, _)
                if taking.mail != takes =>
            {
                Some(*taking)
            }
            _ => None,
        }
    }
}

impl Default for Mailbox {
    fn default() -> Self {
        Self {
            capacity: CAPACITY,
            overflow: Overflow::Wait,
            at_restart: AtRestart::Keep,
            poison_after: NonZeroU32::new(3).expect("not zero"),
            drain_within: None,
        }
    }
}

impl Taking {
    fn of<M: Message>() -> Self {
        Self {
            mail: TypeId::of::<Mail<M>>(),
            message: std::any::type_name::<M>(),
        }
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox")
            .field("capacity", &self.capacity)
            .field("overflow", &self.overflow)
            .field("at_restart", &self.at_restart)
            .field("poison_after", &self.poison_after)
            .field("drain_within", &self.drain_within)
            .finish()
    }
}

impl fmt::Debug for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wait => "wait",
            Self::Reject => "reject",
            Self::DropNewest => "drop newest",
            Self::DropOldest(_) => "drop oldest",
            Self::Coalesce(..) => "coalesce",
        })
    }
}

/// The settings of every mailbox that has none of its own.
#[cold]
pub(crate) fn defaults() -> &'static Mailbox {
    static DEFAULT: std::sync::OnceLock<Mailbox> = std::sync::OnceLock::new();
    DEFAULT.get_or_init(Mailbox::default)
}
