//! Which partition a key belongs to.

use std::hash::{Hash, Hasher};
use std::num::NonZeroU32;

/// FNV-1a, stirred once more at the end.
///
/// It has no seed, so that the same key hashes alike at any time, and it is ours, so that it does not
/// change with the standard library's.
struct StableHasher(u64);

impl StableHasher {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
}

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(Self::PRIME);
        }
    }

    fn finish(&self) -> u64 {
        // The low bits of FNV know only the low bits of what went in, and the remainder looks at these
        // alone when the number of partitions is a power of two.
        let hash = (self.0 ^ (self.0 >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash ^ (hash >> 32)
    }
}

/// Returns the index of the partition that `key` belongs to.
pub(super) fn route<K: Hash + ?Sized>(key: &K, partitions: NonZeroU32) -> u32 {
    let mut hasher = StableHasher(StableHasher::OFFSET);
    key.hash(&mut hasher);
    let index = hasher.finish() % u64::from(partitions.get());
    // Below a number of 32 bits, so it always fits.
    u32::try_from(index).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a_before_it_is_stirred() {
        let fnv = |text: &str| {
            let mut hasher = StableHasher(StableHasher::OFFSET);
            hasher.write(text.as_bytes());
            hasher.0
        };
        // Test vectors that its authors have published.
        assert_eq!(fnv(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn part_1_keys_spread_evenly() {
        fn spread<K: Hash>(keys: impl Fn(u32) -> K, partitions: u32) {
            let partitions = NonZeroU32::new(partitions).unwrap();
            let mut found = vec![0_u32; partitions.get() as usize];
            let each = 1000;
            for number in 0..each * partitions.get() {
                found[route(&keys(number), partitions) as usize] += 1;
            }
            for count in found {
                assert!(count.abs_diff(each) < each / 5, "{count} of {each}");
            }
        }
        for partitions in [1, 2, 3, 8, 10, 16, 64] {
            spread(|number| number, partitions);
            spread(|number| u64::from(number) << 8, partitions);
            spread(|number| format!("user-{number}"), partitions);
            spread(|number| ("shop", number, true), partitions);
            // Nothing in the low half of any byte.
            let high = |number: u32| [0, 4, 8, 12].map(|digit| (number >> digit & 0xf) << 4);
            spread(high, partitions);
        }
    }
}
