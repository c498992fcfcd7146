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
    /// Those that a supervisor has added when there were none. They are entered below when somebody looks for an id: to
    /// enter each at once would take a tenth of the time of its start, most of it a wait for memory.
    new: Vec<Arc<Node>>,
    by_id: HashSet<Place, foldhash::fast::RandomState>,
    next: u64,
}

struct Place(Arc<Node>);

/// The right to add children to a place without a look for each; see [`Node::arrange_children`].
#[derive(Debug)]
#[must_use]
pub struct Arranged {
    /// The rank that the next child gets if nobody else adds one before; `None` if there were children before.
    next: Option<u64>,
}

impl Drop for Places {
    fn drop(&mut self) {
        let mut all = std::mem::take(&mut self.new);
        all.extend(self.by_id.drain().map(|place| place.0));
        while !all.is_empty() {
            let some = all.split_off(all.len().saturating_sub(FEW));
            some.iter().for_each(|place| place.expect_end());
        }
    }
}

impl Places {
    pub(super) fn get(&mut self, id: &str) -> Option<&Arc<Node>> {
        self.index();
        self.by_id.get(id).map(|place| &place.0)
    }

    /// Enters those by their ids that are not yet.
    #[inline]
    fn index(&mut self) {
        if !self.new.is_empty() {
            self.index_new();
        }
    }

    #[cold]
    fn index_new(&mut self) {
        let new = std::mem::take(&mut self.new);
        self.by_id.reserve(new.capacity());
        self.by_id.extend(new.into_iter().map(Place));
    }

    fn is_empty(&self) -> bool {
        self.new.is_empty() && self.by_id.is_empty()
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

    /// Adds one of several with different ids, without a look, as long as nobody else has added any since the first.
    fn add_arranged(&mut self, arranged: &mut Arranged, parent: &ActorPath, id: &str) -> Arc<Node> {
        if arranged.next != Some(self.next) {
            return self.find_or_add(parent, id);
        }
        let node = self.make(parent, id);
        self.new.push(Arc::clone(&node));
        arranged.next = Some(self.next);
        node
    }

    pub(super) fn reserve(&mut self, count: usize) {
        if self.by_id.is_empty() {
            self.new.reserve(count.saturating_sub(self.new.len()));
        } else {
            self.by_id.reserve(count.saturating_sub(self.by_id.len()));
        }
    }

    #[must_use]
    pub(super) fn remove(&mut self, id: &str) -> Option<Arc<Node>> {
        self.index();
        self.by_id.take(id).map(|place| place.0)
    }

    /// Removes those that `keep` refuses, and returns them.
    #[must_use]
    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) -> Vec<Arc<Node>> {
        let mut removed = Vec::new();
        self.index();
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
        let known = self.by_id.iter().map(|place| &place.0);
        self.new.iter().chain(known)
    }

    /// Adds one that was looked for: so all are entered by their ids.
    fn add(&mut self, parent: &ActorPath, id: &str) -> Arc<Node> {
        let node = self.make(parent, id);
        self.by_id.insert(Place(Arc::clone(&node)));
        node
    }

    fn make(&mut self, parent: &ActorPath, id: &str) -> Arc<Node> {
        let node = Node::new(parent.child(id));
        node.set_rank(self.next);
        self.next += 1;
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
        self.detail().more.as_mut()?.children.get(id).cloned()
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
    ///
    /// Their ids must differ. They are to be [added](Self::add_arranged) in this order.
    pub fn arrange_children<'a>(&self, ids: impl Iterator<Item = &'a str>) -> Arranged {
        let mut detail = self.detail();
        let children = &mut detail.more().children;
        let is_first = children.is_empty();
        if !is_first {
            ids.for_each(|id| drop(children.move_to_end_or_add(&self.path, id)));
        }
        Arranged {
            next: is_first.then_some(children.next),
        }
    }

    /// Adds the next of the children that were arranged, or finds it, as [`child_or_insert`](Self::child_or_insert) does.
    pub fn add_arranged(&self, arranged: &mut Arranged, id: &str) -> Arc<Self> {
        let mut detail = self.detail();
        let children = &mut detail.more().children;
        children.add_arranged(arranged, &self.path, id)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(node: &Node) -> Vec<String> {
        let children = node.children();
        children.iter().map(|it| it.path().id().into()).collect()
    }

    fn arrange(node: &Node, ids: &[&str]) -> Arranged {
        node.arrange_children(ids.iter().copied())
    }

    #[test]
    fn what_was_added_without_a_look_is_found_and_added_to_as_all_else() {
        let node = Node::new(ActorPath::root("t"));
        node.expect_children(4);
        let mut arranged = arrange(&node, &["d", "a", "c", "b"]);
        let d = node.add_arranged(&mut arranged, "d");
        let a = node.add_arranged(&mut arranged, "a");
        assert_eq!(ids(&node), ["d", "a"]);

        assert!(Arc::ptr_eq(&node.child("d").unwrap(), &d));
        assert!(Arc::ptr_eq(&node.child_or_insert("a"), &a));
        assert!(node.child("c").is_none());
        // Somebody has looked in between.
        let c = node.add_arranged(&mut arranged, "c");
        node.add_arranged(&mut arranged, "b");
        assert_eq!(ids(&node), ["d", "a", "c", "b"]);
        assert!(Arc::ptr_eq(&node.child("c").unwrap(), &c));

        node.remove_child("a");
        assert!(Arc::ptr_eq(&node.child_at_end("d"), &d));
        node.retain_children(|id| id != "b");
        assert_eq!(ids(&node), ["c", "d"]);
        assert_eq!(a.path().as_str(), "t/a");
    }

    #[test]
    fn places_that_are_there_are_found_in_their_new_order() {
        let node = Node::new(ActorPath::root("t"));
        let mut arranged = arrange(&node, &["a", "b"]);
        let a = node.add_arranged(&mut arranged, "a");
        let mut arranged = arrange(&node, &["b", "a"]);
        assert_eq!(ids(&node), ["b", "a"]);
        node.add_arranged(&mut arranged, "b");
        assert!(Arc::ptr_eq(&node.add_arranged(&mut arranged, "a"), &a));
        assert_eq!(ids(&node), ["b", "a"]);
    }

    /// A supervisor that was left behind in its start may go on beside the next one.
    #[test]
    fn two_that_add_the_same_children_share_their_places() {
        for interleaved in 0_u32..1 << 6 {
            let node = Node::new(ActorPath::root("t"));
            let mut both = [arrange(&node, &[]), arrange(&node, &[])];
            let mut rest = [["a", "b", "c"]; 2].map(|ids| ids.into_iter());
            let mut found = [Vec::new(), Vec::new()];
            for step in 0..12 {
                let who = usize::from(interleaved >> (step % 6) & 1 == 1);
                if let Some(id) = rest[who].next() {
                    found[who].push(node.add_arranged(&mut both[who], id));
                }
            }
            assert_eq!(node.children().len(), found[0].len().max(found[1].len()));
            for (one, other) in found[0].iter().zip(&found[1]) {
                assert!(Arc::ptr_eq(one, other));
            }
            // Before anybody looks, and after.
            assert!(found.iter().flatten().all(|it| {
                let known = node.child(it.path().id()).unwrap();
                Arc::ptr_eq(&known, it)
            }));
        }
    }
}
