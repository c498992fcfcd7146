//! One shard: a table of keys with a hand that goes round it.

use std::mem::offset_of;

use super::{Swept, table::Table};
use crate::{
    clock::Nanos,
    config::WhenFull,
    machine::{State, Verdict},
    rules::{Known, Rule},
};

/// What a check looks at comes first: with the lock before it, it fills one cache line of 64 bytes.
#[repr(C)]
pub(super) struct Shard<K> {
    /// The latest reading of all checks. What they spent may not be given back at the pace of a rule that comes later.
    latest: Nanos,
    /// What meters a key when the check does not say.
    pub(super) rule: Rule,
    pub(super) entries: Table<Entry<K>>,
    /// Keys were forgotten, or went over to other rules, at this time. A check that read its clock before must
    /// not begin a forgotten key anew at that earlier time, nor have the time between be given back twice, by two rules.
    pub(super) floor: Nanos,
    /// The bucket at which the next sweep goes on. Growth moves the keys about; who is missed is found next time.
    swept: usize,
    /// The bucket at which room is made next.
    hand: usize,
    /// The bucket of the key that a refused newcomer waits for: of those looked at, the one idle soonest.
    awaited: Option<usize>,
}

const _: () = assert!(offset_of!(Shard<()>, entries) + size_of::<Box<[()]>>() <= 56);

pub(super) struct Entry<K> {
    pub(super) key: K,
    pub(super) state: State,
}

/// What making room came to.
pub(super) struct Room {
    pub(super) removed: usize,
    /// Of those, the ones that were not idle.
    pub(super) evicted: u64,
}

impl<K> Shard<K> {
    pub(super) fn new(rule: Rule) -> Self {
        Self {
            rule,
            floor: Nanos::default(),
            latest: Nanos::default(),
            entries: Table::new(),
            swept: 0,
            hand: 0,
            awaited: None,
        }
    }

    /// Notes that a check read its clock.
    #[inline]
    pub(super) fn note_reading(&mut self, now: Nanos) {
        self.latest = self.latest.max(now);
    }

    /// When a key begins for which a check reads this: not before it may have been forgotten.
    pub(super) fn begins(&self, now: Nanos) -> Nanos {
        now.max(self.floor)
    }

    /// When a key goes over to another rule for which a check or a change reads this: not before it may have spent under
    /// the rule of before.
    pub(super) fn changes(&self, now: Nanos) -> Nanos {
        self.begins(now).max(self.latest)
    }

    /// Removes idle keys among the next buckets, until so many keys or buckets were looked at.
    pub(super) fn sweep(
        &mut self,
        known: &Known,
        keys: usize,
        buckets: usize,
        now: Nanos,
    ) -> Swept {
        let mut swept = Swept::default();
        let end = self.entries.num_buckets();
        let stop = self.swept.saturating_add(buckets).min(end);
        while self.swept < stop && swept.examined < keys {
            if let Some(idle) = self.is_idle(known, self.swept, now) {
                swept.examined += 1;
                if idle {
                    self.entries.remove(self.swept);
                    swept.removed += 1;
                }
            }
            self.swept += 1;
        }
        if swept.removed > 0 {
            self.floor = self.floor.max(now);
        }
        if self.swept >= end {
            self.swept = 0;
        }
        swept
    }

    /// Tells whether the last sweep came to the end.
    pub(super) fn is_swept(&self) -> bool {
        self.swept == 0
    }

    /// Frees a place among the next few keys: of those that are idle, else of the one that has spent least, and of
    /// those the one idle soonest. What it spent is what forgetting it may over-admit.
    ///
    /// If nobody may be pushed out, it says when the first of all that it has looked at is idle, and looks at that one and
    /// at the next few when it is asked again.
    pub(super) fn make_room(
        &mut self,
        known: &Known,
        sample: usize,
        when_full: WhenFull,
        now: Nanos,
    ) -> Result<Room, Nanos> {
        let buckets = self.entries.num_buckets();
        let mut room = Room {
            removed: 0,
            evicted: 0,
        };
        let (mut seen, mut least, mut soonest) = (0, None, None);
        // The table may have shrunk.
        let begin = self.hand.min(buckets - 1);
        let mut step = 0;
        let mut awaited = self.awaited.take().filter(|bucket| *bucket < buckets);
        while step < buckets && seen < sample {
            let bucket = awaited.take().unwrap_or_else(|| {
                step += 1;
                (begin + step - 1) & (buckets - 1)
            });
            let Some(entry) = self.entries.get(bucket) else {
                continue;
            };
            seen += 1;
            let engine = known.engine(entry.state.rule());
            let idle_at = engine.idle_at(&entry.state);
            if idle_at <= now {
                self.entries.remove(bucket);
                room.removed += 1;
                continue;
            }
            if soonest.is_none_or(|soonest| (idle_at, bucket) < soonest) {
                soonest = Some((idle_at, bucket));
            }
            let loss = (engine.spent(&entry.state, now), idle_at, bucket);
            if least.is_none_or(|least| loss < least) {
                least = Some(loss);
            }
        }
        self.hand = (begin + step) & (buckets - 1);
        if room.removed > 0 {
            self.floor = self.floor.max(now);
        } else if when_full == WhenFull::Refuse {
            self.awaited = soonest.map(|(_, bucket)| bucket);
            return Err(soonest.map_or(now, |(idle_at, _)| idle_at));
        } else if let Some((_, _, bucket)) = least {
            self.entries.remove(bucket);
            // It may have spent at the latest reading, and must not begin anew before that.
            self.floor = self.changes(now);
            room = Room {
                removed: 1,
                evicted: 1,
            };
        }
        Ok(room)
    }

    fn is_idle(&self, known: &Known, bucket: usize, now: Nanos) -> Option<bool> {
        let entry = self.entries.get(bucket)?;
        Some(known.engine(entry.state.rule()).idle_at(&entry.state) <= now)
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
