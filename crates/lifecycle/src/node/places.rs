//! The places below one in the tree.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::post::FEW;
use crate::{ActorPath, Node};

/// Found by id; put in start order only when somebody asks for all. One word for each place, since most of what
/// a tree holds are the leaves below one supervisor.
#[derive(Default)]
pub(super) struct Places {
    by_id: HashSet<Place, foldhash::fast::RandomState>,
    next: u64,
}

struct Place(Arc<Node>);

impl Drop for Places {
    fn drop(&mut self) {
        let mut all: Vec<_> = self.by_id.drain().collect();
        while !all.is_empty() {
            let some = all.split_off(all.len().saturating_sub(FEW));
            some.iter().for_each(|place| place.0.expect_end());
        }
    }
}

impl Places {
    pub(super) fn get(&self, id: &str) -> Option<&Arc<Node>> {
        self.by_id.get(id).map(|place| &place.0)
    }

    pub(super) fn in_order(&self) -> Vec<Arc<Node>> {
        // The ranks first: read in a row, without a count of handles in between, they come from memory together.
        let mut all: Vec<_> = self.iter().map(|node| (node.rank(), node)).collect();
        all.sort_unstable_by_key(|(rank, _)| *rank);
        all.into_iter().map(|(_, node)| Arc::clone(node)).collect()
    }

    pub(super) fn in_any_order(&self) -> Vec<Arc<Node>> {
        let all: Vec<_> = self.iter().collect();
        let mut copied = Vec::with_capacity(all.len());
        for some in all.chunks(FEW) {
            some.iter().for_each(|it| it.look());
            copied.extend(some.iter().map(|it| Arc::clone(it)));
        }
        copied
    }

    pub(super) fn find_or_add(&mut self, parent: &ActorPath, id: &str) -> Arc<Node> {
        match self.get(id) {
            Some(node) => Arc::clone(node),
            None => self.add(parent, id),
        }
    }

    pub(super) fn move_to_end_or_add(&mut self, parent: &ActorPath, id: &str) -> Arc<Node> {
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

    pub(super) fn reserve(&mut self, count: usize) {
        self.by_id.reserve(count.saturating_sub(self.by_id.len()));
    }

    #[must_use]
    pub(super) fn remove(&mut self, id: &str) -> Option<Arc<Node>> {
        self.by_id.take(id).map(|place| place.0)
    }

    /// Removes those that `keep` refuses, and returns them.
    #[must_use]
    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) -> Vec<Arc<Node>> {
        let mut removed = Vec::new();
        self.by_id.retain(|place| {
            let is_kept = keep(place.borrow());
            if !is_kept {
                removed.push(Arc::clone(&place.0));
            }
            is_kept
        });
        removed
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.by_id.iter().map(|place| &place.0)
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

impl Node {
    /// Returns the children, in start order.
    #[must_use]
    pub fn children(&self) -> Vec<Arc<Self>> {
        let detail = self.detail();
        let more = detail.more.as_ref();
        more.map_or_else(Vec::new, |it| it.children.in_order())
    }

    /// Finds a child by id.
    #[must_use]
    pub fn child(&self, id: &str) -> Option<Arc<Self>> {
        self.detail().more.as_ref()?.children.get(id).cloned()
    }

    /// Finds a child by id, or adds it behind all others.
    pub fn child_or_insert(&self, id: &str) -> Arc<Self> {
        let mut detail = self.detail();
        detail.more().children.find_or_add(&self.path, id)
    }

    /// Finds a child by id, or adds it; either way it then stands behind all others.
    ///
    /// A supervisor does this for each child that is added to it, so that the order here is its own.
    pub fn child_at_end(&self, id: &str) -> Arc<Self> {
        let mut detail = self.detail();
        detail.more().children.move_to_end_or_add(&self.path, id)
    }

    /// Removes a child that its supervisor has forgotten, and [retires](Self::retire) it.
    pub fn remove_child(&self, id: &str) {
        let mut detail = self.detail();
        let more = detail.more.as_mut();
        let removed = more.and_then(|more| more.children.remove(id));
        drop(detail);
        if let Some(removed) = removed {
            removed.leave_tree();
        }
    }

    /// Removes every child whose id `keep` refuses, and [retires](Self::retire) it: a supervisor that starts anew knows
    /// only its specs.
    pub fn retain_children(&self, keep: impl Fn(&str) -> bool) {
        let mut detail = self.detail();
        let more = detail.more.as_mut();
        let removed = more.map(|more| more.children.retain(keep));
        drop(detail);
        for removed in removed.into_iter().flatten() {
            removed.leave_tree();
        }
    }

    /// Returns the children in no order.
    pub(super) fn children_in_any_order(&self) -> Vec<Arc<Self>> {
        let detail = self.detail();
        let more = detail.more.as_ref();
        more.map_or_else(Vec::new, |it| it.children.in_any_order())
    }

    /// Puts the children that are to come in their order, where some are there already: at once, so that nobody sees
    /// one half of them before, and the other behind, those that are started again one by one.
    pub fn arrange_children<'a>(&self, ids: impl Iterator<Item = &'a str>) {
        let mut detail = self.detail();
        let children = &mut detail.more().children;
        if !children.by_id.is_empty() {
            ids.for_each(|id| drop(children.move_to_end_or_add(&self.path, id)));
        }
    }

    /// Makes room for children that are known to come.
    pub fn expect_children(&self, count: usize) {
        if count > 0 {
            self.detail().more().children.reserve(count);
        }
    }

    /// Finds a node below this one by its full path.
    #[must_use]
    pub fn find(self: &Arc<Self>, path: &str) -> Option<Arc<Self>> {
        let rest = path.strip_prefix(self.path.as_str())?;
        if rest.is_empty() {
            return Some(Arc::clone(self));
        }
        let mut node = Arc::clone(self);
        for id in rest.strip_prefix('/')?.split('/') {
            node = node.child(id)?;
        }
        Some(node)
    }
}
