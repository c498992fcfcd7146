use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::{
    ActorPath, Backoff, ChildKind, ChildState, EventKind, ExitReason, Incarnation, Node, Scope,
    StartError, after, shield,
};
use perennial_supervisor::{Supervisor, SupervisorSpec};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::drain::drain;
use crate::report::{CutOff, CutOffs, ShutdownReport};

/// How long to wait before the root is started again after starts that failed.
const RETRY: Backoff =
    Backoff::exponential(Duration::from_millis(100)).cap(Duration::from_secs(10));

/// How many starts of the root may fail in a row. With the waits between them they take about half a minute.
const STARTS: u32 = 10;

/// How long to wait for the end of what was killed.
const KILL_GRACE: Duration = Duration::from_secs(1);

/// How a tree came to its end.
#[derive(Clone, Debug)]
pub(crate) enum TreeEnd {
    /// It was told to stop.
    Stopped(Arc<ShutdownReport>),
    /// The root gave up: restarts were too many. Or it was lost and did not start again.
    GaveUp(ExitReason),
}

/// How the drain of a tree came to its end.
enum Drained {
    AtRest,
    OutOfTime,
    /// The root gave up meanwhile.
    GaveUp(ExitReason),
}

/// Stands above the root, whose supervisor nobody else is: brings it back when it was killed.
///
/// A root that gave up is not brought back, as in OTP, where the node then goes down. Nor is one whose starts fail again
/// and again: whoever started the process can do more about that.
pub(crate) struct Keeper {
    pub(crate) scope: Scope,
    pub(crate) spec: SupervisorSpec,
    pub(crate) root: Supervisor,
    pub(crate) shutdown_deadline: Duration,
    pub(crate) drain_deadline: Duration,
}

/// Nobody will start the root again. Where the keeper is dropped with its runtime, nobody waits for an actor of the tree
/// any more either.
impl Drop for Keeper {
    fn drop(&mut self) {
        self.scope.give_up();
    }
}

impl Keeper {
    /// Runs until the tree has ended. `stop` says when to stop it: at a deadline for its drain, or no sender left.
    pub(crate) async fn run(
        self,
        mut stop: watch::Receiver<Option<Instant>>,
        end: watch::Sender<Option<TreeEnd>>,
    ) {
        let how = loop {
            tokio::select! {
                biased;
                () = told_to(&mut stop) => {
                    break TreeEnd::Stopped(Arc::new(self.shut_down(&mut stop).await));
                }
                reason = self.root.ended() => {
                    if reason.is_clean() {
                        shield(|| tracing::error!(exit.reason = %reason, "the tree gave up"));
                        self.end_all().await;
                        break TreeEnd::GaveUp(reason);
                    }
                    shield(|| tracing::warn!(exit.reason = %reason, "the root was lost; starting it again"));
                }
            }
            // A start may take for ever, so it is given up when the tree is told to stop.
            tokio::select! {
                biased;
                () = told_to(&mut stop) => {}
                started = self.start_again() => {
                    if let Err(error) = started {
                        shield(|| tracing::error!("the tree gave up, for its root was lost: {error}"));
                        self.end_all().await;
                        break TreeEnd::GaveUp(ExitReason::failed(error));
                    }
                }
            }
        };
        // Also where the root was killed, and is not brought back now.
        drop(self);
        end.send_replace(Some(how));
    }

    /// Starts the root again, several times if need be.
    async fn start_again(&self) -> Result<(), StartError> {
        let root = self.scope.root();
        let mut delays = RETRY.delays();
        for attempt in 1.. {
            match self.spec.clone().start_in(&self.scope).await {
                Ok(_) => break,
                Err(error) if attempt == STARTS => return Err(error),
                Err(error) => {
                    let delay = delays.next().unwrap_or(RETRY.first());
                    shield(|| {
                        tracing::error!(
                            "the root did not start; trying again in {delay:?}: {error}"
                        )
                    });
                    root.set_state(ChildState::Restarting);
                    let delayed = EventKind::RestartDelayed { attempt, delay };
                    self.scope.events().emit(root.path(), delayed);
                    sleep(delay).await;
                }
            }
        }
        root.count_restart();
        Ok(())
    }

    async fn shut_down(&self, stop: &mut watch::Receiver<Option<Instant>>) -> ShutdownReport {
        let began = Instant::now();
        let drained = self.drain(stop).await;
        let drained_for = began.elapsed();
        // Before the looks: whoever ends after this tells of its letters, and whoever has ended before is found.
        self.scope.begin_to_stop();
        let runs = running(self.scope.root());
        let unmanned = waiting_for_nobody(self.scope.root());
        let late = self.end_all().await;
        let mut killed = BTreeSet::from_iter(self.scope.overdue());
        killed.extend(late);
        ShutdownReport {
            took: began.elapsed(),
            drained_for,
            ran_out_of_time: matches!(drained, Drained::OutOfTime),
            cut_off: self.cut_off(&killed, &runs, unmanned),
            killed: killed.into_iter().collect(),
            gave_up: match drained {
                Drained::GaveUp(reason) => Some(reason),
                Drained::AtRest | Drained::OutOfTime => None,
            },
        }
    }

    /// Waits until what was sent is handled.
    async fn drain(&self, stop: &mut watch::Receiver<Option<Instant>>) -> Drained {
        self.scope.shut();
        // Where the last handle was dropped, nobody has said how long.
        let asked = *stop.borrow();
        let (_known, mut known) = watch::channel(Some(after(self.drain_deadline)));
        let deadline = if asked.is_some() { stop } else { &mut known };
        // Once it has ended, it will not be brought back any more.
        let Some(root) = self.root.incarnation() else {
            return Drained::AtRest;
        };
        tokio::select! {
            biased;
            reason = root.ended() => match reason.is_clean() {
                true => {
                    shield(|| tracing::error!(exit.reason = %reason, "the tree gave up while it was drained"));
                    Drained::GaveUp(reason)
                }
                false => Drained::AtRest,
            },
            is_drained = drain(&self.scope, deadline) => match is_drained {
                true => Drained::AtRest,
                false => Drained::OutOfTime,
            },
        }
    }

    fn cut_off(
        &self,
        killed: &BTreeSet<ActorPath>,
        runs: &[(Arc<Node>, Arc<Incarnation>)],
        mut waiting: Vec<(ActorPath, u64)>,
    ) -> Vec<CutOff> {
        let mut all = CutOffs::default();
        // What waits at a supervisor, as of a pool, is the framework's own.
        let mut supervisors = BTreeSet::new();
        // Some were long ago, and end with the process at the latest.
        let mut left_behind = Vec::new();
        let mut open = vec![Arc::clone(self.scope.root())];
        while let Some(node) = open.pop() {
            let still_at_work = node.left_behind().into_iter();
            left_behind.extend(still_at_work.map(|run| (Arc::clone(&node), run)));
            match node.spec() {
                Some((ChildKind::Supervisor, ..)) => drop(supervisors.insert(node.path().clone())),
                _ => waiting.push((node.path().clone(), node.standing().waiting)),
            }
            open.extend(node.children());
        }
        for loss in self.scope.losses() {
            if !supervisors.contains(&loss.path) {
                all.add(&loss);
            }
        }
        for (path, waiting) in waiting {
            all.note_waiting(&path, waiting);
        }
        let in_vain = |it: &&(Arc<Node>, Arc<Incarnation>)| it.1.is_detached() || !it.1.has_ended();
        left_behind.extend(runs.iter().filter(in_vain).cloned());
        for (node, run) in left_behind {
            let at = all.at(node.path());
            at.left_behind = true;
            at.in_hand = run.in_hand().map(|_| run.message_type().name);
        }
        for path in killed {
            all.at(path).killed = true;
        }
        all.into_vec()
    }

    /// Stops the root, waits for the end of everything, and kills what is left at the deadline. Returns what
    /// had to be killed then.
    async fn end_all(&self) -> Vec<ActorPath> {
        let root = self.scope.root();
        let ending = async {
            self.root.stop(ExitReason::Shutdown).await;
            // A supervisor that was killed leaves orphans, which end by themselves.
            all_ended(root).await;
        };
        if timeout(self.shutdown_deadline, ending).await.is_ok() {
            return Vec::new();
        }
        shield(|| tracing::error!("the tree did not stop in time; killing what is left"));
        let late = running(root);
        for (_, run) in &late {
            run.kill();
        }
        // A handler that never yields cannot be killed: what is left then is left behind.
        drop(timeout(KILL_GRACE, all_ended(root)).await);
        late.iter().map(|(node, _)| node.path().clone()).collect()
    }
}

/// Waits until the tree is told to stop, or nobody is left who could tell.
async fn told_to(stop: &mut watch::Receiver<Option<Instant>>) {
    drop(stop.wait_for(Option::is_some).await);
}

/// Lists the places at which messages wait and nobody runs, who would tell of them at its end.
fn waiting_for_nobody(root: &Arc<Node>) -> Vec<(ActorPath, u64)> {
    let mut found = Vec::new();
    let mut open = vec![Arc::clone(root)];
    while let Some(node) = open.pop() {
        let waiting = node.standing().waiting;
        if waiting > 0 && !node.is_occupied() {
            found.push((node.path().clone(), waiting));
        }
        open.extend(node.children());
    }
    found
}

/// Waits until nothing runs at a node or below it. What its supervisor has left behind does not live there any more.
async fn all_ended(root: &Arc<Node>) {
    loop {
        let runs = running(root);
        if runs.is_empty() {
            return;
        }
        for (_, run) in runs {
            run.ended().await;
        }
    }
}

/// Lists what runs at a node and below it.
fn running(node: &Arc<Node>) -> Vec<(Arc<Node>, Arc<Incarnation>)> {
    let run = node.current().map(|run| (Arc::clone(node), run));
    let mut all: Vec<_> = run.into_iter().collect();
    for child in node.children() {
        all.extend(running(&child));
    }
    all
}
