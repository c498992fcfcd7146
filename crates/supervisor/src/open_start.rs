use std::borrow::Borrow;
use std::sync::Arc;

use perennial_lifecycle::{ChildState, ExitReason, Incarnation, Node, Shutdown};

use crate::child::{ask_to_stop, stopped};

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

    /// Waits for the end of an actor that the start has brought up and not handed over: it failed or declined later.
    ///
    /// One that does not yield to a kill is left to the next start at its place.
    pub(crate) async fn clear(&self) {
        let Some(run) = self.run() else {
            return;
        };
        run.disown();
        if run.exit_reason().is_none() {
            self.place().set_state(ChildState::Stopping);
        }
        let spec = self.place().spec();
        let shutdown = spec.map_or(Shutdown::Infinity, |(_, _, shutdown)| shutdown);
        ask_to_stop(&run, shutdown);
        drop(stopped(&run, shutdown).await);
    }

    /// Returns the run that it has brought up, while that is alive.
    fn run(&self) -> Option<Arc<Incarnation>> {
        let current = self.place().current();
        current.filter(|run| run.number() == self.number)
    }
}

impl<N: Borrow<Arc<Node>>> Drop for OpenStart<N> {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        // An actor that came up before the start was given up has an end of its own. In this order: it is
        // remembered before it leaves.
        let (node, lives) = (self.place(), self.run().is_some());
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
