use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::oneshot;

use super::*;

fn place(id: &str) -> ActorPath {
    ActorPath::root(id)
}

fn places<const N: usize>(ids: [&str; N]) -> [ActorPath; N] {
    ids.map(place)
}

/// Who waits for whom, and by how many calls.
fn listed(waits: &Waits) -> Vec<(String, String, usize)> {
    let all = waits.list().into_iter();
    all.map(|it| (it.caller.to_string(), it.callee.to_string(), it.calls))
        .collect()
}

fn waiters(waits: &Waits) -> usize {
    let graph = lock(&waits.graph);
    graph.trees.iter().map(|it| it.waiters.len()).sum()
}

#[test]
fn an_actor_that_calls_itself_is_refused() {
    let waits = Arc::new(Waits::default());
    let a = place("a");
    let refused = waits.begin(&a, &a).unwrap_err();
    assert_eq!(refused.path, [a.clone(), a]);
    assert_eq!(refused.to_string(), "a would wait for itself: a -> a");
    assert_eq!(waiters(&waits), 0);
}

#[test]
fn two_that_would_wait_for_each_other_are_refused() {
    let waits = Arc::new(Waits::default());
    let [a, b] = places(["a", "b"]);
    let _waiting = waits.begin(&b, &a).unwrap();
    let refused = waits.begin(&a, &b).unwrap_err();
    assert_eq!(refused.path, [&a, &b, &a].map(Clone::clone));
    assert_eq!(refused.to_string(), "a would wait for itself: a -> b -> a");
    assert_eq!(listed(&waits), [("b".into(), "a".into(), 1)]);
}

#[test]
fn three_that_would_wait_in_a_ring_are_refused_with_the_ring_alone() {
    let waits = Arc::new(Waits::default());
    let [a, b, c, d, e] = places(["a", "b", "c", "d", "e"]);
    // Blind ends before the way, and one at whom the caller waits.
    let _all = [(&b, &d), (&b, &c), (&c, &e), (&c, &a), (&a, &d)]
        .map(|(caller, callee)| waits.begin(caller, callee).unwrap());
    let refused = waits.begin(&a, &b).unwrap_err();
    assert_eq!(refused.path, [&a, &b, &c, &a].map(Clone::clone));
}

#[test]
fn a_path_that_is_told_apart_by_its_text_alone_is_the_same_place() {
    let waits = Arc::new(Waits::default());
    let a = place("a");
    let _waiting = waits.begin(&a, &place("b")).unwrap();
    assert!(waits.begin(&place("b"), &place("a")).is_err());
}

#[test]
fn a_cycle_through_two_trees_is_refused_and_one_of_their_paths_alone_is_none() {
    let graph = Arc::default();
    let tree = || Arc::new(Waits::of(Arc::clone(&graph)));
    let (one, two) = (tree(), tree());
    let [a, b] = places(["a", "b"]);
    // At the same path, in the other tree.
    let _over = one.begin_across(&a, &two, &a).unwrap();
    let _there = two.begin(&a, &b).unwrap();
    let _here = one.begin(&b, &a).unwrap();
    let refused = two.begin_across(&b, &one, &b).unwrap_err();
    assert_eq!(refused.path, [&b, &b, &a, &a, &b].map(Clone::clone));
    let wait = |caller: &str, callee: &str| (caller.to_owned(), callee.to_owned(), 1);
    assert_eq!(listed(&one), [wait("a", "a"), wait("b", "a")]);
    assert_eq!(listed(&two), [wait("a", "b")]);
    // Another one is not in the graph.
    assert!(Arc::new(Waits::default()).begin(&b, &a).is_ok());
}

#[test]
fn a_tree_that_is_gone_leaves_nothing_behind() {
    let graph = Arc::default();
    for _ in 0..3 {
        let waits = Arc::new(Waits::of(Arc::clone(&graph)));
        let [a, b] = places(["a", "b"]);
        std::mem::forget(waits.begin(&a, &b).unwrap());
        assert_eq!(waiters(&waits), 1);
    }
    assert!(lock(&graph).trees.is_empty());
}

#[test]
fn a_diamond_is_no_cycle() {
    let waits = Arc::new(Waits::default());
    let [top, left, right, bottom] = places(["top", "left", "right", "bottom"]);
    let _all = [
        (&left, &bottom),
        (&right, &bottom),
        (&top, &left),
        (&top, &right),
    ]
    .map(|(caller, callee)| waits.begin(caller, callee).unwrap());
    assert_eq!(waits.list().len(), 4);
    assert!(waits.begin(&bottom, &top).is_err());
}

/// If each way were walked, and not each waiter, this would take 2^64 steps.
#[test]
fn diamonds_in_a_row_are_walked_once() {
    let waits = Arc::new(Waits::default());
    let rows = |id| -> Vec<_> { (0..65).map(|row| place(&format!("{id}-{row}"))).collect() };
    let [knots, left, right] = ["knot", "left", "right"].map(rows);
    let first = place("first");
    let mut all = Vec::new();
    for row in 0..64 {
        for side in [&left, &right] {
            all.push(waits.begin(&knots[row], &side[row]).unwrap());
            all.push(waits.begin(&side[row], &knots[row + 1]).unwrap());
        }
    }
    // That nothing leads back to the first is known only when all has been walked.
    all.push(waits.begin(&first, &knots[0]).unwrap());
    let refused = waits.begin(&knots[64], &first).unwrap_err();
    assert_eq!(refused.path.len(), 131);
    drop(all);
    assert_eq!(waiters(&waits), 0);
}

#[test]
fn a_long_chain_is_walked_without_recursion() {
    let waits = Arc::new(Waits::default());
    let links: Vec<_> = (0..=20_000).map(|at| place(&at.to_string())).collect();
    let pairs = links.windows(2);
    let chain: Vec<_> = pairs
        .map(|pair| waits.begin(&pair[0], &pair[1]).unwrap())
        .collect();
    let refused = waits.begin(&links[20_000], &links[0]).unwrap_err();
    assert_eq!(refused.path.len(), 20_002);
    drop(chain);
}

#[test]
fn the_same_wait_twice_and_ended_once_still_waits() {
    let waits = Arc::new(Waits::default());
    let [a, b] = places(["a", "b"]);
    for first_ends_first in [true, false] {
        let (one, other) = (waits.begin(&a, &b).unwrap(), waits.begin(&a, &b).unwrap());
        assert_eq!(listed(&waits), [("a".into(), "b".into(), 2)]);
        let (ends, stays) = if first_ends_first {
            (one, other)
        } else {
            (other, one)
        };
        drop(ends);
        assert_eq!(listed(&waits), [("a".into(), "b".into(), 1)]);
        assert!(waits.begin(&b, &a).is_err());
        drop(stays);
        assert_eq!(listed(&waits), []);
        assert!(waits.begin(&b, &a).is_ok());
    }
}

#[test]
fn who_waits_for_nobody_is_forgotten_also_after_a_refusal() {
    let waits = Arc::new(Waits::default());
    let [a, b] = places(["a", "b"]);
    let waiting = waits.begin(&a, &b).unwrap();
    assert!(waits.begin(&b, &a).is_err());
    assert_eq!(waiters(&waits), 1);
    drop(waiting);
    assert_eq!(waiters(&waits), 0);
}

#[test]
fn the_room_of_many_waiters_is_given_back() {
    let waits = Arc::new(Waits::default());
    let callee = place("callee");
    let room = || lock(&waits.graph).trees[0].waiters.capacity();
    let callers: Vec<_> = (0..ROOM * 16).map(|at| place(&at.to_string())).collect();
    let callers = callers.iter();
    let all: Vec<_> = callers
        .map(|caller| waits.begin(caller, &callee).unwrap())
        .collect();
    assert!(room() >= ROOM * 16);
    drop(all);
    assert!(room() <= ROOM * 2, "{}", room());
}

#[tokio::test(start_paused = true)]
async fn the_list_is_in_order_and_says_since_when() {
    let waits = Arc::new(Waits::default());
    let [a, b, c] = places(["a", "b", "c"]);
    let begin = Instant::now();
    let at = |seconds| begin + Duration::from_secs(seconds);
    let mut all = Vec::new();
    for (caller, callee) in [(&b, &c), (&a, &c), (&a, &b), (&a, &c)] {
        all.push(waits.begin(caller, callee).unwrap());
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let wait = |caller: &ActorPath, callee: &ActorPath, since, calls| Wait {
        caller: caller.clone(),
        callee: callee.clone(),
        since,
        calls,
    };
    let list = [
        wait(&a, &b, at(2), 1),
        wait(&a, &c, at(1), 2),
        wait(&b, &c, at(0), 1),
    ];
    assert_eq!(waits.list(), list);
    // The older of the two: the younger stays.
    drop(all.swap_remove(1));
    assert_eq!(waits.list()[1], wait(&a, &c, at(3), 1));
}

#[tokio::test]
async fn an_answer_ends_the_wait_before_the_caller_has_run() {
    let waits = Arc::new(Waits::default());
    let [a, b] = places(["a", "b"]);
    let waiting = waits.begin(&a, &b).unwrap();
    let (answer, answered) = oneshot::channel();
    let mut answered = pin!(answered);
    let waker = Waker::from(waiting.answered(Waker::noop()));
    let pending = answered.as_mut().poll(&mut Context::from_waker(&waker));
    assert_eq!(pending, Poll::Pending);
    assert!(waits.begin(&b, &a).is_err());

    answer.send(()).unwrap();
    let back = waits.begin(&b, &a).unwrap();
    drop(waiting);
    assert_eq!(listed(&waits), [("b".into(), "a".into(), 1)]);
    drop(back);
}

#[test]
fn public_types_are_debug_send_and_sync() {
    fn assert_shared<T: fmt::Debug + Send + Sync>() {}
    assert_shared::<Waits>();
    assert_shared::<Wait>();
    assert_shared::<Waiting<'_>>();
    assert_shared::<Cycle>();
}

const ACTORS: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    Begin(usize, usize),
    /// Drops one of the waits.
    End(usize),
    /// Lets one of the waits be answered, and drops it later.
    Answer(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..ACTORS, 0..ACTORS).prop_map(|(caller, callee)| Step::Begin(caller, callee)),
        1 => any::<usize>().prop_map(Step::End),
        1 => any::<usize>().prop_map(Step::Answer),
    ];
    proptest::collection::vec(step, 1..200)
}

/// Says who can be reached from where, by nothing but the list of waits.
fn reaches(edges: &[(usize, usize)], from: usize, to: usize) -> bool {
    let mut reached = [false; ACTORS];
    reached[from] = true;
    for _ in 0..ACTORS {
        for &(caller, callee) in edges {
            reached[callee] |= reached[caller];
        }
    }
    reached[to]
}

proptest! {
    #[test]
    fn it_agrees_with_a_plain_list_of_waits(steps in steps()) {
        let waits = Arc::new(Waits::default());
        let all: [_; ACTORS] = std::array::from_fn(|at| place(&at.to_string()));
        let mut open: Vec<(usize, usize, Waiting<'_>)> = Vec::new();
        let mut answered = Vec::new();
        for step in steps {
            let edges: Vec<_> = open.iter().map(|it| (it.0, it.1)).collect();
            match step {
                Step::Begin(caller, callee) => match waits.begin(&all[caller], &all[callee]) {
                    Ok(waiting) => {
                        prop_assert!(!reaches(&edges, callee, caller));
                        open.push((caller, callee, waiting));
                    }
                    Err(Cycle { path }) => {
                        prop_assert!(reaches(&edges, callee, caller));
                        let path: Vec<usize> =
                            path.iter().map(|it| it.as_str().parse().unwrap()).collect();
                        prop_assert_eq!(&path[..2], &[caller, callee]);
                        prop_assert_eq!(path[path.len() - 1], caller);
                        let mut once = path[1..].to_vec();
                        once.sort_unstable();
                        once.dedup();
                        prop_assert_eq!(once.len(), path.len() - 1, "{:?}", path);
                        for pair in path[1..].windows(2) {
                            prop_assert!(edges.contains(&(pair[0], pair[1])), "{:?}", path);
                        }
                    }
                },
                Step::End(at) if !open.is_empty() => drop(open.swap_remove(at % open.len())),
                Step::Answer(at) if !open.is_empty() => {
                    let (_, _, waiting) = open.swap_remove(at % open.len());
                    waiting.answered(Waker::noop()).wake();
                    answered.push(waiting);
                }
                _ => {}
            }
            let mut model = BTreeMap::new();
            for (caller, callee, _) in &open {
                *model.entry((caller.to_string(), callee.to_string())).or_insert(0) += 1;
            }
            let model: Vec<_> = model.into_iter().map(|((a, b), calls)| (a, b, calls)).collect();
            prop_assert_eq!(listed(&waits), model);
        }
        drop(open);
        prop_assert_eq!(waiters(&waits), 0);
    }
}
