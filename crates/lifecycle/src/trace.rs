//! The messages of one place as they are handled, for an operator.

use std::future::Ready;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

use crate::adapter::{Supervised, SupervisedState, Verdict};
use crate::{ExitReason, Incarnation, Moment, Node, RunObserver, after};

/// One message that was traced.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Traced {
    /// The run that handled it.
    pub incarnation: u64,
    /// What the actor takes.
    pub message_type: &'static str,
    /// When it was taken.
    pub at: SystemTime,
    /// How long it had waited by then, where that is written on its envelope.
    pub waited: Option<Duration>,
    /// How long the handler had it.
    pub took: Duration,
    /// What became of it.
    pub outcome: TracedOutcome,
}

/// What became of a message that was traced.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TracedOutcome {
    /// It was handled.
    Handled,
    /// The handler failed or panicked.
    Failed(ExitReason),
    /// It was skipped: its deadline had passed, or its caller had gone.
    Expired,
    /// The actor was killed over it.
    CutOff,
}

/// The next messages of one place, over all its runs; see [`Node::trace`].
///
/// Dropped, it traces no more.
#[derive(Debug)]
#[must_use = "dropped, it traces nothing"]
pub struct Trace {
    place: Weak<Node>,
    observer: Arc<Follower>,
    entries: mpsc::Receiver<Traced>,
    left: u32,
}

/// What a run tells of its messages.
#[derive(Debug)]
pub(crate) struct Tracer {
    /// How many are still wanted.
    left: AtomicU32,
    until: Instant,
    entries: mpsc::Sender<Traced>,
}

/// Puts the trace on each run that begins.
#[derive(Debug)]
struct Follower(Arc<Tracer>);

impl Node {
    /// Traces the next `messages` messages that are handled here, those of later runs included, but none that is taken
    /// more than `within` from now.
    ///
    /// The actor does not wait for whoever reads the trace.
    pub fn trace(self: &Arc<Self>, messages: u32, within: Duration) -> Trace {
        // Never full: no more entries are made than there is room for.
        let room = usize::try_from(messages.max(1)).unwrap_or(usize::MAX >> 4);
        let (sender, entries) = mpsc::channel(room);
        let tracer = Arc::new(Tracer {
            left: AtomicU32::new(messages),
            until: after(within),
            entries: sender,
        });
        let observer = Arc::new(Follower(Arc::clone(&tracer)));
        if let Some(run) = self.observe(Arc::clone(&observer) as Arc<dyn RunObserver>) {
            run.attach(&tracer);
        }
        Trace {
            place: Arc::downgrade(self),
            observer,
            entries,
            left: messages,
        }
    }
}

impl Trace {
    /// Waits for the next message that was handled; `None` after the last one, and once the time is up.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is lost.
    pub async fn next(&mut self) -> Option<Traced> {
        if self.left == 0 {
            return None;
        }
        // What is there already comes even when the time is up.
        let entry = timeout_at(self.observer.0.until, self.entries.recv());
        let entry = entry.await.ok().flatten()?;
        self.left -= 1;
        Some(entry)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let Some(place) = self.place.upgrade() else {
            return;
        };
        place.unobserve(&*self.observer);
        if let Some(run) = place.current() {
            run.detach_tracer(&self.observer.0);
        }
    }
}

impl RunObserver for Follower {
    fn run_began(&self, _: &Node, run: &Arc<Incarnation>) {
        if self.0.is_open() {
            run.attach(&self.0);
        }
    }
}

impl Tracer {
    pub(crate) fn is_open(&self) -> bool {
        self.left.load(Relaxed) > 0 && Instant::now() < self.until && !self.entries.is_closed()
    }

    fn tell(&self, entry: &Traced) {
        let left = self
            .left
            .fetch_update(Relaxed, Relaxed, |it| it.checked_sub(1));
        if left.is_ok() {
            // Nobody reads it any more.
            drop(self.entries.try_send(entry.clone()));
        }
    }
}

/// A message that is being handled; dropped before its end is known, it was cut off.
struct Handling<'a> {
    tracers: Vec<Arc<Tracer>>,
    run: &'a Incarnation,
    since: Moment,
    entry: Option<Traced>,
}

impl Handling<'_> {
    fn end(&mut self, outcome: TracedOutcome) {
        let Some(mut entry) = self.entry.take() else {
            return;
        };
        entry.took = self.run.traffic().clock().since(self.since);
        entry.outcome = outcome;
        for tracer in &self.tracers {
            tracer.tell(&entry);
        }
    }
}

impl Drop for Handling<'_> {
    fn drop(&mut self) {
        self.end(TracedOutcome::CutOff);
    }
}

impl<A: Actor> Supervised<A> {
    /// Handles a message of a run that is paused or traced.
    pub(crate) async fn inspected(
        &self,
        myself: ActorRef<A::Msg>,
        mut message: A::Msg,
        state: &mut SupervisedState<A>,
    ) -> Result<(), ActorProcessingErr> {
        let run = Arc::clone(state.life.run());
        if !run.pass().await {
            // It was never taken: the books still have it among those that wait.
            return Self::skip(message, state).await;
        }
        let tracers = run.wanted_by();
        let is_wanted = run.begin_message(&mut message).is_none();
        let waited = run.waited(&message);
        // One that is skipped and has no date was no message, but a claim for one that is gone.
        let is_message = is_wanted || waited.is_some();
        let mut handling = Handling {
            tracers,
            run: &run,
            since: run.traffic().clock().now(),
            entry: is_message.then(|| Traced {
                incarnation: run.number(),
                message_type: run.message_type().name,
                at: SystemTime::now(),
                waited,
                took: Duration::ZERO,
                outcome: TracedOutcome::CutOff,
            }),
        };
        let verdict = match is_wanted {
            true => {
                let span = run.span_of(&message);
                let delivered = self.deliver::<Ready<Verdict>>(myself, message, state);
                delivered.instrument(span).await
            }
            false => Self::skip(message, state).await,
        };
        let failed = state.life.outcome.as_deref().filter(|_| verdict.is_err());
        handling.end(match failed {
            Some(reason) => TracedOutcome::Failed(reason.clone()),
            None if is_wanted => TracedOutcome::Handled,
            None => TracedOutcome::Expired,
        });
        verdict
    }
}
