//! Every order in which a few callers can meet in the graph.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" cargo test -p perennial-lifecycle --lib --target-dir target/loom -- loom
//! ```

use loom::thread;

use super::*;

fn ring<const N: usize>() -> [ActorPath; N] {
    std::array::from_fn(|at| ActorPath::root(&at.to_string()))
}

/// Each of a ring calls the next, in a thread of its own, and none of the waits ends.
fn begun<const N: usize>(waits: &Arc<Waits>) -> Vec<Result<(), Cycle>> {
    let ring = ring::<N>();
    let begin = |at: usize| {
        let (waits, ring) = (Arc::clone(waits), ring.clone());
        move || {
            let begun = waits.begin(&ring[at], &ring[(at + 1) % N]);
            begun.map(std::mem::forget)
        }
    };
    let others: Vec<_> = (1..N).map(|at| thread::spawn(begin(at))).collect();
    let here = begin(0)();
    let others = others.into_iter().map(|it| it.join().unwrap());
    iter::once(here).chain(others).collect()
}

/// Who begins last closes the ring, and nobody before: so one is refused, never none and never two.
fn one_of_a_ring_is_refused<const N: usize>() {
    loom::model(|| {
        let waits = Arc::new(Waits::default());
        let begun = begun::<N>(&waits);
        let refused: Vec<_> = begun.into_iter().filter_map(Result::err).collect();
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].path.len(), N + 1);
        assert_eq!(waits.list().len(), N - 1);
    });
}

#[test]
fn of_two_who_call_each_other_exactly_one_is_refused() {
    one_of_a_ring_is_refused::<2>();
}

#[test]
fn of_three_who_call_in_a_ring_exactly_one_is_refused() {
    one_of_a_ring_is_refused::<3>();
}

/// With waits that end meanwhile perhaps nobody is refused, and still never both of two.
#[test]
fn of_calls_that_end_at_once_at_most_one_is_refused() {
    loom::model(|| {
        let waits = Arc::new(Waits::default());
        let [a, b] = ring::<2>();
        let other = {
            let (waits, a, b) = (Arc::clone(&waits), a.clone(), b.clone());
            thread::spawn(move || waits.begin(&b, &a).is_err())
        };
        let here = waits.begin(&a, &b).is_err();
        let there = other.join().unwrap();
        assert!(!(here && there));
        assert_eq!(waits.list(), []);
    });
}

#[test]
fn who_has_answered_may_call_the_caller_whether_that_has_run_or_not() {
    loom::model(|| {
        let waits = Arc::new(Waits::default());
        let [a, b] = ring::<2>();
        let waiting = waits.begin(&a, &b).unwrap();
        let answer = Waker::from(waiting.answered(Waker::noop()));
        let callee = {
            let (waits, a) = (Arc::clone(&waits), a.clone());
            thread::spawn(move || {
                answer.wake();
                drop(waits.begin(&b, &a).unwrap());
            })
        };
        drop(waiting);
        callee.join().unwrap();
        assert_eq!(waits.list(), []);
    });
}
