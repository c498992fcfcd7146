//! The messages of a tree, as a snapshot shows them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use perennial_lifecycle::{
    ActorPath, DeadLetter, DeadLetters, DeadReason, Figures, HandlerTimes, Scope, Wait,
};
use perennial_registry::Registry;
use serde::Serialize;
use tokio::time::Instant;

use crate::time::{epoch_ms, millis};

/// How many dead letters a snapshot shows.
const LAST: usize = 10;

/// Dead letters of this time are those of lately.
pub(crate) const LATELY: Duration = Duration::from_secs(300);

/// What became of the messages of one actor, over all its runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MailboxSnapshot {
    /// How many messages it holds; `None` while no run is alive.
    pub capacity: Option<u64>,
    /// For how long at least the oldest has waited; `None` while none waits. One that waits alone, behind the one in hand, is
    /// looked at from the first snapshot on that finds it.
    pub oldest_at_least_ms: Option<u64>,
    /// How many were handled with success.
    pub handled: u64,
    /// How many were in hand when the actor failed or was killed.
    pub failed: u64,
    /// How many were skipped, since their deadline had passed or their caller had gone.
    pub expired: u64,
    /// How many were returned at a restart.
    pub returned: u64,
    /// How many were refused; these were never in the mailbox.
    pub refused: u64,
    /// How many became dead letters, those that were replaced by a later one among them.
    pub dead: u64,
    /// How often a message was handed to the actor again after a crash.
    pub redelivered: u64,
    /// How long its handlers took; `None` while none was through.
    pub times: Option<TimesSnapshot>,
}

/// How long the handlers of an actor took, as far as they were timed: see [`Figures::times`]. Each figure is at most half as
/// long again as the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TimesSnapshot {
    /// Half of them were through within this many microseconds.
    pub p50_us: u64,
    /// 99 of 100 were.
    pub p99_us: u64,
    /// All were.
    pub max_us: u64,
}

/// The books of a whole tree, the places that are gone included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BooksSnapshot {
    /// How many messages wait.
    pub waiting: u64,
    /// How many are in hand.
    pub in_hand: u64,
    /// How many were handled with success.
    pub handled: u64,
    /// How many were in hand when their actor failed or was killed.
    pub failed: u64,
    /// How many were skipped, since their deadline had passed or their caller had gone.
    pub expired: u64,
    /// How many were returned at a restart.
    pub returned: u64,
    /// How many were refused.
    pub refused: u64,
    /// How many became dead letters.
    pub dead: u64,
}

/// An actor whose handler waits for the answer of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WaitSnapshot {
    /// Who waits.
    pub caller: ActorPath,
    /// Who is to answer.
    pub callee: ActorPath,
    /// For how long the oldest of these calls has waited.
    pub for_ms: u64,
    /// How many calls from the one to the other wait.
    pub calls: usize,
}

/// The dead letters of a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeadLettersSnapshot {
    /// How many messages became dead letters so far.
    pub total: u64,
    /// How many dead letters are kept.
    pub kept: usize,
    /// The last few of them, oldest first.
    pub last: Vec<DeadLetterSnapshot>,
    /// Whose messages died within the last five minutes, as far as they are kept, in the order of the paths; without those
    /// that a later one replaced, as their mailbox has it.
    pub lately: Vec<DeadLately>,
}

/// A message that nobody handled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeadLetterSnapshot {
    /// By which it can be replayed.
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
    pub age_ms: Option<u64>,
    /// At how many crashes it was in hand.
    pub crashes: u32,
    /// How many messages this stands for.
    pub messages: u64,
    /// Whether it can be replayed.
    pub is_kept: bool,
    /// When it became one, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// How many messages to one actor died lately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeadLately {
    /// Whom they were sent to.
    pub target: ActorPath,
    /// How many were in hand at too many crashes.
    pub poison: u64,
    /// How many died otherwise.
    pub others: u64,
}

/// A group of actors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GroupSnapshot {
    /// Its name.
    pub name: String,
    /// Where its members live, in order of joining.
    pub members: Vec<ActorPath>,
}

/// What a snapshot shows beside the places: read before them.
#[derive(Debug, Default)]
pub(crate) struct Around {
    pub(crate) detached: u64,
    pub(crate) books: perennial_lifecycle::Totals,
    pub(crate) waits: Vec<WaitSnapshot>,
    pub(crate) dead_letters: DeadLettersSnapshot,
    pub(crate) groups: Vec<GroupSnapshot>,
    /// The debug messages that are declared, by place.
    pub(crate) declared: HashMap<ActorPath, Vec<Arc<str>>>,
}

impl Around {
    pub(crate) fn read(
        scope: &Scope,
        registry: Option<&Registry>,
        declared: HashMap<ActorPath, Vec<Arc<str>>>,
    ) -> Self {
        let traffic = scope.traffic();
        let now = Instant::now();
        let waits = traffic.waits().list();
        let groups = registry.map_or_else(Vec::new, Registry::group_members);
        Self {
            detached: scope.detached(),
            books: scope.books_of_gone_places(),
            waits: waits.iter().map(|it| WaitSnapshot::new(it, now)).collect(),
            dead_letters: DeadLettersSnapshot::read(traffic.dead_letters()),
            groups: groups
                .into_iter()
                .map(|(name, members)| GroupSnapshot {
                    name: name.to_string(),
                    members,
                })
                .collect(),
            declared,
        }
    }
}

impl MailboxSnapshot {
    pub(crate) fn new(figures: &Figures, capacity: Option<u64>) -> Self {
        Self {
            capacity,
            oldest_at_least_ms: figures.oldest_at_least.map(millis),
            handled: figures.handled,
            failed: figures.failed,
            expired: figures.expired,
            returned: figures.returned,
            refused: figures.refused,
            dead: figures.dead,
            redelivered: figures.redelivered,
            times: TimesSnapshot::new(&figures.times),
        }
    }
}

impl TimesSnapshot {
    /// All three in one walk over the few buckets that hold anything.
    fn new(times: &HandlerTimes) -> Option<Self> {
        let count = times.count();
        let limit = |it: Duration| u64::try_from(it.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX);
        let mut found = None;
        let mut seen = 0;
        for (below, handlers) in times.buckets() {
            let at = limit(below);
            let times = found.get_or_insert(Self {
                p50_us: at,
                p99_us: at,
                max_us: at,
            });
            if seen < count.div_ceil(2) {
                times.p50_us = at;
            }
            if seen < (count * 99).div_ceil(100) {
                times.p99_us = at;
            }
            times.max_us = at;
            seen += handlers;
        }
        found
    }
}

impl From<&perennial_lifecycle::Totals> for BooksSnapshot {
    fn from(books: &perennial_lifecycle::Totals) -> Self {
        Self {
            waiting: books.waiting,
            in_hand: books.in_hand,
            handled: books.handled,
            failed: books.failed,
            expired: books.expired,
            returned: books.returned,
            refused: books.refused,
            dead: books.dead,
        }
    }
}

impl WaitSnapshot {
    fn new(wait: &Wait, now: Instant) -> Self {
        Self {
            caller: wait.caller.clone(),
            callee: wait.callee.clone(),
            for_ms: millis(now.saturating_duration_since(wait.since)),
            calls: wait.calls,
        }
    }
}

impl DeadLettersSnapshot {
    fn read(dead: &DeadLetters) -> Self {
        let letters = dead.list();
        let oldest = SystemTime::now() - LATELY;
        let mut by_target: HashMap<&ActorPath, DeadLately> = HashMap::new();
        // What its mailbox replaces is no trouble: whoever set that up wants it so.
        let is_trouble = |it: &&DeadLetter| it.at >= oldest && it.reason != DeadReason::Replaced;
        for letter in letters.iter().filter(is_trouble) {
            let target = &letter.target;
            let lately = by_target.entry(target).or_insert_with(|| DeadLately {
                target: target.clone(),
                poison: 0,
                others: 0,
            });
            match letter.reason {
                DeadReason::Poison => lately.poison += letter.messages,
                _ => lately.others += letter.messages,
            }
        }
        let mut lately: Vec<_> = by_target.into_values().collect();
        lately.sort_unstable_by(|a, b| a.target.cmp(&b.target));
        let last = letters.len().saturating_sub(LAST);
        Self {
            total: dead.total(),
            kept: letters.len(),
            last: letters[last..].iter().map(From::from).collect(),
            lately,
        }
    }
}

impl From<&DeadLetter> for DeadLetterSnapshot {
    fn from(letter: &DeadLetter) -> Self {
        Self {
            id: letter.id,
            target: letter.target.clone(),
            message_type: letter.message_type,
            reason: letter.reason,
            sender: letter.sender.clone(),
            age_ms: letter.age.map(millis),
            crashes: letter.crashes,
            messages: letter.messages,
            is_kept: letter.is_kept,
            at_ms: epoch_ms(letter.at),
        }
    }
}
