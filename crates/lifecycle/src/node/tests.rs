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
