//! What runs below a supervisor's place that is no child of it: left there by its predecessor, or by a child that it has
//! forgotten.

use std::collections::HashSet;
use std::sync::Arc;

use perennial_lifecycle::{ExitReason, Node};

use crate::children::Children;

/// How many places are looked at for each message, on average: a killed supervisor may leave very many.
const AT_A_TIME: usize = 32;

/// Places of nobody's child where somebody runs all the same, or below.
///
/// They stay in the tree until they are empty, although nobody will be started there again: what runs there is seen until
/// then, and nobody starts at such a place beside it.
pub(crate) struct LeftBehind {
    places: Vec<Arc<Node>>,
    /// Messages since they were last looked at.
    passed: usize,
}

impl LeftBehind {
    /// Asks what runs below `parent` to stop, and removes the places outside the specs where nobody does. Who is in the
    /// specs is not waited for here, but by the next start at its place.
    ///
    /// Orphans of a supervisor that was killed have been asked already; one that was left behind cannot ask its own.
    pub(crate) fn clear(parent: &Node, is_in_specs: impl Fn(&str) -> bool) -> Self {
        let mut strangers = parent.children();
        strangers.retain(|place| stop(place) && !is_in_specs(place.path().id()));
        for place in &strangers {
            place.retire();
        }
        let staying: HashSet<_> = strangers.iter().map(|it| it.path().id()).collect();
        parent.retain_children(|id| staying.contains(id) || is_in_specs(id));
        Self {
            places: strangers,
            passed: 0,
        }
    }

    /// Removes the place of a child that was forgotten; later, if somebody still runs there: a predecessor of the child that
    /// did not come to its start, or what a supervisor has left below when it was killed.
    pub(crate) fn vacate(&mut self, parent: &Node, id: &str) {
        let Some(place) = parent.child(id) else {
            return;
        };
        // One that was left behind has not asked its children.
        if !stop(&place) {
            parent.remove_child(id);
            return;
        }
        place.retire();
        if !self.places.iter().any(|it| Arc::ptr_eq(it, &place)) {
            self.places.push(place);
        }
    }

    /// Removes the places that are empty by now, unless a child of the supervisor lives there; called at each message.
    pub(crate) fn sweep(&mut self, parent: &Node, children: &Children) {
        if self.places.is_empty() || !self.is_due() {
            return;
        }
        self.places.retain(|place| {
            let stays = is_inhabited(place);
            if !stays && children.find(parent, place.path().id()).is_none() {
                parent.remove_child(place.path().id());
            }
            stays
        });
    }

    /// Says whether all places are looked at now: at each message where there are few, and the more seldom the more there
    /// are.
    fn is_due(&mut self) -> bool {
        self.passed += 1;
        let is_due = self.passed * AT_A_TIME >= self.places.len();
        if is_due {
            self.passed = 0;
        }
        is_due
    }
}

/// Asks what runs at a place to stop, or below it if nobody runs there who would; says whether there is anybody.
fn stop(place: &Node) -> bool {
    if let Some(run) = place.current() {
        run.stop(ExitReason::Killed);
        return true;
    }
    // All of them, whatever the first says.
    let inhabited = place.children().iter().filter(|it| stop(it)).count();
    inhabited > 0
}

fn is_inhabited(place: &Node) -> bool {
    place.is_occupied() || place.children().iter().any(|it| is_inhabited(it))
}

#[cfg(test)]
mod tests {
    use perennial_lifecycle::Scope;

    use super::*;

    #[test]
    fn many_places_are_not_looked_at_for_each_message() {
        let scope = Scope::new("t");
        let times = |count: usize, messages: usize| {
            let places = vec![Arc::clone(scope.root()); count];
            let mut left_behind = LeftBehind { places, passed: 0 };
            (0..messages).filter(|_| left_behind.is_due()).count()
        };
        assert_eq!((times(1, 100), times(32, 100)), (100, 100));
        assert_eq!((times(64, 100), times(3200, 100)), (50, 1));
        assert_eq!(times(10_000, 312), 0);
    }
}
