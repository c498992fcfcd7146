use std::{
    cell::{Cell, RefCell},
    hash::Hasher,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::*;
use crate::{
    clock::ManualClock,
    meter::{Gcra, ShippedGcra, ShippedLeakyBucket, SlidingWindow},
};

const TWENTY: NonZeroU32 = NonZeroU32::new(20).unwrap();
const SECOND: Duration = Duration::from_secs(1);

fn limiter<A>() -> (MeterLimiter<u32, A>, ManualClock)
where
    A: Algorithm<Nanos>,
    A::NegativeDecision: NonConformance<Nanos>,
{
    let time = Clock::manual();
    time.set(Duration::from_secs(1_700_000_000));
    let limiter = MeterLimiter::new(TWENTY, SECOND, time.clock()).unwrap();
    (limiter, time)
}

#[test]
fn algorithms_of_the_package_and_ours_can_be_plugged_in() {
    fn admitted<A>() -> usize
    where
        A: Algorithm<Nanos>,
        A::NegativeDecision: NonConformance<Nanos>,
    {
        let (limiter, _) = limiter::<A>();
        (0..100).filter(|_| limiter.check(&7).is_allowed()).count()
    }
    assert_eq!(admitted::<Gcra>(), 20);
    assert_eq!(admitted::<SlidingWindow>(), 20);
    assert_eq!(admitted::<ShippedLeakyBucket<Nanos>>(), 20);
    // As it ships.
    assert_eq!(admitted::<ShippedGcra<Nanos>>(), 21);
}

#[test]
fn a_refusal_says_when_and_a_batch_too_large_never() {
    let (limiter, time) = limiter::<ShippedLeakyBucket<Nanos>>();
    assert!(limiter.check_n(&7, 20).is_allowed());
    let wait = Duration::from_millis(50);
    assert_eq!(limiter.check(&7).retry_after(), Some(wait));
    time.advance(wait);
    assert!(limiter.check(&7).is_allowed());
    assert_eq!(limiter.check_n(&7, 21), Decision::Never);
    assert!(limiter.clone().reset(&7));
    assert!(limiter.check_n(&7, 20).is_allowed());
}

#[test]
fn idle_keys_are_swept_and_make_room_for_new_ones() {
    let time = Clock::manual();
    let algorithm = Gcra::construct(TWENTY, NonZeroU32::MIN, SECOND).unwrap();
    let limiter = MeterLimiter::with(algorithm, NonZeroUsize::MIN, time.clock());
    let answers: Vec<_> = (0..1000_u32).map(|key| limiter.check(&key)).collect();
    let allowed = answers.iter().filter(|answer| answer.is_allowed());
    assert_eq!(allowed.count(), SHARDS);
    assert_eq!(limiter.len(), SHARDS);
    // The cell of the one key in its shard is back by then.
    let refused = answers.iter().position(|answer| !answer.is_allowed());
    let refused = u32::try_from(refused.unwrap()).unwrap();
    assert_eq!(limiter.check(&refused).retry_after(), Some(SECOND / 20));

    time.advance(SECOND / 20 - Duration::from_nanos(1));
    assert!(!limiter.check(&refused).is_allowed());
    time.advance(Duration::from_nanos(1));
    assert!(limiter.check(&refused).is_allowed());
    assert_eq!(limiter.sweep(), SHARDS - 1);
    assert_eq!(limiter.len(), 1);
    assert!(!limiter.is_empty());
}

#[test]
fn a_first_touch_by_many_threads_meets_in_one_state() {
    const THREADS: usize = 4;
    let time = Clock::manual();
    let algorithm = Gcra::construct(NonZeroU32::MIN, NonZeroU32::MIN, SECOND).unwrap();
    let limiter = MeterLimiter::with(algorithm, crate::config::MAX_KEYS, time.clock());
    let barrier = Barrier::new(THREADS);
    let through: usize = std::thread::scope(|scope| {
        let check = || {
            barrier.wait();
            (0..3000_u32)
                .filter(|key| limiter.check(key).is_allowed())
                .count()
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(check)).collect();
        threads.into_iter().map(|it| it.join().unwrap()).sum()
    });
    assert_eq!(through, 3000);
}

type Act = Box<dyn FnOnce() + Send>;

/// A key that does something when it is hashed first, which is before its shard is held, and counts its clones.
#[derive(Default)]
struct Busy {
    act: Arc<Mutex<Option<Act>>>,
    clones: Arc<AtomicUsize>,
}

impl Hash for Busy {
    fn hash<H: Hasher>(&self, _: &mut H) {
        let act = lock(&self.act).take();
        if let Some(act) = act {
            act();
        }
    }
}

impl PartialEq for Busy {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Busy {}

impl Clone for Busy {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, Ordering::Relaxed);
        Self {
            act: Arc::clone(&self.act),
            clones: Arc::clone(&self.clones),
        }
    }
}

#[test]
fn a_key_that_is_swept_while_it_is_looked_for_does_not_begin_anew_in_the_past() {
    let time = Clock::manual();
    let algorithm = Gcra::construct(NonZeroU32::MIN, NonZeroU32::MIN, SECOND).unwrap();
    let limiter = MeterLimiter::with(algorithm, crate::config::MAX_KEYS, time.clock());
    let key = Busy::default();
    assert!(limiter.check(&key).is_allowed());
    let sweeps = {
        let limiter = limiter.clone();
        move || {
            time.advance(SECOND);
            assert_eq!(limiter.sweep(), 1);
        }
    };
    *lock(&key.act) = Some(Box::new(sweeps));
    assert!(limiter.check(&key).is_allowed());
    assert_eq!(limiter.check(&key).retry_after(), Some(SECOND));
}

#[test]
fn a_known_key_is_not_cloned() {
    let (algorithm, time) = (
        Gcra::construct(TWENTY, NonZeroU32::MIN, SECOND),
        Clock::manual(),
    );
    let limiter = MeterLimiter::with(algorithm.unwrap(), NonZeroUsize::MIN, time.clock());
    let key = Busy::default();
    for _ in 0..10 {
        assert!(limiter.check(&key).is_allowed());
    }
    assert_eq!(key.clones.load(Ordering::Relaxed), 1);
}

/// A key that counts the shards that are locked where it is copied or dropped.
#[derive(PartialEq, Eq, Hash)]
struct Watchful(u32);

thread_local! {
    static LIMITER: RefCell<Option<MeterLimiter<Watchful, Gcra>>> = const { RefCell::new(None) };
    static LOOKS: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

fn look() {
    LIMITER.with_borrow(|limiter| {
        let shards = limiter.iter().flat_map(|it| &it.inner.shards);
        let locked = shards.filter(|it| it.try_lock().is_err()).count();
        let (looks, before) = LOOKS.get();
        LOOKS.set((looks + 1, before + locked));
    });
}

impl Clone for Watchful {
    fn clone(&self) -> Self {
        look();
        Self(self.0)
    }
}

impl Drop for Watchful {
    fn drop(&mut self) {
        look();
    }
}

#[test]
fn a_key_may_use_the_limiter_where_it_is_copied_and_where_it_is_dropped() {
    let time = Clock::manual();
    let algorithm = Gcra::construct(NonZeroU32::MIN, NonZeroU32::MIN, SECOND).unwrap();
    let limiter = MeterLimiter::with(algorithm, NonZeroUsize::MIN, time.clock());
    let keys: Vec<_> = (0..1000).map(Watchful).collect();
    LIMITER.set(Some(limiter.clone()));
    let admitted = |keys: &[Watchful]| {
        let admitted = keys.iter().filter(|key| limiter.check(key).is_allowed());
        admitted.count()
    };
    let first = admitted(&keys[..900]);
    time.advance(SECOND);
    // Some make room, one of them is reset, and the others are swept.
    let second = admitted(&keys[900..]);
    let was_known = limiter.reset(&keys[900]);
    time.advance(SECOND);
    let swept = limiter.sweep();
    LIMITER.set(None);
    assert_eq!((first, was_known, swept), (SHARDS, true, SHARDS - 1));
    assert!(second > 0);
    // Each is copied once, and dropped.
    assert_eq!(LOOKS.get(), (2 * (first + second), 0));
}

#[test]
fn a_sweep_corrects_the_clock() {
    let clock = Clock::system();
    let algorithm = Gcra::construct(TWENTY, NonZeroU32::MIN, SECOND).unwrap();
    let limiter = MeterLimiter::<u32, _>::with(algorithm, NonZeroUsize::MIN, clock.clone());
    clock.drift(Duration::from_secs(3600));
    limiter.sweep();
    assert!(clock.now().since(Clock::system().now()) < Duration::from_secs(1800));
}
