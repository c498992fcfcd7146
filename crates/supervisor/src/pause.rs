//! A restart that is put off.

use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::{ChildKey, ChildState, Node};
use ractor::ActorRef;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::message::SupervisorMsg;

/// Why a restart is put off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Backoff,
    Quarantine,
}

/// A child that waits for its restart. Dropped, it no longer does: whatever has begun meanwhile stands.
#[derive(Debug)]
pub(crate) struct Pause {
    pub(crate) why: Why,
    pub(crate) due: Instant,
    /// Tells this wait from an earlier one of the same child, whose message may still be in the queue.
    pub(crate) ticket: u64,
    node: Arc<Node>,
    timer: AbortHandle,
}

impl Pause {
    /// Puts the restart of a child off; the supervisor hears of the end of the delay as `Due`.
    pub(crate) fn begin(
        why: Why,
        delay: Duration,
        key: ChildKey,
        ticket: u64,
        node: &Arc<Node>,
        queue: &ActorRef<SupervisorMsg>,
    ) -> Self {
        let due = Instant::now() + delay;
        node.set_due(Some(due));
        node.set_state(match why {
            Why::Backoff => ChildState::Restarting,
            Why::Quarantine => ChildState::Quarantined,
        });
        let queue = queue.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep_until(due).await;
            // Fails only when the supervisor has ended.
            drop(queue.send_message(SupervisorMsg::Due(key, ticket)));
        });
        Self {
            why,
            due,
            ticket,
            node: Arc::clone(node),
            timer: timer.abort_handle(),
        }
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.timer.abort();
        // A supervisor that was left behind drops it late, when its successor may put off a restart at the same place.
        self.node.clear_due(self.due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perennial_lifecycle::ActorPath;

    #[tokio::test(start_paused = true)]
    async fn one_that_is_dropped_late_leaves_that_of_a_successor() {
        let (node, queue) = (
            Node::new(ActorPath::root("t")),
            crate::message::deaf().await,
        );
        let second = Duration::from_secs(1);
        let put_off = |delay| Pause::begin(Why::Backoff, delay, 1, 1, &node, &queue);
        let (left_behind, present) = (put_off(second), put_off(2 * second));
        drop(left_behind);
        assert_eq!(node.due(), Some(present.due));
        drop(present);
        assert_eq!(node.due(), None);
    }
}
