use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher as _, Hash};
use std::num::NonZeroU64;
use std::sync::LazyLock;
use std::time::Duration;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// Stands before the dispatch of every cast and call to a name.
///
/// Asked in the sender's task, so it must answer at once.
pub trait Gate: Send + Sync + 'static {
    /// Admits one message of a sender that gave no key.
    ///
    /// # Errors
    ///
    /// [`GateRefused`] says when a message would be admitted.
    fn admit(&self) -> Result<(), GateRefused>;

    /// Admits one message of a sender that gave its key; as any other, unless the gate says otherwise.
    ///
    /// # Errors
    ///
    /// As [`admit`](Self::admit).
    fn admit_for(&self, key: SenderKey) -> Result<(), GateRefused> {
        let _ = key;
        self.admit()
    }
}

/// Stands for the key of a sender, such as a user's id, at the gate before a name.
///
/// It is a hash of 128 bits with keys that are random in each process, so nobody outside can aim for another one's, and
/// the odds of two among a million being one are about 2^-89. Values that hash alike are one key, whatever their types: a
/// `String` and a `&str`, but also a `u64` and an `i64`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SenderKey {
    /// So that a name with none is no longer than one with a key.
    high: NonZeroU64,
    low: u64,
}

impl SenderKey {
    pub(crate) fn of(key: &(impl Hash + ?Sized)) -> Self {
        static KEYS: LazyLock<(u64, u64)> = LazyLock::new(|| {
            // The standard library's states are where it offers random numbers.
            let random = || RandomState::new().hash_one(0_u8);
            (random(), random())
        });
        let mut hasher = SipHasher13::new_with_keys(KEYS.0, KEYS.1);
        key.hash(&mut hasher);
        let (low, high) = hasher.finish128().as_u64();
        Self {
            // Only zero itself has a part in the odds.
            high: NonZeroU64::new(high).unwrap_or(NonZeroU64::MAX),
            low,
        }
    }
}

/// Not the value: it would let a log tell which messages share a sender.
impl fmt::Debug for SenderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SenderKey")
    }
}

/// A message that a gate turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateRefused {
    /// How long to wait before the next try; `None` when no message will ever be admitted.
    pub retry_after: Option<Duration>,
}
