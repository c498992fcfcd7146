//! Waits until a tree that is shut has handled what it was sent.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::{ActorPath, Node, Scope};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// The message in hand at the moment of the shutdown may end unheard, since its actor does not stop to look who waits;
/// after this time it is looked at once more.
const SECOND_LOOK: Duration = Duration::from_millis(10);

/// Drains the tree until the deadline, which may yet be moved; says whether it came to rest.
///
/// Whoever is beyond its own limit is not waited for, nor who is put off until after it: a backoff or a quarantine ends
/// too late for what waits there to be handled.
pub(crate) async fn drain(scope: &Scope, deadline: &mut watch::Receiver<Option<Instant>>) -> bool {
    let drain = Drain {
        scope,
        began: Instant::now(),
    };
    loop {
        let until = *deadline.borrow_and_update();
        let is_over = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = drain.at_rest(until) => return true,
            () = is_over => return false,
            // Another shutdown may be in more of a hurry. Nobody left to be so: as before.
            Ok(()) = deadline.changed() => {}
        }
    }
}

struct Drain<'a> {
    scope: &'a Scope,
    began: Instant,
}

/// A place, and until when it is waited for.
struct Place {
    node: Arc<Node>,
    above: Option<Arc<Place>>,
    limit: Option<Instant>,
}

impl Place {
    /// Says whether waiting any longer is in vain, when all of it ends at `until`.
    fn is_late(&self, until: Option<Instant>) -> bool {
        let ends = [self.limit, until].into_iter().flatten().min();
        let is_over = self.limit.is_some_and(|limit| limit <= Instant::now());
        is_over || self.due().zip(ends).is_some_and(|(due, ends)| due >= ends)
    }

    /// Returns when somebody may come up here at the earliest, where that is put off, here or above.
    fn due(&self) -> Option<Instant> {
        let above = self.above.as_ref().and_then(|above| above.due());
        self.node.due().max(above)
    }
}

impl Drain<'_> {
    /// Waits until nothing waits or is in hand anywhere, but where it is too late for that by the limit of the place.
    async fn at_rest(&self, until: Option<Instant>) {
        let mut late = HashSet::new();
        loop {
            for place in self.places() {
                if !self.comes_to_rest(&place, until).await {
                    late.insert(place.node.path().clone());
                }
            }
            // A message may have gone from a place not looked at yet to one that was. Nothing has if all rest twice, and
            // none has taken anything in between.
            if let Some(first) = self.look(&late)
                && self.look(&late).is_some_and(|second| second == first)
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Waits for one place; `false` when that is in vain.
    async fn comes_to_rest(&self, place: &Place, until: Option<Instant>) -> bool {
        loop {
            // A restart that is put off changes nothing but the state. Made before the looks, or it would be missed.
            let changed = place.node.changed();
            if !place.node.standing().is_busy {
                return true;
            }
            if place.is_late(until) {
                return false;
            }
            let now = Instant::now();
            let second_look = self.began + SECOND_LOOK;
            let second_look = (now < second_look).then_some(second_look);
            let look_again = place.limit.into_iter().chain(second_look).min();
            let over = async {
                match look_again {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.scope.stirred() => {}
                () = changed => {}
                () = over => {}
            }
        }
    }

    /// Looks at all places but those that are late; `None` when one of them is busy.
    fn look(&self, late: &HashSet<ActorPath>) -> Option<Vec<perennial_lifecycle::Standing>> {
        let places = self.places().into_iter();
        let in_time = places.filter(|it| !late.contains(it.node.path()));
        let looked = in_time.map(|it| it.node.standing());
        looked.map(|it| (!it.is_busy).then_some(it)).collect()
    }

    fn places(&self) -> Vec<Arc<Place>> {
        let mut all = Vec::new();
        let mut open = vec![(Arc::clone(self.scope.root()), None)];
        while let Some((node, above)) = open.pop() {
            let own = node.drain_limit().and_then(|it| self.began.checked_add(it));
            let limit_above = above.as_ref().and_then(|above: &Arc<Place>| above.limit);
            let limit = [own, limit_above].into_iter().flatten().min();
            let children = node.children();
            let place = Arc::new(Place { node, above, limit });
            open.extend(
                children
                    .into_iter()
                    .map(|it| (it, Some(Arc::clone(&place)))),
            );
            all.push(place);
        }
        all
    }
}
