//! Calls that would never be answered, by way of a worker on loan.

use std::future::Future;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use perennial::{ChildSpec, Name, PoolConfig, PoolName, Tree, Worker, WorkerRef};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::time::Instant;

use crate::support::{patient, shut_down};

const MINUTE: Duration = Duration::from_secs(60);
const CLERK: Name<Work> = Name::new("clerk");
const DOERS: PoolName<DoerWorker> = PoolName::new("doers");

struct Work(Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>);

/// Does in its handler what it is given.
struct Doer;

impl Actor for Doer {
    type Msg = Work;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Work>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Work>,
        Work(work): Work,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        work().await;
        Ok(())
    }
}

struct DoerWorker;

impl Worker for DoerWorker {
    type Actor = Doer;
    type Client = WorkerRef<Work>;

    fn actor(&self) -> (Doer, ()) {
        (Doer, ())
    }

    fn client(&self, worker: WorkerRef<Work>) -> WorkerRef<Work> {
        worker
    }
}

/// Has somebody do this, and answer with what it comes to.
fn answering<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> impl FnOnce(RpcReplyPort<T>) -> Work {
    move |reply| {
        Work(Box::new(move || {
            work.map(|answer| drop(reply.send(answer))).boxed()
        }))
    }
}

async fn tree() -> Tree {
    Tree::builder("t")
        .settings(patient())
        .pool(DOERS, DoerWorker, PoolConfig::new(1))
        .child(ChildSpec::worker("clerk", || (Doer, ())))
        .start()
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn msg_18_a_worker_that_calls_the_handler_that_waits_for_it_is_refused() {
    let home = tree().await;
    let away = tree().await;
    for lender in [&home, &away] {
        let began = Instant::now();
        let (home, lender) = (home.clone(), lender.clone());
        let inside = home.clone();
        let lend = async move {
            let worker = lender.pool(DOERS).unwrap().checkout().await.unwrap();
            let call_back = async move {
                let back = inside.call(CLERK, answering(async {}), MINUTE).await;
                back.map_err(|error| error.to_string())
            };
            worker.call(answering(call_back)).await.unwrap()
        };
        let refused = home.call(CLERK, answering(lend), MINUTE).await.unwrap();
        assert_eq!(
            refused.unwrap_err(),
            "a call to `clerk` would never be answered: \
             t/pools/doers/worker-1 -> t/host/clerk -> t/pools/doers/worker-1"
        );
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(home.scope().traffic().waits().list().is_empty());
    }
    for tree in [home, away] {
        assert!(shut_down(&tree).await.is_clean());
    }
}

#[tokio::test(start_paused = true)]
async fn msg_18_a_call_to_a_worker_that_waits_for_the_caller_is_refused() {
    let tree = tree().await;
    let began = Instant::now();
    let loan = tree.pool(DOERS).unwrap().checkout().await.unwrap();
    let (inside, worker) = (tree.clone(), loan.clone());
    let call = async move {
        let call_back = async move {
            let back = worker.call(answering(async {})).await;
            back.map_err(|error| error.to_string())
        };
        inside
            .call(CLERK, answering(call_back), MINUTE)
            .await
            .unwrap()
    };
    let refused = loan.call(answering(call)).await.unwrap();
    assert_eq!(
        refused.unwrap_err(),
        "a call to the worker would never be answered: \
         t/host/clerk -> t/pools/doers/worker-1 -> t/host/clerk"
    );
    assert_eq!(began.elapsed(), Duration::ZERO);
    // The worker is in order, and is lent again.
    let run = loan.incarnation().number();
    drop(loan);
    let again = tree.pool(DOERS).unwrap().checkout().await.unwrap();
    assert_eq!(again.incarnation().number(), run);
    drop(again);
    assert!(shut_down(&tree).await.is_clean());
}
