//! The entries of a shard, in the shortest form that can say what they are.
//!
//! Many keys are slow by their size. Nearly always all keys of a limiter are metered by its own quota, and that by GCRA:
//! then an entry is a key and one word. Where quotas differ, or an algorithm needs more, each entry has a whole [`State`].

use std::{borrow::Cow, mem, num::NonZeroU64};

use super::table::Table;
use crate::{
    clock::Nanos,
    machine::{Engine, Gcra, Meter as _, State, Verdict},
    rules::{Known, Rule},
};

/// What a check looks at comes first.
#[repr(C)]
pub(super) enum Entries<K> {
    /// All metered by one rule, that is GCRA.
    Short {
        table: Table<Short<K>>,
        meter: Gcra,
        rule: u32,
    },
    Whole(Table<Entry<K>>),
}

const _: () = assert!(size_of::<Option<Short<u64>>>() == 16);

/// How far a check looks into it: at the form, the table and the meter.
pub(super) const CHECKED: usize = 8 + size_of::<Table<()>>() + size_of::<Gcra>();

pub(super) struct Short<K> {
    pub(super) key: K,
    /// The state and one, for a bucket without an entry is told by zero.
    state: NonZeroU64,
}

pub(super) struct Entry<K> {
    pub(super) key: K,
    pub(super) state: State,
}

/// Does the same to the table of either form.
macro_rules! either {
    ($entries:expr, |$table:ident| $call:expr) => {
        match $entries {
            Entries::Short { table: $table, .. } => $call,
            Entries::Whole($table) => $call,
        }
    };
}

impl<K> Entries<K> {
    pub(super) fn new(rule: &Rule) -> Self {
        let mut entries = Self::Whole(Table::new());
        entries.shorten(rule);
        entries
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        either!(self, |table| table.len())
    }

    pub(super) fn is_empty(&self) -> bool {
        either!(self, |table| table.is_empty())
    }

    pub(super) fn num_buckets(&self) -> usize {
        either!(self, |table| table.num_buckets())
    }

    /// The bucket of a key.
    pub(super) fn position(&self, hash: u64, is_it: impl Fn(&K) -> bool) -> Option<usize> {
        either!(self, |table| table
            .position(hash, |entry| is_it(&entry.key)))
    }

    /// The key in a bucket.
    pub(super) fn key(&self, bucket: usize) -> Option<&K> {
        either!(self, |table| Some(&table.get(bucket)?.key))
    }

    /// The state of the key in a bucket.
    pub(super) fn state(&self, bucket: usize) -> Option<Cow<'_, State>> {
        Some(match self {
            Self::Short { table, rule, .. } => Cow::Owned(table.get(bucket)?.whole(*rule)),
            Self::Whole(table) => Cow::Borrowed(&table.get(bucket)?.state),
        })
    }

    pub(super) fn states(&self) -> impl Iterator<Item = Cow<'_, State>> {
        (0..self.num_buckets()).filter_map(|bucket| self.state(bucket))
    }

    /// Adds a key that is not there.
    pub(super) fn insert(&mut self, hash: u64, key: K, state: State, hasher: impl Fn(&K) -> u64) {
        if let Self::Short { table, rule, .. } = self
            && let Some(state) = short(&state, *rule)
        {
            return table.insert(hash, Short { key, state }, |entry| hasher(&entry.key));
        }
        let entry = Entry { key, state };
        self.whole().insert(hash, entry, |entry| hasher(&entry.key));
    }

    /// Takes the key out of a bucket. Those in the next buckets move up.
    pub(super) fn remove(&mut self, bucket: usize, hasher: impl Fn(&K) -> u64) -> Option<K> {
        either!(self, |table| table
            .remove(bucket, |entry| hasher(&entry.key))
            .map(|entry| entry.key))
    }

    /// Goes over to fewer buckets, if few of those there are in use.
    pub(super) fn shrink(&mut self, hasher: impl Fn(&K) -> u64) {
        either!(self, |table| table.shrink(|entry| hasher(&entry.key)));
    }

    /// Goes over to whole states. Each key keeps its bucket.
    pub(super) fn whole(&mut self) -> &mut Table<Entry<K>> {
        if let Self::Short { table, rule, .. } = self {
            let (table, rule) = (mem::replace(table, Table::new()), *rule);
            *self = Self::Whole(table.map(|entry| Entry {
                state: entry.whole(rule),
                key: entry.key,
            }));
        }
        match self {
            Self::Whole(table) => table,
            Self::Short { .. } => unreachable!("it has just gone over"),
        }
    }

    /// Goes back to short entries, if all are metered by this rule. Each key keeps its bucket.
    pub(super) fn shorten(&mut self, rule: &Rule) {
        let (Self::Whole(table), Engine::Gcra(meter)) = (&mut *self, rule.engine) else {
            return;
        };
        if !table
            .iter()
            .all(|entry| short(&entry.state, rule.id).is_some())
        {
            return;
        }
        let table = mem::replace(table, Table::new());
        *self = Self::Short {
            table: table.map(|entry| Short {
                state: short(&entry.state, rule.id).expect("each has just been looked at"),
                key: entry.key,
            }),
            meter,
            rule: rule.id,
        };
    }
}

/// A state of this rule in one word, if it fits.
fn short(state: &State, rule: u32) -> Option<NonZeroU64> {
    match state {
        State::Gcra(id, state) if *id == rule => word(*state),
        _ => None,
    }
}

/// All but the last instant of the clock.
fn word(state: Nanos) -> Option<NonZeroU64> {
    NonZeroU64::new(state.0.wrapping_add(1))
}

impl<K> Short<K> {
    fn whole(&self, rule: u32) -> State {
        State::Gcra(rule, Nanos(self.state.get() - 1))
    }

    /// Spends, unless what comes of it is too long for a word.
    #[inline]
    pub(super) fn spend(&mut self, meter: &Gcra, cells: u32, now: Nanos) -> Option<Verdict> {
        let mut state = Nanos(self.state.get() - 1);
        let verdict = meter.spend(&mut state, cells, now);
        self.state = word(state)?;
        Some(verdict)
    }
}

impl<K> Entry<K> {
    /// Goes over to another rule, if that keeps the key waiting no longer. A closed one has nothing to spend: the key
    /// stays with the old rule until the quota opens again, or it is idle.
    pub(super) fn adapt(&mut self, known: &Known, rule: Rule, now: Nanos) {
        let from = self.state.rule();
        if !rule.is_closed
            && from != rule.id
            && let Some(taken) =
                (rule.engine).take_over(rule.id, known.engine(from), &self.state, now)
        {
            self.state = taken;
        }
    }

    /// Spends under a rule that is not closed.
    pub(super) fn spend(&mut self, known: &Known, rule: Rule, cells: u32, now: Nanos) -> Verdict {
        let from = self.state.rule();
        if from == rule.id {
            return rule.engine.spend(&mut self.state, cells, now);
        }
        let from = known.engine(from);
        (rule.engine).spend_from(rule.id, from, &mut self.state, cells, now)
    }
}
