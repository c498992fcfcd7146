use std::borrow::Borrow;
use std::sync::Arc;

use perennial_lifecycle::{ExitReason, Node};

/// A start of which nobody has taken note yet.
///
/// A supervisor that is killed, or a start that is given up, drops it so. Whoever watches the place would
/// otherwise wait for the end of a run that never was.
pub(crate) struct OpenStart<N: Borrow<Arc<Node>>> {
    node: N,
    number: u64,
    settled: bool,
}

impl<N: Borrow<Arc<Node>>> OpenStart<N> {
    pub(crate) fn new(node: N, number: u64) -> Self {
        Self {
            node,
            number,
            settled: false,
        }
    }

    pub(crate) fn place(&self) -> &Arc<Node> {
        self.node.borrow()
    }

    pub(crate) fn settle(mut self) {
        self.settled = true;
    }
}

impl<N: Borrow<Arc<Node>>> Drop for OpenStart<N> {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        // An actor that came up before the start was given up has an end of its own. In this order: it is
        // remembered before it leaves.
        let node = self.place();
        let current = node.current();
        let lives = current.is_some_and(|run| run.number() == self.number);
        let ended = || {
            node.history()
                .iter()
                .any(|end| end.incarnation == self.number)
        };
        if !lives && !ended() {
            node.note_failed_start(self.number, &ExitReason::Killed);
            node.announce();
        }
    }
}
