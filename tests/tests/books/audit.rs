//! Compares what was seen with the books.

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial::lifecycle::Figures;
use perennial::{Node, Scope};
use perennial_testkit::assert_books_balance;

use crate::actors::{NAMES, World};
use crate::log::{Fate, Job, Sent};
use crate::script::{Policy, Role};

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
    assert_eq!(all(|it| it.refused), entries.refused, "refused");
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
    let coalesces = roles.iter().any(|it| it.policy == Policy::Coalesce);
    let lost = figures.iter().map(|it| it.dead + it.returned).sum::<u64>();
    let letters = dead.list();
    let ours = letters.iter().filter(|it| is_ours(it.target.as_str()));
    let told = ours.map(|it| it.messages).sum::<u64>() + world.log.entries().replayed;
    match coalesces {
        false => assert_eq!(told, lost, "{figures:?}"),
        true => assert!(told <= lost, "{figures:?}"),
    }
    let mut died = BTreeMap::<u64, u64>::new();
    for letter in letters {
        if letter.is_kept {
            let job = dead.take::<Job>(letter.id).unwrap();
            *died.entry(job.tag.id).or_default() += 1;
        }
    }
    let fates = world.log.entries().fates.clone();
    for (id, fate) in fates {
        assert_eq!(fate.alive, 0, "{id} is kept somewhere: {fate:?}");
        let died = died.get(&id).copied().unwrap_or_default();
        let ends = fate.handled + fate.failed + died;
        let role = &roles[fate.to];
        if fate.sent == Sent::Refused {
            assert_eq!(ends + fate.crashed, 0, "{id} was refused: {fate:?}");
            continue;
        }
        // Handled when it was put away, and then once more.
        assert!(
            ends <= 1 + u64::from(fate.deferred),
            "{id} ended twice: {fate:?}"
        );
        let must_end = role.is_mail
            && !fate.is_call
            && fate.sent == Sent::Delivered
            && role.policy != Policy::Coalesce;
        assert!(!must_end || ends >= 1, "{id} was lost: {fate:?} {role:?}");
    }
}
