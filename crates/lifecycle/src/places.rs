//! The places below one in the tree.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::{ActorPath, Node};

/// Found by id; put in start order only when somebody asks for all. One word for each place, since most of what
/// a tree holds are the leaves below one supervisor.
#[derive(Default)]
pub(crate) struct Places {
    by_id: HashSet<Place, foldhash::fast::RandomState>,
    next: u64,
}

struct Place(Arc<Node>);

impl Places {
    pub(crate) fn get(&self, id: &str) -> Option<&Arc<Node>> {
        self.by_id.get(id).map(|place| &place.0)
    }

    pub(crate) fn in_order(&self) -> Vec<Arc<Node>> {
        let mut all: Vec<_> = self
            .by_id
            .iter()
            .map(|place| Arc::clone(&place.0))
            .collect();
        all.sort_unstable_by_key(|node| node.rank());
        all
    }

    pub(crate) fn find_or_add(&mut self, parent: &ActorPath, id: &str) -> Arc<Node> {
        match self.get(id) {
            Some(node) => Arc::clone(node),
            None => self.add(parent, id),
        }
    }

    pub(crate) fn move_to_end_or_add(&mut self, parent: &ActorPath, id: &str) -> Arc<Node> {
        match self.get(id) {
            Some(node) => {
                let node = Arc::clone(node);
                node.set_rank(self.next);
                self.next += 1;
                node
            }
            None => self.add(parent, id),
        }
    }

    pub(crate) fn reserve(&mut self, count: usize) {
        self.by_id.reserve(count.saturating_sub(self.by_id.len()));
    }

    pub(crate) fn remove(&mut self, id: &str) {
        self.by_id.remove(id);
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.by_id.retain(|place| keep(place.borrow()));
    }

    fn add(&mut self, parent: &ActorPath, id: &str) -> Arc<Node> {
        let node = Node::new(parent.child(id));
        node.set_rank(self.next);
        self.next += 1;
        self.by_id.insert(Place(Arc::clone(&node)));
        node
    }
}

impl Borrow<str> for Place {
    fn borrow(&self) -> &str {
        self.0.path().id()
    }
}

impl Hash for Place {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let id: &str = self.borrow();
        id.hash(state);
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        let id: &str = self.borrow();
        id == other.0.path().id()
    }
}

impl Eq for Place {}
