//! Which messages are the same to a mailbox that keeps the last of each key.

use std::any::Any;
use std::collections::hash_map::{Entry, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use ractor::Message;

/// Where the messages with the same key wait, whatever the type of the key.
pub(crate) trait Index<M>: Send {
    /// Returns the number of the message with the same key, or notes this one's.
    fn find_or_note(&mut self, message: &M, number: u64) -> Option<u64>;
    /// Forgets the message of this number. One that was put back is not noted, and a later one with its key may be.
    fn forget(&mut self, message: &M, number: u64);
    fn clear(&mut self);
}

/// Makes an index, whatever the type of the messages.
pub(crate) trait Keyed: Send + Sync {
    /// Returns a `Box<dyn Index<M>>` for the messages that it was made for.
    fn index(&self) -> Box<dyn Any + Send>;
}

/// How a message gets its key.
pub(crate) struct Keys<M, K> {
    key: Arc<KeyFn<M, K>>,
}

type KeyFn<M, K> = dyn Fn(&M) -> K + Send + Sync;

impl<M, K> Keys<M, K> {
    pub(crate) fn new(key: Arc<KeyFn<M, K>>) -> Self {
        Self { key }
    }
}

impl<M: Message, K: Eq + Hash + Send + 'static> Keyed for Keys<M, K> {
    fn index(&self) -> Box<dyn Any + Send> {
        let index: Box<dyn Index<M>> = Box::new(ByKey {
            key: Arc::clone(&self.key),
            numbers: HashMap::default(),
        });
        Box::new(index)
    }
}

struct ByKey<M, K> {
    key: Arc<KeyFn<M, K>>,
    numbers: HashMap<K, u64, foldhash::fast::RandomState>,
}

impl<M, K: Eq + Hash + Send> Index<M> for ByKey<M, K> {
    fn find_or_note(&mut self, message: &M, number: u64) -> Option<u64> {
        match self.numbers.entry((self.key)(message)) {
            Entry::Occupied(known) => Some(*known.get()),
            Entry::Vacant(free) => {
                free.insert(number);
                None
            }
        }
    }

    fn forget(&mut self, message: &M, number: u64) {
        if let Entry::Occupied(noted) = self.numbers.entry((self.key)(message))
            && *noted.get() == number
        {
            noted.remove();
        }
    }

    fn clear(&mut self) {
        self.numbers.clear();
    }
}
