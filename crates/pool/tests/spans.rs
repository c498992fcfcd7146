//! The spans of holders. Alone here, since who listens to spans is settled for a whole process.

use perennial_pool::{Pool, PoolConfig, Worker, WorkerRef};
use perennial_supervisor::Supervisor;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tracing::Instrument as _;

struct Idle;

impl Actor for Idle {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

struct IdleWorker;

impl Worker for IdleWorker {
    type Actor = Idle;
    type Client = ();

    fn actor(&self) -> (Idle, ()) {
        (Idle, ())
    }

    fn client(&self, _: WorkerRef<()>) {}
}

#[tokio::test(start_paused = true)]
async fn holders_are_listed_with_the_span_that_they_checked_out_in() {
    let pool = Pool::new("idle", IdleWorker, PoolConfig::new(2)).unwrap();
    let tree = Supervisor::builder().child(pool.child_spec()).build();
    let _tree = tree.unwrap().start("t").await.unwrap();
    let _listening = tracing::subscriber::set_default(tracing_subscriber::registry());
    let span = tracing::info_span!("order");
    let held = pool.checkout().instrument(span.clone()).await.unwrap();
    // The longest is listed first.
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    let other = pool.checkout().await.unwrap();

    let holders = pool.holders();
    assert_eq!(holders[0].span.id(), span.id());
    assert!(span.id().is_some() && holders[1].span.is_none());
    drop((held, other));
}
