use std::sync::Arc;

use perennial_lifecycle::{ExitReason, Node};

/// A start of which nobody has taken note yet.
///
/// A supervisor that is killed, or a start that is given up, drops it so. Whoever watches the place would
/// otherwise wait for the end of a run that never was.
pub(crate) struct OpenStart {
    node: Arc<Node>,
    number: u64,
    settled: bool,
}

impl OpenStart {
    pub(crate) fn new(node: Arc<Node>, number: u64) -> Self {
        Self {
            node,
            number,
            settled: false,
        }
    }

    pub(crate) fn settle(mut self) {
        self.settled = true;
    }
}

impl Drop for OpenStart {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        // An actor that came up before the start was given up has an end of its own. In this order: it is
        // remembered before it leaves.
        let current = self.node.current();
        let lives = current.is_some_and(|run| run.number() == self.number);
        let ended = || {
            self.node
                .history()
                .iter()
                .any(|end| end.incarnation == self.number)
        };
        if !lives && !ended() {
            self.node
                .note_failed_start(self.number, &ExitReason::Killed);
            self.node.announce();
        }
    }
}
