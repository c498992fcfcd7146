//! Locks that outlive a panic, a timer that ends with its actor, and a batch of jobs under one deadline.

use std::{
    any::Any,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};

use perennial_lifecycle::{after, shield};
use ractor::{ActorRef, Message};
use tokio::{
    task::{JoinError, JoinHandle, JoinSet},
    time::timeout_at,
};

/// A boxed future, as the traits of this crate return it.
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Locks, also after a holder panicked: every critical section of this crate leaves its data usable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A message that is sent later, unless the timer is dropped before.
///
/// It lives in an actor's state, so that a killed actor leaves no timer behind.
#[derive(Debug)]
pub(crate) struct Timer(JoinHandle<()>);

impl Timer {
    /// Sends `message` to `actor` after `delay`.
    pub(crate) fn after<M: Message>(delay: Duration, actor: ActorRef<M>, message: M) -> Self {
        Self(tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            // An actor that is gone needs no tick.
            drop(actor.cast(message));
        }))
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How one job of a batch ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended<T> {
    /// It returned.
    Done(T),
    /// It panicked, with this message.
    Panicked(String),
    /// It was cut off at the deadline.
    TimedOut,
}

/// How many runs of one thing went past their deadline and have still not ended.
///
/// A future that yields ends as soon as it is aborted, so this is more than zero only while a run blocks its thread.
#[derive(Debug, Default, Clone)]
pub(crate) struct Overdue(Arc<AtomicUsize>);

impl Overdue {
    pub(crate) fn any(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }
}

const RUNNING: u8 = 0;
const ENDED: u8 = 1;
const OVERDUE: u8 = 2;

/// One run, seen from the batch and from the task: whoever comes last settles the count.
#[derive(Debug)]
struct Run {
    overdue: Overdue,
    state: AtomicU8,
}

impl Run {
    fn cut_off(&self) {
        if self.state.load(Ordering::Acquire) == ENDED {
            return;
        }
        // Count first: the task may end between the two steps, and must then find something to take back.
        self.overdue.0.fetch_add(1, Ordering::AcqRel);
        let moved =
            self.state
                .compare_exchange(RUNNING, OVERDUE, Ordering::AcqRel, Ordering::Acquire);
        if moved.is_err() {
            self.overdue.0.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// The runs of a batch; those that are still under way when the batch is over, or given up, are overdue from then on.
struct Runs(Vec<Arc<Run>>);

impl Drop for Runs {
    fn drop(&mut self) {
        self.0.iter().for_each(|run| run.cut_off());
    }
}

struct EndOnDrop(Arc<Run>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if self.0.state.swap(ENDED, Ordering::AcqRel) == OVERDUE {
            self.0.overdue.0.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// One job of a batch.
pub(crate) struct Job<T> {
    pub(crate) work: Boxed<'static, T>,
    pub(crate) overdue: Overdue,
}

/// Runs all jobs at the same time, each in a task of its own, within one time.
///
/// The results come in the order of the jobs. Dropping the future aborts every job.
pub(crate) async fn run_all<T: Send + 'static>(
    jobs: Vec<Job<T>>,
    within: Duration,
) -> Vec<Ended<T>> {
    let deadline = after(within);
    let mut ended: Vec<Option<Ended<T>>> = jobs.iter().map(|_| None).collect();
    let mut ids = Vec::with_capacity(jobs.len());
    let mut tasks = JoinSet::new();
    // Dropped first: what is cut off is counted before it is aborted.
    let mut runs = Runs(Vec::with_capacity(jobs.len()));
    for Job { work, overdue } in jobs {
        let run = Arc::new(Run {
            overdue,
            state: AtomicU8::new(RUNNING),
        });
        let guard = EndOnDrop(Arc::clone(&run));
        let handle = tasks.spawn(async move {
            let _guard = guard;
            work.await
        });
        ids.push(handle.id());
        runs.0.push(run);
    }
    while let Ok(Some(joined)) = timeout_at(deadline, tasks.join_next_with_id()).await {
        let (id, result) = match joined {
            Ok((id, value)) => (id, Ended::Done(value)),
            Err(error) => (error.id(), failed(error)),
        };
        if let Some(slot) = ids.iter().position(|known| *known == id) {
            ended[slot] = Some(result);
        }
    }
    let ended = ended.into_iter();
    ended.map(|it| it.unwrap_or(Ended::TimedOut)).collect()
}

fn failed<T>(error: JoinError) -> Ended<T> {
    match error.try_into_panic() {
        Ok(payload) => {
            let message = panic_message(payload.as_ref());
            // It may be of any type, and its drop panics once more.
            shield(|| drop(payload));
            Ended::Panicked(message)
        }
        // Only a runtime that shuts down cancels a task of the set before its deadline.
        Err(_) => Ended::TimedOut,
    }
}

/// The text of a panic, where it has one.
fn panic_message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(work: impl Future<Output = u8> + Send + 'static, overdue: &Overdue) -> Job<u8> {
        Job {
            work: Box::pin(work),
            overdue: overdue.clone(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn results_come_in_order_and_one_failure_stops_no_other() {
        let overdue = Overdue::default();
        let jobs = vec![
            job(std::future::pending(), &overdue),
            job(
                async {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    2
                },
                &overdue,
            ),
            job(async { panic!("no luck") }, &overdue),
            job(async { 4 }, &overdue),
        ];

        let ended = run_all(jobs, Duration::from_secs(1)).await;

        assert_eq!(
            ended,
            [
                Ended::TimedOut,
                Ended::Done(2),
                Ended::Panicked("no luck".to_owned()),
                Ended::Done(4)
            ]
        );
        tokio::task::yield_now().await;
        assert!(!overdue.any(), "an aborted future has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_job_throws_may_panic_itself() {
        struct Worse;
        impl Drop for Worse {
            fn drop(&mut self) {
                panic!("again");
            }
        }
        let overdue = Overdue::default();
        let jobs = vec![
            job(async { std::panic::panic_any(Worse) }, &overdue),
            job(async { 2 }, &overdue),
        ];
        let ended = run_all(jobs, Duration::from_secs(1)).await;
        assert!(matches!(ended[..], [Ended::Panicked(_), Ended::Done(2)]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_may_have_all_the_time_there_is() {
        let overdue = Overdue::default();
        let long = async {
            tokio::time::sleep(Duration::from_secs(86_400 * 365)).await;
            1
        };
        let ended = run_all(vec![job(long, &overdue)], Duration::MAX).await;
        assert_eq!(ended, [Ended::Done(1)]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_job_that_blocks_its_thread_is_overdue_until_it_ends() {
        let overdue = Overdue::default();
        // On a busy machine the job may be cut off before it has begun.
        let release = loop {
            let (release, blocked) = std::sync::mpsc::channel::<()>();
            let (started, running) = tokio::sync::oneshot::channel();
            let work = async move {
                started.send(()).unwrap();
                blocked.recv().unwrap();
                1
            };
            let batch = run_all(vec![job(work, &overdue)], Duration::from_millis(5)).await;
            assert_eq!(batch, [Ended::TimedOut]);
            if running.await.is_ok() {
                break release;
            }
        };
        assert!(overdue.any());
        release.send(()).unwrap();
        while overdue.any() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_job_that_blocks_its_thread_is_overdue_also_when_its_batch_is_given_up() {
        let overdue = Overdue::default();
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let (started, running) = tokio::sync::oneshot::channel();
        let work = async move {
            started.send(()).unwrap();
            blocked.recv().unwrap();
            1
        };
        tokio::select! {
            biased;
            _ = run_all(vec![job(work, &overdue)], Duration::MAX) => panic!("it is blocked"),
            begun = running => begun.unwrap(),
        }
        assert!(overdue.any());
        release.send(()).unwrap();
        while overdue.any() {
            tokio::task::yield_now().await;
        }
    }
}
