//! Looks for handlers that take too long, beside the supervisor's queue: a supervisor that waits for a child to
//! stop must not miss another one that is stuck.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use perennial_lifecycle::{ChildKey, ExitReason, Incarnation, Node, StuckHandler};
use tokio::task::AbortHandle;

use crate::child::{Parent, leave_behind};
use crate::event;

/// How often within the shortest limit the children are looked at.
const LOOKS: u32 = 4;

/// The watchdogs of a supervisor's children: one task for all of them, and none for a supervisor without any.
#[derive(Default)]
pub(crate) struct Watchdogs {
    all: Arc<Mutex<All>>,
    task: Option<AbortHandle>,
}

#[derive(Default)]
struct All {
    watched: HashMap<ChildKey, Watched>,
    /// The shortest limit, as far as the task knows; `None` without a task. Here, so that a task that finds nobody to
    /// watch and a child that comes at that moment agree on whether there is one.
    pace: Option<Duration>,
}

struct Watched {
    node: Arc<Node>,
    watchdog: perennial_lifecycle::Watchdog,
    /// The run and the message that were reported last.
    reported: (u64, u64),
}

impl Watchdogs {
    /// Begins to watch a child.
    pub(crate) fn watch(
        &mut self,
        key: ChildKey,
        node: &Arc<Node>,
        watchdog: perennial_lifecycle::Watchdog,
        parent: &Parent,
    ) {
        let watched = Watched {
            node: Arc::clone(node),
            watchdog,
            reported: (0, 0),
        };
        if !lock(&self.all).add(key, watched) {
            return;
        }
        self.stop();
        let all = Arc::clone(&self.all);
        let parent = parent.clone();
        let task = tokio::spawn(async move {
            loop {
                let Some(limit) = lock(&all).set_pace() else {
                    return;
                };
                tokio::time::sleep((limit / LOOKS).max(Duration::from_millis(1))).await;
                if parent.is_left_behind() {
                    // Whoever runs at these places is another one's child.
                    return;
                }
                // Without the lock: it is the host's code that is told of them.
                let stuck = lock(&all).stuck();
                for stuck in stuck {
                    stuck.deal_with(&parent);
                }
            }
        });
        self.task = Some(task.abort_handle());
    }

    /// Ends the watch of a child that is forgotten.
    pub(crate) fn forget(&mut self, key: ChildKey) {
        if self.task.is_some() {
            lock(&self.all).watched.remove(&key);
        }
    }

    fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Drop for Watchdogs {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Watchdogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdogs").finish_non_exhaustive()
    }
}

impl All {
    /// Adds a child, and says whether that takes a new task.
    fn add(&mut self, key: ChildKey, child: Watched) -> bool {
        let limit = child.watchdog.limit();
        self.watched.insert(key, child);
        if self.pace.is_some_and(|pace| pace <= limit) {
            return false;
        }
        self.pace = Some(limit);
        true
    }

    /// Returns the shortest limit, at whose pace the task goes on; without any it ends.
    fn set_pace(&mut self) -> Option<Duration> {
        self.pace = self.watched.values().map(|it| it.watchdog.limit()).min();
        self.pace
    }

    /// Finds the handlers that take too long, each of them once.
    fn stuck(&mut self) -> Vec<Stuck> {
        let all = self.watched.iter_mut();
        all.filter_map(|(key, child)| child.look(*key)).collect()
    }
}

impl Watched {
    fn look(&mut self, key: ChildKey) -> Option<Stuck> {
        let run = self.node.current()?;
        let age = run.in_hand().filter(|age| *age >= self.watchdog.limit())?;
        let message = (run.number(), run.taken());
        if self.reported == message {
            return None;
        }
        self.reported = message;
        Some(Stuck {
            key,
            node: Arc::clone(&self.node),
            watchdog: self.watchdog,
            run,
            age,
        })
    }
}

/// A handler that takes too long.
struct Stuck {
    key: ChildKey,
    node: Arc<Node>,
    watchdog: perennial_lifecycle::Watchdog,
    run: Arc<Incarnation>,
    age: Duration,
}

impl Stuck {
    fn deal_with(self, parent: &Parent) {
        let Self {
            key,
            node,
            watchdog,
            run,
            age,
        } = self;
        event::stuck(&parent.scope, &node, &run, age);
        if watchdog.replaces() {
            run.kill();
            let parent = parent.clone();
            // Detached: it ends by itself.
            drop(tokio::spawn(async move {
                if tokio::time::timeout(watchdog.grace_time(), run.ended())
                    .await
                    .is_err()
                {
                    replace(key, run, watchdog, &node, &parent);
                }
            }));
        }
    }
}

/// Leaves a run behind that has not yielded to its kill. Not by way of the supervisor's queue, which may be waiting for
/// this very run: for its stop, or at its place.
fn replace(
    key: ChildKey,
    run: Arc<Incarnation>,
    watchdog: perennial_lifecycle::Watchdog,
    node: &Node,
    parent: &Parent,
) {
    let stuck = StuckHandler::new(run.message_type().name, watchdog.limit());
    leave_behind(
        &parent.scope,
        node,
        &run,
        &ExitReason::failed(stuck),
        || {
            if !run.is_disowned() {
                parent.tell_ended(key, Arc::clone(&run));
            }
        },
    );
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in a critical section panics; a poisoned lock still holds whole values.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;
    use perennial_lifecycle::{ActorPath, ChildSpec, Scope, Watchdog};
    use perennial_testkit::{OnRegister, Order, Puppet};

    use crate::children::ChildEntry;
    use crate::message::deaf;

    fn child(limit: u64) -> Watched {
        Watched {
            node: Node::new(ActorPath::root("t")),
            watchdog: Watchdog::report(Duration::from_secs(limit)),
            reported: (0, 0),
        }
    }

    /// Starts a child with the key 7.
    async fn start(scope: &Scope) -> (Parent, Arc<Node>, Arc<Incarnation>) {
        let parent = Parent::new(scope.clone(), Arc::clone(scope.root()), deaf().await, 0);
        let node = scope.root().child_or_insert(&Arc::from("w"));
        let mut entry = ChildEntry::new(ChildSpec::worker("w", || (Puppet, ())), node);
        let node = Arc::clone(&entry.node);
        let started = parent.start(7, &entry, Arc::clone(&node)).await;
        parent.settle(&mut entry, started.settle());
        (parent, node, entry.alive().unwrap())
    }

    #[tokio::test]
    async fn an_end_that_it_tells_of_is_counted_as_any_other() {
        let scope = Scope::new("t");
        let (parent, node, run) = start(&scope).await;
        assert_eq!(parent.ends(), 0);
        replace(
            7,
            Arc::clone(&run),
            Watchdog::replace(Duration::from_secs(1)),
            &node,
            &parent,
        );
        assert!(run.is_detached());
        // A supervisor that has heard of more ends than it knows of takes one for waiting, for good.
        assert_eq!(parent.ends(), 1);
    }

    #[test]
    fn whoever_is_told_of_a_handler_may_use_the_supervisor() {
        let (all, free) = (OnceLock::<Arc<Mutex<All>>>::new(), OnceLock::new());
        let recorder = OnRegister(|_: &metrics::Key| {
            let all = all.get()?;
            free.get_or_init(|| all.try_lock().is_ok());
            None
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        metrics::with_local_recorder(&recorder, || {
            runtime.block_on(async {
                let scope = Scope::new("t");
                let (parent, node, run) = start(&scope).await;
                let mut watchdogs = Watchdogs::default();
                assert!(all.set(Arc::clone(&watchdogs.all)).is_ok());
                watchdogs.watch(7, &node, Watchdog::report(Duration::from_secs(1)), &parent);
                let actor = run.actor_ref().unwrap();
                assert!(actor.send_message(Order::Hang).is_ok());
                tokio::time::sleep(Duration::from_secs(2)).await;
            });
        });
        assert_eq!(free.get(), Some(&true));
    }

    #[test]
    fn a_child_that_comes_while_the_task_is_ending_gets_a_task() {
        let mut all = All::default();
        assert!(all.add(1, child(10)));
        assert!(!all.add(2, child(20)));
        all.watched.clear();
        // The task has decided to end. Whether it has yet is of no account.
        assert_eq!(all.set_pace(), None);
        assert!(all.add(3, child(20)));
    }

    #[test]
    fn a_child_with_a_shorter_limit_gets_a_new_task() {
        let mut all = All::default();
        assert!(all.add(1, child(10)));
        assert!(all.add(2, child(1)));
        all.watched.remove(&2);
        assert_eq!(all.set_pace(), Some(Duration::from_secs(10)));
        // The task sleeps for longer than this one's limit.
        assert!(all.add(3, child(2)));
    }
}
