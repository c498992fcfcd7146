use std::pin::pin;
use std::sync::Barrier;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::runtime::Builder;
use tokio::time::timeout;

use super::*;
use crate::StopPort;
use crate::adapter::Nature;

struct Idle;

impl Actor for Idle {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// An error that says whether the place can be looked at where it is dropped.
#[derive(Debug)]
struct Curious(Arc<Node>, std::sync::mpsc::Sender<bool>);

impl std::error::Error for Curious {}

impl fmt::Display for Curious {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("curious")
    }
}

impl Drop for Curious {
    fn drop(&mut self) {
        self.1.send(self.0.detail.try_lock().is_ok()).unwrap();
    }
}

#[test]
fn a_cause_that_gives_way_to_a_later_one_is_dropped_where_it_may_look_at_the_place() {
    let node = Node::new(ActorPath::root("t"));
    let child = Node::new(node.path().child("a"));
    let (tell, told) = std::sync::mpsc::channel();
    child.note_failed_start(1, &ExitReason::failed(Curious(Arc::clone(&node), tell)));
    node.escalate(&child);
    // The child forgets it.
    for incarnation in 2..20 {
        child.note_failed_start(incarnation, &ExitReason::Killed);
    }
    assert!(told.try_recv().is_err());
    node.escalate(&child);
    assert_eq!(told.try_recv(), Ok(true));
}

/// Longer than anything takes.
const FAR: Duration = Duration::from_secs(20);

/// Only the first who ever waits at a place can be missed, so each round has a place of its own.
#[test]
fn whoever_waits_for_a_run_sees_it_enter_and_leave_however_close_they_come() {
    let scope = Scope::new("t");
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let (idle, _task) = runtime.block_on(Actor::spawn(None, Idle, ())).unwrap();
    let runs: Vec<_> = (0..20_000)
        .map(|_| {
            let node = Node::new(scope.root().path().child("a"));
            let traffic = Arc::clone(scope.traffic());
            let nature = Nature::of::<(), StopPort>();
            Arc::new(Incarnation::new(
                1,
                idle.get_cell(),
                nature,
                node,
                traffic,
                None,
            ))
        })
        .collect();
    let (enters, meet) = (|at| at % 2 == 0, Barrier::new(2));
    let wait = async |node: &Node, state| {
        let changed = pin!(node.changed());
        if node.state() != state {
            changed.await;
        }
    };
    let mut missed = 0;
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for (at, run) in runs.iter().enumerate() {
                if !enters(at) {
                    run.node().enter(Arc::clone(run));
                }
                meet.wait();
                // Now sooner, now later, so that some meet in between.
                (0..at % 256).for_each(|_| std::hint::spin_loop());
                if enters(at) {
                    run.node().enter(Arc::clone(run));
                } else {
                    drop(
                        run.node()
                            .leave(run, &ExitReason::Normal, WallTime::recent()),
                    );
                }
            }
        });
        for (at, run) in runs.iter().enumerate() {
            meet.wait();
            let state = if enters(at) {
                ChildState::Running
            } else {
                ChildState::Stopped
            };
            let seen = async { timeout(FAR, wait(run.node(), state)).await };
            missed += usize::from(runtime.block_on(seen).is_err());
        }
    });
    assert_eq!(missed, 0);
}
