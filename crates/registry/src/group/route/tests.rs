use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use proptest::prelude::*;

use super::*;

/// A member that is nothing but what the route looks at.
#[derive(Clone, Debug)]
struct Paper {
    open: bool,
    load: u64,
    seed: u64,
}

impl Candidate for Paper {
    fn is_open(&self) -> bool {
        self.open
    }

    fn load(&self) -> u64 {
        self.load
    }

    fn seed(&self) -> u64 {
        self.seed
    }
}

fn papers() -> impl Strategy<Value = Vec<Paper>> {
    let paper = (any::<bool>(), 0..4_u64);
    prop::collection::vec(paper, 0..20).prop_map(|papers| {
        let papers = papers.into_iter().enumerate();
        let paper = |(index, (open, load))| Paper {
            open,
            load,
            seed: seed(&format!("t/{index}")),
        };
        papers.map(paper).collect()
    })
}

fn members(count: usize) -> Vec<Paper> {
    let paper = |index| Paper {
        open: true,
        load: 0,
        seed: seed(&format!("tree/workers/worker-{index}")),
    };
    (0..count).map(paper).collect()
}

proptest! {
    #[test]
    fn every_route_chooses_an_open_member_that_was_not_tried_until_none_is_left(
        all in papers(),
        turn: usize,
        key: u64,
    ) {
        for route in [Route::RoundRobin, Route::LeastQueued, Route::Key(key)] {
            let tried: Vec<_> = route.order(turn, &all).collect();
            prop_assert!(tried.iter().all(|index| all[*index].open));
            let distinct: BTreeSet<_> = tried.iter().collect();
            prop_assert_eq!(distinct.len(), tried.len());
            prop_assert_eq!(tried.len(), all.iter().filter(|it| it.open).count());
        }
    }

    #[test]
    fn the_next_that_is_tried_is_the_one_that_would_be_first_without_those_before(
        all in papers(),
        turn: usize,
        key: u64,
    ) {
        for route in [Route::RoundRobin, Route::LeastQueued, Route::Key(key)] {
            let mut left = all.clone();
            for index in route.order(turn, &all) {
                prop_assert_eq!(route.order(turn, &left).next(), Some(index));
                left[index].open = false;
            }
        }
    }

    #[test]
    fn the_least_queued_has_the_least(all in papers(), turn: usize) {
        let least = all.iter().filter(|it| it.open).map(|it| it.load).min();
        let chosen = Route::LeastQueued.order(turn, &all).next();
        prop_assert_eq!(chosen.map(|index| all[index].load), least);
    }

    #[test]
    fn reg_18_only_the_keys_of_the_member_that_leaves_move(
        count in 2..20_usize,
        leaves: prop::sample::Index,
        keys in prop::collection::vec(any::<u64>(), 1..50),
    ) {
        let before = members(count);
        let gone = leaves.index(count);
        let mut closed = before.clone();
        closed[gone].open = false;
        let mut removed = before.clone();
        removed.remove(gone);
        for key in keys {
            let route = Route::key(&key);
            let of = |all: &[Paper]| route.order(0, all).next().map(|index| all[index].seed);
            let was = of(&before);
            prop_assert_eq!(of(&closed), of(&removed));
            if was != Some(before[gone].seed) {
                prop_assert_eq!(of(&removed), was);
            }
            // Neither the turn nor the order of joining counts.
            let turn = usize::try_from(key % 97).unwrap();
            let turned = route.order(turn, &before).next().map(|index| before[index].seed);
            prop_assert_eq!(turned, was);
            let mut reversed = before.clone();
            reversed.reverse();
            prop_assert_eq!(of(&reversed), was);
        }
    }
}

#[test]
fn reg_18_keys_spread_evenly_also_when_a_member_has_left() {
    let all = members(8);
    for gone in [None, Some(3)] {
        let mut all = all.clone();
        if let Some(gone) = gone {
            all.remove(gone);
        }
        let mut found = vec![0_usize; all.len()];
        let each = 2000;
        for number in 0..each * all.len() {
            let route = Route::key(&format!("user-{number}"));
            found[route.order(0, &all).next().unwrap()] += 1;
        }
        for count in found {
            assert!(count.abs_diff(each) < each / 5, "{count} of {each}");
        }
    }
}

#[test]
fn each_has_its_turn() {
    let all = members(5);
    let turns = (usize::MAX - 2..=usize::MAX).chain(0..5);
    let chosen: Vec<_> = turns
        .map(|turn| Route::RoundRobin.order(turn, &all).next().unwrap())
        .collect();
    let last: BTreeSet<_> = chosen[3..].iter().collect();
    assert_eq!(last.len(), 5, "{chosen:?}");
    // Among equals the least queued changes too.
    let equals: BTreeSet<_> = (0..5)
        .filter_map(|turn| Route::LeastQueued.order(turn, &all).next())
        .collect();
    assert_eq!(equals.len(), 5);
}

/// Counts the looks at it.
struct Seen(AtomicUsize);

impl Candidate for Seen {
    fn is_open(&self) -> bool {
        self.0.fetch_add(1, Relaxed);
        true
    }

    fn load(&self) -> u64 {
        self.0.fetch_add(1, Relaxed);
        0
    }

    fn seed(&self) -> u64 {
        self.0.fetch_add(1, Relaxed);
        0
    }
}

#[test]
fn to_try_all_takes_a_few_looks_at_each() {
    for route in [Route::RoundRobin, Route::LeastQueued, Route::Key(7)] {
        let all: Vec<_> = (0..1_000).map(|_| Seen(AtomicUsize::new(0))).collect();
        assert_eq!(route.order(3, &all).count(), all.len());
        assert!(all.iter().all(|it| it.0.load(Relaxed) <= 5));
    }
}
