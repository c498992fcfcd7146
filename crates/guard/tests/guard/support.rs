//! A worker that answers, and what the tests share.

use std::io;
use std::sync::Mutex;
use std::time::Duration;

use perennial_breaker::{Breaker, BreakerConfig, Trip};
use perennial_guard::{OperationOutcome, Recorder};
use perennial_pool::{Pool, PoolConfig, PoolName, Worker, WorkerRef};
use perennial_supervisor::Supervisor;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

pub(crate) const ECHO: PoolName<EchoWorker> = PoolName::new("echo");

pub(crate) struct Echo;

impl Actor for Echo {
    type Msg = RpcReplyPort<u32>;
    type State = ();
    type Arguments = ();
    async fn pre_start(&self, _: ActorRef<Self::Msg>, _: ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        reply: Self::Msg,
        _: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(reply.send(7)?)
    }
}

pub(crate) struct EchoWorker;

impl Worker for EchoWorker {
    type Actor = Echo;
    type Client = WorkerRef<RpcReplyPort<u32>>;
    fn actor(&self) -> (Echo, ()) {
        (Echo, ())
    }
    fn client(&self, worker: WorkerRef<RpcReplyPort<u32>>) -> Self::Client {
        worker
    }
}

#[derive(Default)]
pub(crate) struct Seen(pub(crate) Mutex<Vec<OperationOutcome>>);

impl Recorder for Seen {
    fn record(&self, outcome: OperationOutcome, _: Duration) {
        self.0.lock().unwrap().push(outcome);
    }
}

pub(crate) fn breaker() -> Breaker {
    let trip = Trip::Consecutive(1);
    Breaker::new("svc", BreakerConfig::builder().trip(trip).build().unwrap())
}

pub(crate) async fn ok() -> Result<u32, io::Error> {
    Ok(1)
}

/// Succeeds after a while.
pub(crate) async fn slept(time: Duration) -> Result<(), io::Error> {
    tokio::time::sleep(time).await;
    Ok(())
}

pub(crate) async fn fail() -> Result<u32, io::Error> {
    Err(io::Error::other("broken"))
}

pub(crate) async fn pool(config: PoolConfig) -> (Supervisor, Pool<EchoWorker>) {
    let pool = Pool::new(ECHO, EchoWorker, config).unwrap();
    let supervisor = Supervisor::builder()
        .child(pool.child_spec())
        .build()
        .unwrap()
        .start("t")
        .await
        .unwrap();
    (supervisor, pool)
}
