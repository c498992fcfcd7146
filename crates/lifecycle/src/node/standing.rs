//! What goes on at a place, for whoever waits until nothing does.

use super::{ChildState, Node};
use crate::Restart;

/// What goes on at a place at one moment; see [`Node::standing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// How many messages wait, of those that are counted.
    pub waiting: u64,
    /// Whether something goes on, or waits for somebody who will come.
    pub is_busy: bool,
    /// Which run lives here, and how many messages it has taken: two equal ones, both at rest, and nothing went on
    /// between them.
    at: (u64, u64),
}

impl Node {
    /// Returns what goes on here: a message waits, or is in hand.
    ///
    /// What waits where nobody runs counts as long as somebody may be started again.
    #[must_use]
    pub fn standing(&self) -> Standing {
        // In this order: what a run leaves behind is there before it is gone.
        let run = self.current();
        let letters = self.letters();
        match run {
            None => Standing {
                waiting: letters,
                is_busy: letters > 0 && self.comes_back(),
                at: (0, self.incarnations()),
            },
            Some(run) => {
                let waiting = letters + run.intake().depth();
                Standing {
                    waiting,
                    // What waits first: one that is taken meanwhile is in hand before it waits no more.
                    is_busy: waiting > 0 || run.is_at_work(),
                    at: (run.number(), run.taken()),
                }
            }
        }
    }

    /// Says whether the actor may be started again, as far as is known here.
    fn comes_back(&self) -> bool {
        self.state() != ChildState::Stopped || !self.is_off_duty() && self.is_wanted_back()
    }

    /// Says whether somebody who does not live here now is being started, or will be without being told to: what it holds
    /// in the tree's directory is not free.
    #[must_use]
    pub fn is_expected(&self) -> bool {
        if self.is_off_duty() {
            return false;
        }
        match self.state() {
            ChildState::Restarting | ChildState::Quarantined => true,
            ChildState::Starting => {
                // A start that was given up with its supervisor is noted as failed, and leaves the state as it was.
                let last = self.last_end().map_or(0, |end| end.incarnation);
                last < self.incarnations() || self.is_wanted_back()
            }
            ChildState::Stopped | ChildState::Running | ChildState::Stopping => {
                self.is_wanted_back()
            }
        }
    }

    /// Says whether an end such as its last is one after which it is started again.
    fn is_wanted_back(&self) -> bool {
        // Its end may not have come to its supervisor yet.
        let Some((_, restart, _)) = self.spec() else {
            return false;
        };
        let is_clean = || self.last_end().is_some_and(|end| end.reason.is_clean());
        match restart {
            Restart::Permanent => true,
            Restart::Transient => !is_clean(),
            Restart::Temporary => false,
        }
    }
}
