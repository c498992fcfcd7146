//! Compares what was seen with the books.

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial::lifecycle::Figures;
use perennial::{DeadLetter, DeadReason, Node, Scope};
use perennial_testkit::assert_books_balance;

use crate::actors::{NAMES, World};
use crate::log::{Fate, Job, Sent};
use crate::script::{Policy, Role, key};

fn nodes(scope: &Scope) -> Vec<Arc<Node>> {
    let mut open = vec![Arc::clone(scope.root())];
    let mut all = Vec::new();
    while let Some(node) = open.pop() {
        open.extend(node.children());
        all.push(node);
    }
    all
}

/// Returns the nodes of the actors of the plan; supervisors get messages as well.
fn places(world: &World) -> Vec<Arc<Node>> {
    world.places.lock().unwrap().clone()
}

fn is_ours(path: &str) -> bool {
    NAMES.iter().any(|it| path.ends_with(&format!("/{it}")))
}

/// Nobody does anything, and nothing waits where somebody runs.
pub(crate) fn at_rest(scope: &Scope, world: &World) {
    assert_books_balance!(scope);
    for node in nodes(scope).into_iter().chain(places(world)) {
        let Some(figures) = node.figures() else {
            continue;
        };
        assert_eq!(figures.in_hand, 0, "{}", node.path());
        let waits = figures.depth > 0 && node.current().is_some();
        assert!(!waits, "{}: {figures:?}", node.path());
    }
    let places = places(world);
    let figures: Vec<_> = places.iter().filter_map(|it| it.figures()).collect();
    let all = |count: fn(&Figures) -> u64| figures.iter().map(count).sum::<u64>();
    let entries = world.log.entries();
    let sum = |count: fn(&Fate) -> u64| entries.fates.values().map(count).sum::<u64>();
    assert_eq!(all(|it| it.handled), sum(|it| it.handled), "handled");
    assert_eq!(all(|it| it.failed), sum(|it| it.failed), "failed");
    // Those of the tree: what a group without members refuses is in no place's.
    assert_eq!(scope.books().refused, entries.refused, "refused");
    let delivered = sum(|it| u64::from(it.sent == Sent::Delivered)) + entries.replayed;
    let unknown = sum(|it| u64::from(it.sent == Sent::Unknown));
    let ended = |it: &Figures| it.handled + it.failed + it.expired + it.returned + it.dead;
    let accounted = all(ended) + all(|it| it.depth + it.in_hand) - all(|it| it.uncounted);
    assert!(
        (delivered..=delivered + unknown).contains(&accounted),
        "{delivered} delivered, perhaps {unknown} more, {accounted} accounted for: {figures:?}"
    );
}

/// Nobody is there any more, and nobody will be.
pub(crate) fn at_end(scope: &Scope, world: &World, roles: &[Role]) {
    for node in nodes(scope) {
        node.retire();
    }
    assert_books_balance!(scope);
    let places = places(world);
    let figures: Vec<_> = places.iter().filter_map(|it| it.figures()).collect();
    for it in &figures {
        assert_eq!((it.depth, it.in_hand), (0, 0), "{it:?}");
    }

    let dead = scope.traffic().dead_letters();
    let lost = figures.iter().map(|it| it.dead + it.returned).sum::<u64>();
    let letters = dead.list();
    let ours = letters.iter().filter(|it| is_ours(it.target.as_str()));
    let told = ours.map(|it| it.messages).sum::<u64>() + world.log.entries().replayed;
    assert_eq!(told, lost, "{figures:?}");
    let is_replaced = |it: &&DeadLetter| it.reason == DeadReason::Replaced;
    let told_replaced = letters.iter().filter(is_replaced);
    let told_replaced = told_replaced.map(|it| it.messages).sum::<u64>();
    let mut died = BTreeMap::<u64, u64>::new();
    for letter in letters {
        if letter.is_kept {
            let job = dead.take::<Job>(letter.id).unwrap();
            *died.entry(job.tag.id).or_default() += 1;
        }
    }
    let fates = world.log.entries().fates.clone();
    // What was delivered, has not ended, and is not there: a later one must have taken its place.
    let mut replaced = 0;
    for (&id, fate) in &fates {
        assert_eq!(fate.alive, 0, "{id} is kept somewhere: {fate:?}");
        assert!(!fate.mistaken, "{id} came in a wrong envelope: {fate:?}");
        let died = died.get(&id).copied().unwrap_or_default();
        let ends = fate.handled + fate.failed + died;
        if fate.sent == Sent::Refused {
            assert_eq!(ends + fate.crashed, 0, "{id} was refused: {fate:?}");
            continue;
        }
        // Handled when it was put away, and then once more.
        assert!(
            ends <= 1 + u64::from(fate.deferred),
            "{id} ended twice: {fate:?}"
        );
        let may_have_it = |(at, role): &(usize, &Role)| fate.to.may_be(*at, role);
        let targets = || roles.iter().enumerate().filter(may_have_it);
        let must_end = targets().all(|(_, role)| role.is_mail)
            && !fate.is_call
            && fate.sent == Sent::Delivered;
        if !must_end || ends >= 1 {
            continue;
        }
        replaced += 1;
        let may_replace = |(&other, by): (&u64, &Fate)| {
            let is_same = |(at, role): (usize, &Role)| {
                role.policy == Policy::Coalesce && by.to.may_be(at, role)
            };
            other != id
                && key(other) == key(id)
                && by.sent != Sent::Refused
                && targets().any(is_same)
        };
        assert!(
            fates.iter().any(may_replace),
            "{id} was lost: {fate:?} {roles:?}"
        );
    }
    // Calls are replaced as well, and what was replayed.
    assert!(
        replaced <= told_replaced,
        "{replaced} of {told_replaced}: {figures:?}"
    );
}
