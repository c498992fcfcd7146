//! A place as it is at one moment.

use std::sync::Arc;

use tokio::time::Instant;

use super::shape::Shape;
use super::{Ended, Node, Watcher};
use crate::mailbox::ledger::Figures;
use crate::{ChildKind, Incarnation, Restart, Shutdown};

/// What is known of a place, all of one moment, but for the figures; see [`Node::view`].
#[derive(Debug)]
#[non_exhaustive]
pub struct NodeView {
    /// See [`Node::current`].
    pub current: Option<Arc<Incarnation>>,
    /// See [`Node::spec`].
    pub spec: Option<(ChildKind, Restart, Shutdown)>,
    /// See [`Node::history`].
    pub history: Vec<Ended>,
    /// See [`Node::due`].
    pub due: Option<Instant>,
    /// See [`Node::watchers`].
    pub watchers: Vec<Watcher>,
    /// See [`Node::children`].
    pub children: Vec<Arc<Node>>,
    /// See [`Node::figures`]. Those of the run that is current here.
    pub figures: Option<Figures>,
}

impl Node {
    /// Returns all that there is to be seen, in one look: what is gathered piece by piece need not fit together.
    #[must_use]
    pub fn view(&self) -> NodeView {
        let detail = self.detail();
        let current = detail.current.clone();
        let more = detail.more.as_ref();
        let mut view = NodeView {
            spec: detail.spec.map(Shape::unpack),
            history: detail.history.in_order(),
            due: more.and_then(|it| it.due),
            watchers: more.map_or_else(Vec::new, |it| it.watchers.all()),
            children: more.map_or_else(Vec::new, |it| it.children.in_order()),
            figures: None,
            current,
        };
        drop(detail);
        view.figures = self.figures_with(view.current.as_ref());
        view
    }
}
