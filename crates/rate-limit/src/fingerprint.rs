//! A key of any type, in 128 bits.

use std::{
    any::TypeId,
    collections::hash_map::RandomState,
    fmt,
    hash::{BuildHasher, Hash, Hasher},
};

use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// A keyed hash of scope and key, with the key's type on top, that stands for them.
///
/// It is a SipHash of 128 bits with random keys, so nobody outside the process can aim for a collision, and that
/// any two of `n` live keys share a fingerprint has odds of about `n² / 2^129`: with a million keys, `2^-89`. Two
/// keys that did would share a quota, nothing worse.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    low: u64,
    high: u64,
}

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Half of it already is a hash.
        state.write_u64(self.low);
    }
}

/// Not the value: it would let a log tell which calls share a key.
impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint")
    }
}

/// Makes fingerprints; each printer has random keys of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    keys: (u64, u64),
}

impl Default for Printer {
    fn default() -> Self {
        // The standard library's states are where it offers random numbers.
        let random = || RandomState::new().hash_one(0_u8);
        Self {
            keys: (random(), random()),
        }
    }
}

impl Printer {
    /// A printer for the keys of one scope.
    pub(crate) fn scope(&self, scope: &str) -> ScopePrinter {
        let mut hasher = SipHasher13::new_with_keys(self.keys.0, self.keys.1);
        scope.hash(&mut hasher);
        ScopePrinter(hasher)
    }
}

/// A hasher that has read the scope.
#[derive(Clone, Debug)]
pub(crate) struct ScopePrinter(SipHasher13);

impl ScopePrinter {
    #[inline]
    pub(crate) fn print<K: Hash + Eq + ?Sized + 'static>(&self, key: &K) -> Fingerprint {
        let mut hasher = self.0;
        key.hash(&mut hasher);
        let hash = hasher.finish128();
        // Put on top, the type costs nothing: it is known when this is compiled. Keys of two types that meet would have to
        // differ in their hashes by just that.
        Fingerprint {
            low: hash.h1,
            high: hash.h2 ^ AsIs.hash_one(kind::<K>()),
        }
    }
}

/// The type of a key, where the forms of a string are one type: they hash alike,
/// and a caller who has one or the other means the same key.
fn kind<K: ?Sized + 'static>() -> TypeId {
    let id = TypeId::of::<K>();
    if id == TypeId::of::<String>() || id == TypeId::of::<&'static str>() {
        TypeId::of::<str>()
    } else {
        id
    }
}

/// Takes the half of a [`Fingerprint`] as it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AsIs;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AsIsHasher(u64);

impl BuildHasher for AsIs {
    type Hasher = AsIsHasher;

    fn build_hasher(&self) -> AsIsHasher {
        AsIsHasher::default()
    }
}

impl Hasher for AsIsHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, half: u64) {
        self.0 = half;
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only fingerprints are hashed with this, and they write one word.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_key_do_not_run_into_each_other() {
        let printer = Printer::default();
        let print = |scope: &str, key: &'static str| printer.scope(scope).print(key);
        assert_ne!(print("a_b", "c"), print("a", "b_c"));
        assert_ne!(print("ab", "c"), print("a", "bc"));
        assert_ne!(print("a", ""), print("", "a"));

        let scope = printer.scope("s");
        assert_ne!(scope.print(&("a_b", "c")), scope.print(&("a", "b_c")));
        assert_ne!(scope.print(&("ab", "c")), scope.print(&("a", "bc")));
    }

    #[test]
    fn equal_bytes_of_another_type_are_another_key() {
        let scope = Printer::default().scope("s");
        assert_ne!(scope.print(&1_u64), scope.print(&1_i64));
        assert_ne!(scope.print(&(1_u32, 0_u32)), scope.print(&1_u64));
    }

    #[test]
    fn equal_keys_agree_and_all_strings_are_one_type() {
        let scope = Printer::default().scope("s");
        assert_eq!(scope.print(&("a", 7)), scope.print(&("a", 7)));
        assert_eq!(scope.print("ada"), scope.print(&"ada".to_owned()));
        assert_eq!(scope.print("ada"), scope.print(&"ada"));
    }

    #[test]
    fn printers_have_keys_of_their_own() {
        let (one, other) = (Printer::default(), Printer::default());
        assert_ne!(one.scope("s").print("k"), other.scope("s").print("k"));
    }
}
