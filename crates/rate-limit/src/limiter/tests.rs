use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use proptest::prelude::*;

use super::*;
use crate::{clock::ManualClock, quota::Algorithm};

fn limiter<K: Hash + Eq>(quota: Quota) -> (KeyedLimiter<K>, ManualClock) {
    let time = Clock::manual();
    time.set(Duration::from_secs(1_700_000_000));
    (
        KeyedLimiter::builder(quota).clock(time.clock()).build(),
        time,
    )
}

const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::Gcra,
    Algorithm::TokenBucket,
    Algorithm::LeakyBucket,
    Algorithm::FixedWindow,
    Algorithm::SlidingWindow,
];

#[derive(Clone, Debug)]
enum Command {
    Check(u8, u32),
    Peek(u8),
    Reset(u8),
    Sweep(usize),
    Advance(u64),
    /// Wait as long as the last refusal said.
    Obey,
}

fn commands() -> impl Strategy<Value = Vec<Command>> {
    let command = prop_oneof![
        8 => (0_u8..6, 1_u32..4).prop_map(|(key, n)| Command::Check(key, n)),
        2 => (0_u8..6).prop_map(Command::Peek),
        1 => (0_u8..6).prop_map(Command::Reset),
        2 => (0_usize..20).prop_map(Command::Sweep),
        3 => (0_u64..2_000_000).prop_map(Command::Advance),
        2 => Just(Command::Obey),
    ];
    prop::collection::vec(command, 1..150)
}

/// The limiter under test, and one limiter for each key that is never swept.
struct Pair {
    swept: KeyedLimiter<u8>,
    kept: HashMap<u8, KeyedLimiter<u8>>,
    quota: Quota,
    time: ManualClock,
}

impl Pair {
    fn kept(&mut self, key: u8) -> &KeyedLimiter<u8> {
        let fresh = || {
            KeyedLimiter::builder(self.quota)
                .clock(self.time.clock())
                .build()
        };
        self.kept.entry(key).or_insert_with(fresh)
    }

    fn check(&mut self, key: u8, n: u32) -> Decision {
        let decision = self.swept.check_n(&key, n);
        assert_eq!(decision, self.kept(key).check_n(&key, n));
        decision
    }
}

proptest! {
    #[test]
    fn a_sweep_cannot_be_seen(
        commands in commands(),
        algorithm in prop::sample::select(&ALGORITHMS[..]),
    ) {
        let quota = Quota::new(3, Duration::from_millis(1)).unwrap().algorithm(algorithm);
        let (swept, time) = limiter(quota);
        let mut pair = Pair { swept, kept: HashMap::new(), quota, time };
        let mut refused = None;
        for command in commands {
            match command {
                Command::Check(key, n) => {
                    if pair.check(key, n).retry_after().is_some() {
                        refused = Some((key, n));
                    }
                }
                Command::Peek(key) => {
                    prop_assert_eq!(pair.swept.peek(&key), pair.kept(key).peek(&key));
                    prop_assert_eq!(pair.swept.status(&key), pair.kept(key).status(&key));
                }
                Command::Reset(key) => {
                    pair.swept.reset(&key);
                    pair.kept.remove(&key);
                }
                Command::Sweep(budget) => {
                    pair.swept.sweep(budget);
                }
                Command::Advance(by) => pair.time.advance(Duration::from_nanos(by)),
                Command::Obey => {
                    let Some((key, n)) = refused.take() else { continue };
                    let Some(wait) = pair.check(key, n).retry_after() else { continue };
                    pair.time.advance(wait - Duration::from_nanos(1));
                    prop_assert!(!pair.check(key, n).is_allowed());
                    pair.time.advance(Duration::from_nanos(1));
                    prop_assert!(pair.check(key, n).is_allowed());
                }
            }
        }
        prop_assert!(pair.swept.len() <= 6);
    }
}

#[test]
fn keys_may_be_looked_up_borrowed() {
    let (limiter, _) = limiter::<String>(Quota::per_minute(1));
    assert!(limiter.check("ada").is_allowed());
    assert!(!limiter.check(&"ada".to_owned()).is_allowed());
    assert!(limiter.reset("ada"));
    assert!(limiter.is_empty());
}

#[test]
fn a_new_quota_keeps_the_spent_part() {
    let (limiter, time) = limiter::<&str>(Quota::per_minute(10));
    assert!(limiter.check_n(&"ada", 4).is_allowed());
    limiter.set_quota(Quota::per_minute(20));
    assert_eq!(limiter.quota(), Quota::per_minute(20));
    assert_eq!(limiter.status(&"ada").remaining, 16);
    assert_eq!(limiter.status(&"grace").remaining, 20);

    // Half of a cell given back is half of a cell after the change, too.
    time.advance(Duration::from_millis(1500));
    limiter.set_quota(Quota::per_second(20));
    assert_eq!(
        limiter.status(&"ada").resets_in,
        Duration::from_millis(3 * 50 + 25)
    );

    // What is too much for a slower quota comes back as it would have, until the slower one admits something.
    limiter.set_quota(Quota::per_minute(2));
    let refused = limiter.check(&"ada");
    assert_eq!(refused.retry_after(), Some(Duration::from_millis(125)));
    time.advance(Duration::from_millis(125));
    assert_eq!(limiter.check(&"ada"), Decision::Allowed { remaining: 0 });
    let refused = limiter.check(&"ada");
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(30)));
}

#[test]
fn a_quota_that_changes_again_and_again_admits_what_the_slower_and_the_quicker_one_would() {
    for algorithm in ALGORITHMS {
        let quota = Quota::per_minute(10).algorithm(algorithm);
        let longer = Quota::new(10, Duration::from_secs(61)).unwrap();
        for other in [Quota::per_minute(11), longer].map(|quota| quota.algorithm(algorithm)) {
            let (limiter, time) = limiter::<u8>(quota);
            while limiter.check(&1).is_allowed() {}
            let mut through = 0;
            for second in 0..600 {
                time.advance(Duration::from_secs(1));
                limiter.set_quota(if second % 2 == 0 { other } else { quota });
                through += u32::from(limiter.check(&1).is_allowed());
            }
            // Of ten a minute 100 come back in this time, and of eleven 110. Of a sliding window the last ten are still
            // to come; a fixed one that gives back just then may begin another.
            let most = match algorithm {
                Algorithm::FixedWindow => 121,
                _ => 110,
            };
            assert!(
                (90..=most).contains(&through),
                "{algorithm:?} {other:?}: {through}"
            );
        }
    }
}

#[test]
fn quotas_that_change_under_way_neither_lose_nor_give_a_cell() {
    let quota = Quota::per_hour(300);
    let (limiter, _) = limiter::<u8>(quota);
    let (through, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let check = || {
        if limiter.check(&1).is_allowed() {
            through.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        let checks: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| (0..2_000).for_each(|_| check())))
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                limiter.set_quota(Quota::per_minute(300));
                limiter.set_quota(quota.algorithm(Algorithm::FixedWindow));
                limiter.set_quota(Quota::per_hour(0));
                limiter.set_quota(quota);
            }
        });
        for check in checks {
            check.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    limiter.set_quota(quota);
    (0..300).for_each(|_| check());
    assert_eq!(through.into_inner(), 300);
}

#[test]
fn small_numbers_spread_over_the_shards() {
    for _ in 0..20 {
        let (limiter, _) = limiter::<u32>(Quota::per_hour(1));
        assert!((0..3_200).all(|key| limiter.check(&key).is_allowed()));
        let fullest = limiter.inner.store.fullest_shard();
        assert!(fullest < 200, "{fullest} of 3,200 keys in one of 32 shards");
    }
}

#[test]
fn a_builder_sets_the_cap() {
    let limiter: KeyedLimiter<u32> = KeyedLimiter::builder(Quota::per_hour(1))
        .max_keys(NonZeroUsize::MIN)
        .when_full(WhenFull::Refuse)
        .build();
    assert!(limiter.check(&1).is_allowed());
    assert!(!limiter.check(&2).is_allowed());
    assert_eq!(limiter.len(), 1);
    assert!(format!("{limiter:?}").contains("KeyedLimiter"));
}
