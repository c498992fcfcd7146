//! Which member a message goes to. Decides only: what it looks at comes in.

use std::cmp::Reverse;
use std::hash::{BuildHasher, Hash};

use foldhash::quality::FixedState;

/// How a message to a group chooses its member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route {
    /// Each in turn. The turns are counted over all handles of the group.
    RoundRobin,
    /// The one with the fewest messages waiting and in hand; in turn among equals.
    ///
    /// It looks at every member, and counts what was sent by name, address or group. Messages that are sent at the
    /// same moment by several threads may see the same member as the idlest.
    LeastQueued,
    /// The same one for the same key, as long as the members are the same.
    ///
    /// When a member leaves, its keys go to the others in equal parts, and all other keys stay; when it is back, at the
    /// same place in the tree, it gets its own again. While it is full its messages wait or are refused, as its mailbox
    /// says, and go to nobody else: so one key has one order as long as its member lives. It looks at every member
    /// (rendezvous hashing, D. Thaler and C. Ravishankar, "Using name-based mappings to increase hit rates", 1998).
    Key(u64),
}

impl Route {
    /// Routes by a key: its hash is the same in every process of one build.
    pub fn key(key: &(impl Hash + ?Sized)) -> Self {
        Self::Key(FixedState::default().hash_one(key))
    }

    /// Returns the indices of the members that take messages, in the order in which they are to be tried.
    ///
    /// `turn` is a number that counts up from message to message. Nearly all messages go to the first, so the others are
    /// put in order only when they are asked for, once.
    pub(super) fn order(self, turn: usize, all: &[impl Candidate]) -> impl Iterator<Item = usize> {
        let first = self.first(turn, all).into_iter();
        let others = move |first| self.others(turn, all, first);
        first.clone().chain(first.flat_map(others))
    }

    fn first(self, turn: usize, all: &[impl Candidate]) -> Option<usize> {
        let mut open = open(turn, all);
        match self {
            Self::RoundRobin => open.next(),
            Self::LeastQueued => open.min_by_key(|&index| all[index].load()),
            // The order among equals must not depend on the turn.
            Self::Key(key) => open.max_by_key(|&index| (weight(key, all[index].seed()), index)),
        }
    }

    fn others<'a>(
        self,
        turn: usize,
        all: &'a [impl Candidate],
        first: usize,
    ) -> Box<dyn Iterator<Item = usize> + 'a> {
        let others = open(turn, all).filter(move |index| *index != first);
        let mut ranked = Vec::new();
        match self {
            Self::RoundRobin => return Box::new(others),
            Self::LeastQueued => {
                ranked.extend(others);
                ranked.sort_by_cached_key(|&index| all[index].load());
            }
            Self::Key(key) => {
                ranked.extend(others);
                let weight = |index: usize| (weight(key, all[index].seed()), index);
                ranked.sort_by_cached_key(|&index| Reverse(weight(index)));
            }
        }
        Box::new(ranked.into_iter().filter(|index| all[*index].is_open()))
    }
}

/// Returns the indices of those that take messages, from the one on whose turn it is.
fn open(turn: usize, all: &[impl Candidate]) -> impl Iterator<Item = usize> {
    let len = all.len();
    let indices = (0..len).map(move |step| turn.wrapping_add(step) % len);
    indices.filter(|index| all[*index].is_open())
}

/// What is known of a member.
pub(super) trait Candidate {
    /// Says whether it takes messages.
    fn is_open(&self) -> bool;
    /// Returns how many messages it has, the one in hand included.
    fn load(&self) -> u64;
    /// Returns a number that stands for its place in the tree.
    fn seed(&self) -> u64;
}

/// Returns the number that stands for a place.
pub(super) fn seed(path: &str) -> u64 {
    FixedState::with_seed(1).hash_one(path)
}

fn weight(key: u64, seed: u64) -> u64 {
    FixedState::with_seed(seed).hash_one(key)
}

#[cfg(test)]
mod tests;
