use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

/// Where a worker lives, and which of its runs is meant.
type Node = usize;

/// What the test knows of a pool: a plain list of idle workers, and who is out.
#[derive(Default)]
struct Model {
    alive: RefCell<BTreeSet<Node>>,
    idle: VecDeque<usize>,
    out: BTreeMap<usize, Node>,
    down: BTreeSet<usize>,
    starting: BTreeSet<usize>,
    waiting: usize,
    next: Node,
}

impl Model {
    fn node(&mut self) -> Node {
        self.next += 1;
        self.alive.borrow_mut().insert(self.next);
        self.next
    }
}

#[derive(Clone, Debug)]
enum Step {
    Take,
    Started(prop::sample::Index),
    CancelStart(prop::sample::Index),
    GiveBack(prop::sample::Index, bool),
    Kill(prop::sample::Index),
    Up(prop::sample::Index),
    Join,
    Leave,
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => Just(Step::Take),
        2 => index().prop_map(Step::Started),
        1 => index().prop_map(Step::CancelStart),
        4 => (index(), prop::bool::weighted(0.2)).prop_map(|(at, busy)| Step::GiveBack(at, busy)),
        1 => index().prop_map(Step::Kill),
        2 => index().prop_map(Step::Up),
        1 => Just(Step::Join),
        1 => Just(Step::Leave),
    ]
}

fn pick<T: Copy>(at: &prop::sample::Index, from: impl Iterator<Item = T>) -> Option<T> {
    let all: Vec<T> = from.collect();
    (!all.is_empty()).then(|| all[at.index(all.len())])
}

proptest! {
    /// Whatever happens, no worker is lent twice or lost, the order is the strategy's, and the counts agree.
    #[test]
    fn books_agree_with_a_plain_model(
        size in 0_usize..4,
        max_overflow in 0_usize..3,
        fifo in any::<bool>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let strategy = if fifo { PoolStrategy::Fifo } else { PoolStrategy::Lifo };
        let mut machine: Machine<Node, ()> = Machine::new(size, max_overflow, strategy);
        let mut model = Model { down: (0..size).collect(), ..Model::default() };
        let mut nodes: BTreeMap<usize, Node> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Take => {
                    // A seat bounds who may ask.
                    if model.out.len() + model.starting.len() == size + max_overflow {
                        continue;
                    }
                    let alive = model.alive.borrow().clone();
                    let taken = machine.take(|_: &()| (), |node| alive.contains(node).then_some(()));
                    let expected = loop {
                        let next = if fifo { model.idle.pop_front() } else { model.idle.pop_back() };
                        match next {
                            Some(place) if alive.contains(&nodes[&place]) => break Some(place),
                            Some(place) if place < size => { model.down.insert(place); }
                            Some(_) => {}
                            None => break None,
                        }
                    };
                    match (taken, expected) {
                        (Take::Worker { place, node, .. }, Some(expected)) => {
                            prop_assert_eq!(place, expected);
                            prop_assert_eq!(node, nodes[&place]);
                            prop_assert!(model.out.insert(place, node).is_none());
                        }
                        (Take::Start { place }, None) => {
                            prop_assert!(place >= size && model.down.is_empty());
                            prop_assert!(!model.out.contains_key(&place));
                            prop_assert!(model.starting.insert(place));
                        }
                        (Take::Wait, None) => prop_assert!(!model.down.is_empty()),
                        (taken, expected) => prop_assert!(false, "{taken:?} for {expected:?}"),
                    }
                }
                Step::Started(at) => {
                    if let Some(place) = pick(&at, model.starting.iter().copied()) {
                        model.starting.remove(&place);
                        let node = model.node();
                        nodes.insert(place, node);
                        model.out.insert(place, node);
                        machine.started(place, node, ());
                    }
                }
                Step::CancelStart(at) => {
                    if let Some(place) = pick(&at, model.starting.iter().copied()) {
                        model.starting.remove(&place);
                        machine.cancel_start(place);
                    }
                }
                Step::GiveBack(at, busy) => {
                    if let Some(place) = pick(&at, model.out.keys().copied()) {
                        let held = model.out.remove(&place).unwrap();
                        let alive = model.alive.borrow().contains(&nodes[&place]);
                        let busy = busy && nodes[&place] == held;
                        let fate = machine.give_back(place, |_| match (alive, busy) {
                            (false, _) => Condition::Dead,
                            (true, true) => Condition::Busy,
                            (true, false) => Condition::Fit,
                        });
                        let expected = match (alive, busy) {
                            (true, true) => Fate::Retire,
                            (true, false) if place >= size && model.waiting == 0 => Fate::Dismiss,
                            _ => Fate::Stays,
                        };
                        prop_assert_eq!(fate, expected);
                        if alive && fate == Fate::Stays {
                            model.idle.push_back(place);
                        } else {
                            model.alive.borrow_mut().remove(&nodes[&place]);
                            if place < size {
                                model.down.insert(place);
                            }
                        }
                    }
                }
                Step::Kill(at) => {
                    let node = pick(&at, model.alive.borrow().iter().copied());
                    if let Some(node) = node {
                        model.alive.borrow_mut().remove(&node);
                    }
                }
                Step::Up(at) => {
                    // Any kept worker that is not alive, missed already or not.
                    let dead = (0..size).filter(|place| {
                        nodes.get(place).is_none_or(|node| !model.alive.borrow().contains(node))
                    });
                    if let Some(place) = pick(&at, dead) {
                        let node = model.node();
                        nodes.insert(place, node);
                        machine.up(place, node);
                        if !model.out.contains_key(&place) {
                            model.down.remove(&place);
                            model.idle.retain(|it| *it != place);
                            model.idle.push_back(place);
                        }
                    }
                }
                Step::Join => {
                    if machine.join(Some(3)) {
                        model.waiting += 1;
                    }
                }
                Step::Leave => {
                    if model.waiting > 0 {
                        model.waiting -= 1;
                        let surplus = machine.leave();
                        if model.waiting == 0 {
                            let gone: Vec<_> =
                                model.idle.iter().filter(|it| **it >= size).map(|it| nodes[it]).collect();
                            prop_assert_eq!(&surplus, &gone);
                            model.idle.retain(|it| *it < size);
                        } else {
                            prop_assert!(surplus.is_empty());
                        }
                    }
                }
            }
            let alive = model.alive.borrow();
            let status = machine.status(|node| alive.contains(node));
            let idle = model.idle.iter().filter(|place| alive.contains(&nodes[place])).count();
            let dead = model.idle.iter().filter(|place| **place < size && !alive.contains(&nodes[place])).count();
            prop_assert_eq!(status.idle, idle);
            prop_assert_eq!(status.in_use, model.out.len());
            prop_assert_eq!(status.down, model.down.len() + dead);
            prop_assert_eq!(status.waiting, model.waiting);
            prop_assert!(status.overflow <= max_overflow);
            let kept_out = model.out.keys().filter(|place| **place < size).count();
            let kept_idle = model.idle.iter().filter(|place| **place < size).count();
            prop_assert_eq!(kept_out + kept_idle + model.down.len(), size, "a kept worker was lost");
        }
    }
}
