use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use futures_util::future::FusedFuture;
use ractor::{ActorRef, Message};
use tokio::task::AbortHandle;

use crate::node::{Entry, First, Found};
use crate::{ActorPath, Ended, ExitReason, Incarnation, Node};

/// The notice of an actor's end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Down {
    /// Where it lived.
    pub path: ActorPath,
    /// Which of its runs ended; a start that failed counts as one.
    pub incarnation: u64,
    /// Why.
    pub reason: ExitReason,
}

impl Down {
    fn from_end(node: &Node, end: Ended) -> Self {
        Self {
            path: node.path().clone(),
            incarnation: end.incarnation,
            reason: end.reason,
        }
    }
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            incarnation,
            reason,
        } = self;
        write!(f, "{path} #{incarnation} is down: {reason}")
    }
}

/// Watches one run of an actor, and gives one [`Down`] when it has ended.
///
/// A future: `(&mut monitor).await` waits. It is fused: once it has given its notice it stays pending for
/// good, so that a `select!` in a loop hears of the end once. Dropping it stops the watch. There may be any
/// number of monitors of one actor, each with a notice of its own; they cost the actor nothing. The place lists them:
/// [`Node::watchers`].
///
/// Made by [`Node::monitor`] for a place, which a name leads to as well, and by [`Node::monitor_run`] for
/// one exact run. A restart does not concern it: the successor needs a monitor of its own.
///
/// # Cancel safety
///
/// Cancel safe when it is polled by reference: a notice that was not returned is not lost.
///
/// # Examples
///
/// ```
/// # use perennial_lifecycle::{ExitReason, Node, Scope};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # let scope = Scope::new("shop");
/// # let node = scope.root().child_or_insert("billing");
/// # node.note_failed_start(1, &ExitReason::failed("no licence"));
/// // Gone before anybody looked: the notice comes all the same.
/// let down = node.monitor().await;
/// assert_eq!(down.to_string(), "shop/billing #1 is down: failed: no licence");
/// # }
/// ```
#[must_use = "dropping it stops the watch"]
pub struct Monitor {
    path: ActorPath,
    /// Taken away with the notice, so that there is no second one.
    end: Option<Pin<Box<dyn Future<Output = Down> + Send + Sync>>>,
    /// Until the notice; none where there is nothing to wait for.
    entry: Option<Entry>,
}

impl Monitor {
    fn new(
        node: &Node,
        end: impl Future<Output = Down> + Send + Sync + 'static,
        entry: Option<Entry>,
    ) -> Self {
        Self {
            path: node.path().clone(),
            end: Some(Box::pin(end)),
            entry,
        }
    }

    /// Returns the place that is watched.
    #[must_use]
    pub fn path(&self) -> &ActorPath {
        &self.path
    }

    /// Sends the notice to an actor, as one of its ordinary messages.
    ///
    /// The watch ends with either side: it sends at most one message, and nothing when the receiver ended
    /// before. A receiver that is restarted is another one, which has to watch for itself, best in its
    /// `pre_start`. The returned [`Watching`] may be dropped; it is for those who want to stop earlier.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime: the watch is a task.
    ///
    /// # Examples
    ///
    /// ```
    /// # use perennial_lifecycle::{Down, Node};
    /// # use ractor::ActorRef;
    /// # use std::sync::Arc;
    /// enum CourierMsg {
    ///     LedgerDown(Down),
    /// }
    ///
    /// fn watch(ledger: &Arc<Node>, myself: &ActorRef<CourierMsg>) {
    ///     ledger.monitor().send_to(myself, CourierMsg::LedgerDown);
    /// }
    /// ```
    pub fn send_to<M: Message>(
        self,
        actor: &ActorRef<M>,
        make: impl FnOnce(Down) -> M + Send + 'static,
    ) -> Watching {
        let receiver = actor.clone();
        let task = tokio::spawn(async move {
            if self.is_terminated() {
                return;
            }
            tokio::select! {
                down = self => {
                    // Fails when the receiver is gone: then nobody wants it.
                    drop(receiver.send_message(make(down)));
                }
                _ = receiver.wait(None) => {}
            }
        });
        Watching(task.abort_handle())
    }
}

impl Future for Monitor {
    type Output = Down;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Down> {
        let Some(end) = &mut self.end else {
            return Poll::Pending;
        };
        let down = ready!(end.as_mut().poll(cx));
        self.end = None;
        self.entry = None;
        Poll::Ready(down)
    }
}

impl FusedFuture for Monitor {
    fn is_terminated(&self) -> bool {
        self.end.is_none()
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor")
            .field("path", &self.path)
            .field("given", &self.is_terminated())
            .finish_non_exhaustive()
    }
}

/// A watch whose notice goes to an actor; see [`Monitor::send_to`].
///
/// Dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Watching(AbortHandle);

impl Watching {
    /// Stops the watch. A notice that is on its way already still arrives.
    pub fn stop(&self) {
        self.0.abort();
    }

    /// Says whether it is over: the notice was sent, the receiver ended, or the watch was stopped.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_finished()
    }
}

impl Node {
    /// Watches what lives here now.
    ///
    /// | at this moment | the notice |
    /// | --- | --- |
    /// | it runs | of the end of this run |
    /// | it has ended, or failed to start | of the last end, at once, also when a restart is under way |
    /// | it is being started for the first time | of this run, or of this start when it fails |
    /// | it was never started | of its first run, however late that comes |
    ///
    /// A start function that declines has started nothing: a place of which nothing else is known waits.
    #[track_caller]
    pub fn monitor(self: &Arc<Self>) -> Monitor {
        match self.found() {
            Found::Alive(run) => self.monitor_run(&run),
            Found::Ended(end) => Monitor::new(self, ready(Down::from_end(self, end)), None),
            Found::Nothing(first) => {
                let entry = Entry::new(self, None);
                Monitor::new(self, first_end(Arc::clone(self), first), Some(entry))
            }
        }
    }

    /// Watches one run of this place, also one that has ended long ago.
    ///
    /// When the notice comes, the tree's events hold the end and the parent has been told.
    #[track_caller]
    pub fn monitor_run(self: &Arc<Self>, run: &Arc<Incarnation>) -> Monitor {
        let entry = Entry::new(self, Some(run.number()));
        Monitor::new(self, end_of(Arc::clone(self), Arc::clone(run)), Some(entry))
    }
}

async fn end_of(node: Arc<Node>, run: Arc<Incarnation>) -> Down {
    Down {
        path: node.path().clone(),
        incarnation: run.number(),
        reason: run.ended().await,
    }
}

/// Waits for the end of the first run at a place where none has ended yet.
async fn first_end(node: Arc<Node>, first: Arc<OnceLock<First>>) -> Down {
    loop {
        // Before the look, or a change between it and the wait would be lost.
        let changed = node.changed();
        match first.get() {
            // Whoever polls late may find it gone long since, and others after it.
            Some(First::Run(run)) => return end_of(Arc::clone(&node), Arc::clone(run)).await,
            Some(First::FailedStart(end)) => return Down::from_end(&node, end.clone()),
            None => changed.await,
        }
    }
}
