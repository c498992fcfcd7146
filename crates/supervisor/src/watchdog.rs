//! Looks for handlers that take too long, beside the supervisor's queue: a supervisor that waits for a child to
//! stop must not miss another one that is stuck.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use perennial_lifecycle::{ChildKey, Node, Scope};
use ractor::ActorRef;
use tokio::task::AbortHandle;

use crate::event;
use crate::message::SupervisorMsg;

/// How often within the shortest limit the children are looked at.
const LOOKS: u32 = 4;

/// The watchdogs of a supervisor's children: one task for all of them, and none for a supervisor without any.
#[derive(Default)]
pub(crate) struct Watchdogs {
    watched: Arc<Mutex<HashMap<ChildKey, Watched>>>,
    task: Option<(AbortHandle, Duration)>,
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
        scope: &Scope,
        queue: &ActorRef<SupervisorMsg>,
    ) {
        let watched = Watched {
            node: Arc::clone(node),
            watchdog,
            reported: (0, 0),
        };
        lock(&self.watched).insert(key, watched);
        if let Some((task, limit)) = &self.task
            && !task.is_finished()
            && *limit <= watchdog.limit()
        {
            return;
        }
        self.stop();
        let children = Arc::clone(&self.watched);
        let scope = scope.clone();
        let queue = queue.clone();
        let task = tokio::spawn(async move {
            loop {
                let Some(limit) = shortest(&children) else {
                    return;
                };
                tokio::time::sleep((limit / LOOKS).max(Duration::from_millis(1))).await;
                for (key, child) in lock(&children).iter_mut() {
                    look(*key, child, &scope, &queue);
                }
            }
        });
        self.task = Some((task.abort_handle(), watchdog.limit()));
    }

    /// Ends the watch of a child that is forgotten.
    pub(crate) fn forget(&mut self, key: ChildKey) {
        if self.task.is_some() {
            lock(&self.watched).remove(&key);
        }
    }

    fn stop(&mut self) {
        if let Some((task, _)) = self.task.take() {
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

fn shortest(children: &Mutex<HashMap<ChildKey, Watched>>) -> Option<Duration> {
    let children = lock(children);
    children.values().map(|it| it.watchdog.limit()).min()
}

fn look(key: ChildKey, child: &mut Watched, scope: &Scope, queue: &ActorRef<SupervisorMsg>) {
    let Some(run) = child.node.current() else {
        return;
    };
    let Some(age) = run.in_hand().filter(|age| *age >= child.watchdog.limit()) else {
        return;
    };
    let message = (run.number(), run.taken());
    if child.reported == message {
        return;
    }
    child.reported = message;
    event::stuck(scope, &child.node, &run, age);
    if child.watchdog.replaces() {
        run.kill();
        let queue = queue.clone();
        let grace = child.watchdog.grace_time();
        // Detached: it ends by itself, and its message finds whether there is still something to do.
        drop(tokio::spawn(async move {
            if tokio::time::timeout(grace, run.ended()).await.is_err() {
                drop(queue.send_message(SupervisorMsg::Stuck(key, run)));
            }
        }));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in a critical section panics; a poisoned lock still holds whole values.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
