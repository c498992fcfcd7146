//! A hash table in which most keys are found with one cache miss.
//!
//! An entry lies in the bucket that its hash says, or soon after. Tables that look at tags first, as hashbrown's and so
//! std's do, miss once for the tags and once for the entry; with many keys, a check takes as long as its misses.
//!
//! An entry keeps its bucket until the table grows or shrinks, so that a hand can go round them.

use std::mem;

#[cfg(test)]
mod tests;

/// As many as four in five buckets are used. A key that is there is then found in the third that is looked at, on
/// average, and one that is not is missed at the thirteenth; after growth, with two in five, in the first or second.
const FULL: (usize, usize) = (4, 5);
/// The first that are made.
const FEWEST_BUCKETS: usize = 4;

/// The buckets come first, for a look-up needs nothing else.
#[repr(C)]
pub(super) struct Table<T> {
    /// None, or a power of two, and some of them empty.
    buckets: Box<[Bucket<T>]>,
    len: usize,
    /// Buckets that are not empty.
    used: usize,
}

enum Bucket<T> {
    Empty,
    /// Whatever was put further on because of what was here must still be found.
    Removed,
    Full(T),
}

impl<T> Bucket<T> {
    fn entry(&self) -> Option<&T> {
        match self {
            Self::Full(entry) => Some(entry),
            Self::Empty | Self::Removed => None,
        }
    }
}

impl<T> Table<T> {
    pub(super) fn new() -> Self {
        Self {
            buckets: Box::default(),
            len: 0,
            used: 0,
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn num_buckets(&self) -> usize {
        self.buckets.len()
    }

    /// The entry in a bucket.
    pub(super) fn get(&self, bucket: usize) -> Option<&T> {
        self.buckets.get(bucket)?.entry()
    }

    pub(super) fn find(&self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<&T> {
        self.get(self.position(hash, is_it)?)
    }

    #[inline]
    pub(super) fn find_mut(&mut self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<&mut T> {
        let bucket = self.position(hash, is_it)?;
        match &mut self.buckets[bucket] {
            Bucket::Full(entry) => Some(entry),
            Bucket::Empty | Bucket::Removed => None,
        }
    }

    /// The bucket of an entry.
    #[inline]
    pub(super) fn position(&self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<usize> {
        let mut bucket = self.home(hash);
        loop {
            match self.buckets.get(bucket)? {
                Bucket::Full(entry) if is_it(entry) => return Some(bucket),
                Bucket::Full(_) | Bucket::Removed => bucket = self.after(bucket),
                Bucket::Empty => return None,
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.buckets.iter().filter_map(Bucket::entry)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.buckets.iter_mut().filter_map(|bucket| match bucket {
            Bucket::Full(entry) => Some(entry),
            Bucket::Empty | Bucket::Removed => None,
        })
    }

    /// Adds an entry that is not there. It may ask for the hashes of all, to put them into more buckets.
    pub(super) fn insert(&mut self, hash: u64, entry: T, hasher: impl Fn(&T) -> u64) {
        let buckets = self.buckets.len();
        if (self.used + 1) * FULL.1 > buckets * FULL.0 {
            // Where every other is left over from removed entries, it is room enough to clear those away.
            let grown = (2 * buckets).max(FEWEST_BUCKETS);
            let clears = self.len < buckets / 2;
            self.rebuild(if clears { buckets } else { grown }, hasher);
        }
        let bucket = self.vacant(hash);
        if let Bucket::Empty = self.buckets[bucket] {
            self.used += 1;
        }
        self.buckets[bucket] = Bucket::Full(entry);
        self.len += 1;
    }

    /// Removes the entry in a bucket.
    pub(super) fn remove(&mut self, bucket: usize) {
        if self.get(bucket).is_none() {
            return;
        }
        self.buckets[bucket] = Bucket::Removed;
        self.len -= 1;
        // Nothing was put further on from here if the next is empty.
        let mut last = bucket;
        while let (Bucket::Removed, Bucket::Empty) =
            (&self.buckets[last], &self.buckets[self.after(last)])
        {
            self.buckets[last] = Bucket::Empty;
            self.used -= 1;
            last = self.before(last);
        }
    }

    /// Goes over to fewer buckets, if few of those there are in use.
    pub(super) fn shrink(&mut self, hasher: impl Fn(&T) -> u64) {
        if self.len <= self.buckets.len() / 8 {
            let fewer = match self.len {
                0 => 0,
                len => (4 * len).next_power_of_two().max(FEWEST_BUCKETS),
            };
            self.rebuild(fewer, hasher);
        }
    }

    #[cold]
    fn rebuild(&mut self, buckets: usize, hasher: impl Fn(&T) -> u64) {
        // First of all: if the hasher panics, every entry is still there.
        let hashes: Vec<u64> = self.iter().map(hasher).collect();
        let empty = (0..buckets).map(|_| Bucket::Empty).collect();
        let old = mem::replace(&mut self.buckets, empty);
        let full = old.into_iter().filter(|bucket| bucket.entry().is_some());
        for (hash, entry) in hashes.into_iter().zip(full) {
            let bucket = self.vacant(hash);
            self.buckets[bucket] = entry;
        }
        self.used = self.len;
    }

    /// Where an entry of this hash may be put.
    fn vacant(&self, hash: u64) -> usize {
        let mut bucket = self.home(hash);
        while self.buckets[bucket].entry().is_some() {
            bucket = self.after(bucket);
        }
        bucket
    }

    /// The bucket that a hash says, if there is any.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a table takes the low bits, and has no more buckets than they can say"
    )]
    fn home(&self, hash: u64) -> usize {
        hash as usize & self.buckets.len().wrapping_sub(1)
    }

    fn after(&self, bucket: usize) -> usize {
        (bucket + 1) & (self.buckets.len() - 1)
    }

    fn before(&self, bucket: usize) -> usize {
        bucket.wrapping_sub(1) & (self.buckets.len() - 1)
    }
}
