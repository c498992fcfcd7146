//! A hash table in which most keys are found with one cache miss.
//!
//! An entry lies in the bucket that its hash says, or soon after. Tables that look at tags first, as hashbrown's and so
//! std's do, miss once for the tags and once for the entry; with many keys, a check takes as long as its misses.
//!
//! Its buckets can be walked by number. An entry keeps its bucket until the table grows or shrinks, or one before it is
//! removed: those after that one then move up, each to a bucket between.

use std::mem;

#[cfg(test)]
mod tests;

/// As many as seven in eight buckets are used. A key that is there is then found in the fifth that is looked at, on
/// average; after growth, with every other in use, in the first or second. Many keys are slow by their size.
const FULL: (usize, usize) = (7, 8);
/// The first that are made.
const FEWEST_BUCKETS: usize = 4;

/// The buckets come first, for a look-up needs nothing else.
#[repr(C)]
pub(super) struct Table<T> {
    /// None, or a power of two, and some of them empty.
    buckets: Box<[Option<T>]>,
    len: usize,
}

impl<T> Table<T> {
    pub(super) fn new() -> Self {
        Self {
            buckets: Box::default(),
            len: 0,
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
        self.buckets.get(bucket)?.as_ref()
    }

    /// The entry in a bucket, to change what is not its hash.
    pub(super) fn get_mut(&mut self, bucket: usize) -> Option<&mut T> {
        self.buckets.get_mut(bucket)?.as_mut()
    }

    #[inline]
    pub(super) fn find_mut(&mut self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<&mut T> {
        let bucket = self.position(hash, is_it)?;
        self.buckets[bucket].as_mut()
    }

    /// The bucket of an entry.
    #[inline]
    pub(super) fn position(&self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<usize> {
        let mut bucket = self.home(hash);
        // No bucket at all is like an empty one.
        while !is_it(self.get(bucket)?) {
            bucket = self.after(bucket);
        }
        Some(bucket)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.buckets.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.buckets.iter_mut().flatten()
    }

    /// Adds an entry that is not there. It may ask for the hashes of all, to put them into more buckets.
    pub(super) fn insert(&mut self, hash: u64, entry: T, hasher: impl Fn(&T) -> u64) {
        let buckets = self.buckets.len();
        if (self.len + 1) * FULL.1 > buckets * FULL.0 {
            self.rebuild((2 * buckets).max(FEWEST_BUCKETS), hasher);
        }
        let bucket = self.vacant(hash);
        self.buckets[bucket] = Some(entry);
        self.len += 1;
    }

    /// Takes the entry out of a bucket. It asks for the hashes of those that come after, up to an empty bucket.
    pub(super) fn remove(&mut self, bucket: usize, hasher: impl Fn(&T) -> u64) -> Option<T> {
        self.get(bucket)?;
        // Whoever is further on because of this one moves up. If the hasher panics, all are still there.
        let (mut hole, mut next) = (bucket, self.after(bucket));
        while let Some(entry) = &self.buckets[next] {
            if self.steps(self.home(hasher(entry)), next) >= self.steps(hole, next) {
                self.buckets.swap(hole, next);
                hole = next;
            }
            next = self.after(next);
        }
        self.len -= 1;
        self.buckets[hole].take()
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

    /// The same entries in another form, each in its bucket.
    pub(super) fn map<U>(self, into: impl Fn(T) -> U) -> Table<U> {
        let buckets = self.buckets.into_iter();
        Table {
            buckets: buckets.map(|bucket| bucket.map(&into)).collect(),
            len: self.len,
        }
    }

    #[cold]
    fn rebuild(&mut self, buckets: usize, hasher: impl Fn(&T) -> u64) {
        // First of all: if the hasher panics, every entry is still there.
        let hashes: Vec<u64> = self.iter().map(hasher).collect();
        let empty = (0..buckets).map(|_| None).collect();
        let old = mem::replace(&mut self.buckets, empty);
        for (hash, entry) in hashes.into_iter().zip(old.into_iter().flatten()) {
            let bucket = self.vacant(hash);
            self.buckets[bucket] = Some(entry);
        }
    }

    /// Where an entry of this hash may be put.
    fn vacant(&self, hash: u64) -> usize {
        let mut bucket = self.home(hash);
        while self.buckets[bucket].is_some() {
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

    /// How far it is from one bucket on to another.
    fn steps(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.buckets.len() - 1)
    }
}
