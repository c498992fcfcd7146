//! Starting and stopping one child: what static and dynamic supervisors do alike.

use std::borrow::Borrow;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt as _;
use perennial_lifecycle::{
    ChildKey, ChildSpec, ChildState, ExitReason, Incarnation, Moment, Node, ParentLink,
    ReportContext, Restart, Scope, Shutdown, StartContext, StartError, StartFn, Started, WallTime,
};
use ractor::ActorRef;
use tokio::time::timeout;

use crate::children::{ChildEntry, Run};
use crate::event;
use crate::intensity::RestartWindow;
use crate::message::{Link, SupervisorMsg};
use crate::open_start::OpenStart;
use crate::pause::{Pause, Why};
use crate::recovery::{self, Verdict};

/// How long a killed actor may take to reach its next await before it is left behind.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// What came of calling a start function; a child in it that nobody takes over is asked to stop.
pub(crate) struct Launch<N: Borrow<Arc<Node>> = Arc<Node>> {
    number: u64,
    result: Result<Started, StartError>,
    open: OpenStart<N>,
}

impl<N: Borrow<Arc<Node>>> Launch<N> {
    /// Says that it is being taken note of.
    pub(crate) fn settle(self) -> Landed {
        self.open.settle();
        Landed {
            number: self.number,
            result: self.result,
        }
    }
}

/// What came of calling a start function, on its way into the books.
pub(crate) struct Landed {
    number: u64,
    result: Result<Started, StartError>,
}

/// What came of one start.
pub(crate) enum Start {
    /// The number of the run, and what the start function had to say.
    Running(u64, Option<Arc<str>>),
    Ignored,
    Failed(ExitReason),
}

/// What comes of a child that must be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Restart,
    /// It waits for its restart.
    Later,
    /// The supervisor ends.
    GiveUp,
}

/// A supervisor as its children see it.
#[derive(Clone)]
pub(crate) struct Parent {
    pub(crate) scope: Scope,
    pub(crate) node: Arc<Node>,
    pub(crate) queue: ActorRef<SupervisorMsg>,
    link: Arc<Link>,
    /// The supervisor's own run, and not that of a successor at the same place.
    run: Option<Arc<Incarnation>>,
}

impl Parent {
    /// Only in the supervisor's own `pre_start`.
    ///
    /// `children` is how many there will be, as far as is known.
    pub(crate) fn new(
        scope: Scope,
        node: Arc<Node>,
        queue: ActorRef<SupervisorMsg>,
        children: usize,
    ) -> Self {
        Self {
            node,
            link: Arc::new(Link::new(scope.clone(), queue.clone(), children)),
            scope,
            queue,
            run: Incarnation::current(),
        }
    }

    /// Says whether the supervisor was left behind, so that its places may be those of another by now.
    pub(crate) fn is_left_behind(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.is_detached())
    }

    /// Returns when the message in hand was taken: the clock has been read for it already.
    fn taken(&self) -> Moment {
        let taken = self.run.as_ref().and_then(|run| run.in_hand_since());
        taken.unwrap_or_else(|| self.scope.traffic().clock().now())
    }

    /// Returns how many ends its children have told of, also those that it has not heard of yet.
    pub(crate) fn ends(&self) -> u32 {
        self.link.ends()
    }

    /// Returns the child whose end has this number, as far as can be guessed.
    pub(crate) fn whose_end(&self, number: u32) -> Option<ChildKey> {
        self.link.whose(number)
    }

    /// Puts the end of a child into the supervisor's queue, now, for a run that does not tell of it itself.
    pub(crate) fn tell_ended(&self, key: ChildKey, run: Arc<Incarnation>) {
        self.link.child_ended(key, run, WallTime::now());
    }

    pub(crate) fn report(&self, context: ReportContext, child: &Node, reason: &ExitReason) {
        event::report(&self.scope, &self.node, context, child, reason);
    }

    /// Reports that a child ended by itself.
    pub(crate) fn report_end(&self, child: &Node, reason: &ExitReason, at: WallTime) {
        event::child_terminated(&self.scope, &self.node, child, reason, at);
    }

    /// Calls a child's start function, at once; [`settle`](Self::settle) says what came of it.
    pub(crate) fn start<N: Borrow<Arc<Node>> + Send + Sync>(
        &self,
        key: ChildKey,
        child: &ChildEntry,
        node: N,
    ) -> impl Future<Output = Launch<N>> + Send + use<N> {
        let spec = (!child.is_plain).then_some(&child.spec);
        self.start_by(key, spec, child.spec.start_fn(), node)
    }

    /// Like [`start`](Self::start); without a spec what has no name, no group and no mailbox of its own.
    pub(crate) fn start_by<N: Borrow<Arc<Node>> + Send + Sync>(
        &self,
        key: ChildKey,
        spec: Option<&ChildSpec>,
        function: &StartFn,
        node: N,
    ) -> impl Future<Output = Launch<N>> + Send + use<N> {
        let place: &Arc<Node> = node.borrow();
        place.begin_start();
        let name = spec.and_then(|it| it.actor_name()).cloned();
        let link = Arc::clone(&self.link) as Arc<dyn ParentLink>;
        let context = StartContext::new(Arc::clone(place), link, key, name);
        let context = match spec {
            None => context,
            Some(spec) => context
                .in_groups(spec.groups().cloned())
                .with_mailbox(spec.mailbox_setting().cloned()),
        };
        let number = context.incarnation();
        let open = OpenStart::new(node, number);
        let made = catch_unwind(AssertUnwindSafe(|| function(context)));
        async move {
            let result = match made {
                Ok(start) => {
                    let mut start = AssertUnwindSafe(start).catch_unwind();
                    let mut is_first = true;
                    poll_fn(|context| {
                        let poll = start.poll_unpin(context);
                        if poll.is_pending() && std::mem::take(&mut is_first) {
                            open.place().announce();
                        }
                        poll
                    })
                    .await
                }
                Err(payload) => Err(payload),
            };
            let result = match result {
                Ok(result) => result,
                Err(payload) => Err(StartError::from_panic(payload)),
            };
            if !matches!(result, Ok(Started::Running { .. })) {
                open.clear().boxed().await;
            }
            Launch {
                number,
                result,
                open,
            }
        }
    }

    /// Takes over what was started and records what came of it; a child that failed is left stopped.
    pub(crate) fn settle(&self, child: &mut ChildEntry, landed: Landed) -> Start {
        let Landed { number, result } = landed;
        child.run = Run::Stopped;
        match result {
            Ok(Started::Running {
                child: started,
                info,
            }) => match started.adopt() {
                Some(incarnation) => {
                    let number = incarnation.number();
                    child.begin(incarnation);
                    Start::Running(number, info)
                }
                None => Start::Ignored,
            },
            Ok(Started::Ignored) => {
                child.node.set_state(ChildState::Stopped);
                child.node.retire();
                event::ignored(&self.scope, &child.node, number);
                Start::Ignored
            }
            Err(error) => {
                // In this order: who sees that nothing runs can also see why.
                event::start_failed(&self.scope, &child.node, number, &error.reason);
                child.node.set_state(ChildState::Stopped);
                Start::Failed(error.reason)
            }
        }
    }

    /// Asks a child to stop, or kills it, by its spec, and returns the wait for its end.
    ///
    /// The wait gives its reason when that was not to be expected. It is asked at once, so that giving up the
    /// wait does not leave behind a child that knows of nothing.
    pub(crate) fn stop(
        &self,
        child: &mut ChildEntry,
    ) -> impl Future<Output = Option<ExitReason>> + Send + use<> {
        if let Run::Alive(run) = &child.run {
            run.expect_stop();
        }
        let shutdown = child.spec.shutdown_type();
        let restart = child.restart;
        let node = Arc::clone(&child.node);
        let scope = self.scope.clone();
        let run = match std::mem::replace(&mut child.run, Run::Stopped) {
            Run::Alive(run) => Some(run),
            Run::Restarting | Run::Waiting(_) | Run::Stopped => None,
        };
        match &run {
            Some(run) => {
                // This waits for it: a notice would only lie in the queue until it is thrown away.
                run.disown();
                if run.exit_reason().is_none() {
                    node.set_state(ChildState::Stopping);
                }
                ask_to_stop(run, shutdown);
            }
            None => node.set_state(ChildState::Stopped),
        }
        async move {
            let run = run?;
            let_others_run().await;
            let reason = stopped(&run, shutdown).await.unwrap_or_else(|| {
                leave_behind(&scope, &node, &run, &ExitReason::Killed, || {});
                ExitReason::Killed
            });
            // Otherwise a successor is on its way here already.
            if node.state() == ChildState::Stopping {
                node.set_state(ChildState::Stopped);
            }
            let expected = match (shutdown, &reason) {
                (Shutdown::BrutalKill, ExitReason::Killed) => true,
                (Shutdown::Within(_) | Shutdown::Infinity, ExitReason::Shutdown) => true,
                (_, reason) => restart != Restart::Permanent && reason.is_clean(),
            };
            (!expected).then_some(reason)
        }
    }

    /// Stops a child; an end that was not to be expected is reported.
    pub(crate) fn stop_and_report(
        &self,
        child: &mut ChildEntry,
    ) -> impl Future<Output = ()> + Send + use<> {
        let stop = self.stop(child);
        let node = Arc::clone(&child.node);
        let parent = self.clone();
        async move {
            if let Some(unexpected) = stop.await {
                parent.report(ReportContext::ShutdownError, &node, &unexpected);
            }
        }
    }

    /// Decides about the restart of a child that had run for `ran`; zero for a start that failed.
    pub(crate) fn decide(
        &self,
        key: ChildKey,
        child: &mut ChildEntry,
        window: &mut RestartWindow,
        ran: Duration,
    ) -> Next {
        let now = self.taken();
        match recovery::decide(child.recovery.as_deref_mut(), window, now, ran) {
            Verdict::Restart => Next::Restart,
            Verdict::Delay { delay, attempt } => {
                self.put_off(key, child, Why::Backoff, delay, attempt);
                Next::Later
            }
            Verdict::Park { delay, attempt } => {
                self.put_off(key, child, Why::Quarantine, delay, attempt);
                Next::Later
            }
            Verdict::GiveUp => {
                child.run = Run::Stopped;
                child.node.set_state(ChildState::Stopped);
                self.node.escalate(&child.node);
                let exceeded = ExitReason::failed("reached_max_restart_intensity");
                self.report(ReportContext::Shutdown, &child.node, &exceeded);
                Next::GiveUp
            }
        }
    }

    /// Puts the restart of a child off; the supervisor will hear `Due`.
    fn put_off(
        &self,
        key: ChildKey,
        child: &mut ChildEntry,
        why: Why,
        delay: Duration,
        attempt: u32,
    ) {
        match why {
            Why::Backoff => event::delayed(&self.scope, &child.node, attempt, delay),
            Why::Quarantine => event::quarantined(&self.scope, &child.node, attempt, delay),
        }
        // Before the new wait begins, the old one takes its traces away.
        child.run = Run::Stopped;
        // No two waits of a child follow the same run: between them it was started, or tried to.
        let ticket = child.node.incarnations();
        let pause = Pause::begin(why, delay, key, ticket, &child.node, &self.queue);
        child.run = Run::Waiting(Box::new(pause));
    }

    /// Lets children go whose supervisor ends without having stopped them: killed, it cannot.
    pub(crate) fn release(&self, orphans: Vec<Arc<Incarnation>>) {
        let orphans = Orphans(orphans);
        if orphans.0.is_empty() {
            return;
        }
        // They notice the supervisor's end, so it comes first. One that did not get through its start has none to come,
        // and one that was left behind has had it. Without a runtime nobody can wait.
        if let Some(run) = self.run.clone().filter(|run| run.is_present())
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            // Detached: it ends with the supervisor.
            drop(runtime.spawn(async move {
                run.ended().await;
                drop(orphans);
            }));
        }
    }
}

/// Lets everybody have a turn who is ready for one now: most children end in theirs, and need no timer.
pub(crate) async fn let_others_run() {
    let mut given = false;
    poll_fn(|context| {
        if given {
            return Poll::Ready(());
        }
        given = true;
        // Not tokio's `yield_now`, which also asks the operating system for events each time.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Asks a child to stop, or kills it, as its spec says.
pub(crate) fn ask_to_stop(run: &Incarnation, shutdown: Shutdown) {
    match shutdown {
        Shutdown::BrutalKill => run.kill(),
        Shutdown::Within(_) | Shutdown::Infinity => run.stop(ExitReason::Shutdown),
    }
}

/// Waits for the end of a run that was [asked to stop](ask_to_stop), and kills it when its time is over; `None` if it does
/// not yield to a kill.
pub(crate) async fn stopped(run: &Incarnation, shutdown: Shutdown) -> Option<ExitReason> {
    if run.has_ended() || shutdown == Shutdown::Infinity {
        return Some(run.ended().await);
    }
    let mut is_late = false;
    if let Shutdown::Within(limit) = shutdown {
        if let Ok(reason) = timeout(limit, run.ended()).await {
            return Some(reason);
        }
        is_late = true;
        run.kill();
    }
    let end = timeout(KILL_GRACE, run.ended()).await.ok();
    // Unless it has come to its end by itself at that moment.
    if is_late && matches!(end, None | Some(ExitReason::Killed)) {
        run.note_overdue();
    }
    end
}

/// Gives up on a run that does not yield to a kill, unless it has ended meanwhile; see [`Node::abandon`].
pub(crate) fn leave_behind(
    scope: &Scope,
    node: &Node,
    run: &Arc<Incarnation>,
    reason: &ExitReason,
    tell: impl FnOnce(),
) {
    if node.abandon(scope, run, reason, tell) {
        event::detached(node);
    }
}

/// Says whether a child that ended for this reason is started again.
pub(crate) fn comes_back(restart: Restart, reason: &ExitReason) -> bool {
    match restart {
        Restart::Permanent => true,
        Restart::Transient => !reason.is_clean(),
        Restart::Temporary => false,
    }
}

/// Says whether the end of a child by itself is worth a report.
pub(crate) fn is_reported(restart: Restart, reason: &ExitReason) -> bool {
    restart == Restart::Permanent || !reason.is_clean()
}

/// Children whose supervisor has gone; asked to stop when dropped, whatever comes between.
struct Orphans(Vec<Arc<Incarnation>>);

impl Drop for Orphans {
    fn drop(&mut self) {
        for orphan in &self.0 {
            orphan.stop(ExitReason::Killed);
        }
    }
}
