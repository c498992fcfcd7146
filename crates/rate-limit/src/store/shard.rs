//! One shard: a table of keys with a hand that goes round it.

use std::{
    borrow::Cow,
    mem::{needs_drop, offset_of},
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{
    Ask, Swept,
    entries::{CHECKED, Entries},
};
use crate::{
    clock::Nanos,
    config::WhenFull,
    machine::{State, Verdict},
    rules::{Known, Rule},
};

/// From one bucket to the next that is looked at to make room: an odd number, which leads to all of them, in no order. Room made
/// in a row would leave the buckets before it full, and a key that is removed from among many takes long to close up.
const STRIDE: usize = 0x9e37_79b1;

/// What a check looks at comes first: with the lock before it, it fills one cache line of 64 bytes.
#[repr(C)]
pub(super) struct Shard<K> {
    /// The latest reading of all checks. What they spent may not be given back at the pace of a rule that comes later.
    latest: Nanos,
    pub(super) entries: Entries<K>,
    /// What meters a key when the check does not say.
    pub(super) rule: Rule,
    /// Keys were forgotten, or went over to other rules, at this time. A check that read its clock before must
    /// not begin a forgotten key anew at that earlier time, nor have the time between be given back twice, by two rules.
    pub(super) floor: Nanos,
    /// So many buckets, from the last one down, the sweep has looked at. Going down it meets few that move up: what is after
    /// a key that it removes has been thinned out. Growth moves the keys about; who is missed is found next time.
    swept: usize,
    /// So many strides it is to the bucket at which room is made next.
    hand: usize,
    /// The hash of the key that a refused newcomer waits for: of those looked at, the one idle soonest.
    awaited: Option<u64>,
}

const _: () = assert!(offset_of!(Shard<()>, entries) + CHECKED <= 56);

/// Keys that were removed, to be dropped when the shard is not locked: how one is dropped is its type's own code, and
/// may use the limiter. Then they count no more, also where it panics, or where a key panics that is hashed beside them.
pub(super) struct Gone<'a, K> {
    keys: Vec<K>,
    removed: usize,
    len: &'a AtomicUsize,
}

impl<'a, K> Gone<'a, K> {
    /// For keys that are counted in `len`.
    pub(super) fn new(len: &'a AtomicUsize) -> Self {
        Self {
            keys: Vec::new(),
            removed: 0,
            len,
        }
    }

    fn add(&mut self, key: Option<K>) {
        self.removed += usize::from(key.is_some());
        if needs_drop::<K>() {
            self.keys.extend(key);
        }
    }
}

impl<K> Drop for Gone<'_, K> {
    fn drop(&mut self) {
        if self.removed > 0 {
            self.len.fetch_sub(self.removed, Ordering::Relaxed);
        }
    }
}

impl<K> Shard<K> {
    pub(super) fn new(rule: Rule) -> Self {
        Self {
            rule,
            floor: Nanos::default(),
            latest: Nanos::default(),
            entries: Entries::new(&rule),
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

    /// Spends cells of a key that is metered by the rule that is asked for; nothing if there is none.
    #[inline]
    pub(super) fn spend(
        &mut self,
        hash: u64,
        is_it: impl Fn(&K) -> bool,
        ask: Ask<'_>,
    ) -> Option<Verdict> {
        match (&mut self.entries, ask.rule) {
            (Entries::Short { table, meter, .. }, None) => {
                let entry = table.find_mut(hash, |entry| is_it(&entry.key))?;
                entry.spend(meter, ask.cells, ask.now)
            }
            (Entries::Short { .. }, Some(_)) => None,
            (Entries::Whole(table), rule) => {
                let rule = rule.unwrap_or(&self.rule);
                if rule.is_closed {
                    return Some(Verdict::Never);
                }
                let entry = table.find_mut(hash, |entry| is_it(&entry.key))?;
                (entry.state.rule() == rule.id)
                    .then(|| rule.engine.spend(&mut entry.state, ask.cells, ask.now))
            }
        }
    }

    pub(super) fn state(&self, hash: u64, is_it: impl Fn(&K) -> bool) -> Option<Cow<'_, State>> {
        self.entries.state(self.entries.position(hash, is_it)?)
    }

    /// Goes over to another rule, with every key that is kept waiting no longer by it.
    pub(super) fn set_rule(&mut self, known: &Known, rule: Rule, now: Nanos) {
        let now = self.changes(now);
        self.floor = now;
        self.rule = rule;
        for entry in self.entries.whole().iter_mut() {
            entry.adapt(known, rule, now);
        }
        self.entries.shorten(&rule);
    }

    /// Removes idle keys among the next buckets, until so many keys or buckets were looked at.
    pub(super) fn sweep(
        &mut self,
        gone: &mut Gone<'_, K>,
        known: &Known,
        hasher: impl Fn(&K) -> u64,
        keys: usize,
        buckets: usize,
        now: Nanos,
    ) -> Swept {
        let mut swept = Swept::default();
        let end = self.entries.num_buckets();
        let stop = self.swept.saturating_add(buckets).min(end);
        while self.swept < stop && swept.examined < keys {
            let bucket = end - 1 - self.swept;
            let idle = self.is_idle(known, bucket, now);
            swept.examined += usize::from(idle.is_some());
            if idle == Some(true) {
                self.floor = self.floor.max(now);
                // One from the first buckets, to which it has not come yet, may move up to here.
                gone.add(self.entries.remove(bucket, &hasher));
                swept.removed += 1;
            } else {
                self.swept += 1;
            }
        }
        if self.swept >= end {
            self.swept = 0;
            // A flood of keys must not keep its memory when it is over, nor a quota that was changed its keys whole.
            self.entries.shrink(hasher);
            self.entries.shorten(&self.rule);
        }
        swept
    }

    /// Tells whether the last sweep came to the end.
    pub(super) fn is_swept(&self) -> bool {
        self.swept == 0
    }

    /// Frees a place among the next few keys: of those that are idle, else of the one that has spent least, and of
    /// those the one idle soonest. What it spent is what forgetting it may over-admit. Returns how many were not idle.
    ///
    /// If nobody may be pushed out, it says when the first of all that it has looked at is idle, and looks at that one and
    /// at the next few when it is asked again.
    pub(super) fn make_room(
        &mut self,
        gone: &mut Gone<'_, K>,
        known: &Known,
        hasher: impl Fn(&K) -> u64,
        sample: usize,
        when_full: WhenFull,
        now: Nanos,
    ) -> Result<u64, Nanos> {
        let buckets = self.entries.num_buckets();
        let mut has_room = false;
        let (mut seen, mut least, mut soonest) = (0, None, None);
        // The table may have shrunk.
        let begin = self.hand.min(buckets - 1);
        let mut step = 0;
        let awaited = self.awaited.take();
        let mut awaited =
            awaited.and_then(|hash| (self.entries).position(hash, |key| hasher(key) == hash));
        while step < buckets && seen < sample {
            let bucket = awaited.take().unwrap_or_else(|| {
                step += 1;
                (begin + step - 1).wrapping_mul(STRIDE) & (buckets - 1)
            });
            let Some(state) = self.entries.state(bucket) else {
                continue;
            };
            seen += 1;
            let engine = known.engine(state.rule());
            let idle_at = engine.idle_at(&state);
            if idle_at <= now {
                drop(state);
                self.floor = self.floor.max(now);
                gone.add(self.entries.remove(bucket, &hasher));
                has_room = true;
                continue;
            }
            if soonest.is_none_or(|soonest| (idle_at, bucket) < soonest) {
                soonest = Some((idle_at, bucket));
            }
            let loss = (engine.spent(&state, now), idle_at, bucket);
            if least.is_none_or(|least| loss < least) {
                least = Some(loss);
            }
        }
        self.hand = (begin + step) & (buckets - 1);
        if has_room {
            return Ok(0);
        }
        if when_full == WhenFull::Refuse {
            let awaited = soonest.and_then(|(_, bucket)| self.entries.key(bucket));
            self.awaited = awaited.map(hasher);
            return Err(soonest.map_or(now, |(idle_at, _)| idle_at));
        }
        let Some((_, _, bucket)) = least else {
            return Ok(0);
        };
        // It may have spent at the latest reading, and must not begin anew before that.
        self.floor = self.changes(now);
        gone.add(self.entries.remove(bucket, hasher));
        Ok(1)
    }

    fn is_idle(&self, known: &Known, bucket: usize, now: Nanos) -> Option<bool> {
        let state = self.entries.state(bucket)?;
        Some(known.engine(state.rule()).idle_at(&state) <= now)
    }
}
