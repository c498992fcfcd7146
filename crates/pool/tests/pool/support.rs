//! A worker that does what it is told, and a tree with one pool of them.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use perennial_lifecycle::{Events, ExitReason, Incarnation, Node, Scope};
use perennial_pool::{
    CheckoutError, Pool, PoolConfig, PoolStatus, PoolStrategy, Worker, WorkerError, WorkerRef,
};
use perennial_supervisor::Supervisor;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::Notify;

pub(crate) enum Msg {
    Echo(u32, RpcReplyPort<u32>),
    /// Answers once it is told to.
    Hold(Arc<Notify>, RpcReplyPort<u32>),
    Fail(RpcReplyPort<u32>),
    Panic(RpcReplyPort<u32>),
    Stop(RpcReplyPort<u32>),
    Forget(RpcReplyPort<u32>),
    Count,
    Counted(RpcReplyPort<u32>),
}

pub(crate) struct Probe {
    failing: Arc<AtomicBool>,
    start: Arc<Gate>,
}

/// Lets starts through, unless shut.
#[derive(Default)]
pub(crate) struct Gate {
    shut: AtomicBool,
    reached: Notify,
    opened: Notify,
}

impl Gate {
    pub(crate) fn shut(&self) {
        self.shut.store(true, SeqCst);
    }

    pub(crate) fn open(&self) {
        self.shut.store(false, SeqCst);
        self.opened.notify_waiters();
    }

    /// Waits until a start stands before the gate.
    pub(crate) async fn reached(&self) {
        self.reached.notified().await;
    }

    async fn pass(&self) {
        loop {
            let opened = self.opened.notified();
            if !self.shut.load(SeqCst) {
                return;
            }
            self.reached.notify_one();
            opened.await;
        }
    }
}

impl Actor for Probe {
    type Msg = Msg;
    type State = u32;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Msg>, (): ()) -> Result<u32, ActorProcessingErr> {
        self.start.pass().await;
        if self.failing.load(SeqCst) {
            return Err("no connection".into());
        }
        Ok(0)
    }

    async fn handle(
        &self,
        myself: ActorRef<Msg>,
        message: Msg,
        count: &mut u32,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Echo(value, reply) => drop(reply.send(value)),
            Msg::Hold(until, reply) => {
                until.notified().await;
                drop(reply.send(0));
            }
            Msg::Fail(_reply) => return Err("told to fail".into()),
            Msg::Panic(_reply) => panic!("told to panic"),
            Msg::Stop(_reply) => myself.stop(None),
            Msg::Forget(reply) => drop(reply),
            Msg::Count => *count += 1,
            Msg::Counted(reply) => drop(reply.send(*count)),
        }
        Ok(())
    }
}

#[derive(Clone)]
pub(crate) struct Client(pub(crate) WorkerRef<Msg>);

impl Client {
    pub(crate) async fn echo(&self, value: u32) -> Result<u32, WorkerError> {
        self.0.call(|reply| Msg::Echo(value, reply)).await
    }

    pub(crate) async fn hold(&self, until: &Arc<Notify>) -> Result<u32, WorkerError> {
        let until = Arc::clone(until);
        self.0.call(|reply| Msg::Hold(until, reply)).await
    }
}

#[derive(Clone, Default)]
pub(crate) struct ProbeWorker {
    pub(crate) failing: Arc<AtomicBool>,
    pub(crate) start: Arc<Gate>,
    pub(crate) made: Arc<AtomicUsize>,
    /// What a check finds; it asks the worker as well.
    pub(crate) unfit: Arc<AtomicBool>,
    pub(crate) checks: Arc<AtomicUsize>,
    /// The next check panics: before it has begun to wait, or after.
    pub(crate) panics: Arc<Mutex<Option<When>>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum When {
    AtOnce,
    Later,
}

impl Worker for ProbeWorker {
    type Actor = Probe;
    type Client = Client;

    fn actor(&self) -> (Probe, ()) {
        self.made.fetch_add(1, SeqCst);
        let probe = Probe {
            failing: Arc::clone(&self.failing),
            start: Arc::clone(&self.start),
        };
        (probe, ())
    }

    fn client(&self, worker: WorkerRef<Msg>) -> Client {
        Client(worker)
    }

    async fn check(&self, client: &Client) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.checks.fetch_add(1, SeqCst);
        let panics = self.panics.lock().unwrap().take();
        assert_ne!(panics, Some(When::AtOnce));
        client.echo(1).await?;
        assert_ne!(panics, Some(When::Later));
        // The one that finds it is the last that does.
        if self.unfit.swap(false, SeqCst) {
            return Err("the connection is stale".into());
        }
        Ok(())
    }
}

pub(crate) struct Fixture {
    pub(crate) scope: Scope,
    pub(crate) root: Supervisor,
    pub(crate) pool: Pool<ProbeWorker>,
    pub(crate) worker: ProbeWorker,
    pub(crate) events: Events,
}

pub(crate) fn config(size: usize, max_overflow: usize) -> PoolConfig {
    PoolConfig::new(size)
        .max_overflow(max_overflow)
        .strategy(PoolStrategy::Fifo)
        .wait_timeout(Duration::from_secs(5))
}

impl Fixture {
    pub(crate) async fn start(config: PoolConfig) -> Self {
        let worker = ProbeWorker::default();
        let pool = Pool::new("db", worker.clone(), config).unwrap();
        let scope = Scope::new("test");
        let events = scope.events().subscribe();
        let root = Supervisor::builder()
            .intensity(perennial_supervisor::RestartIntensity::new(
                100_000,
                Duration::from_secs(1),
            ))
            .child(pool.child_spec())
            .build()
            .unwrap()
            .start_in(&scope)
            .await
            .unwrap();
        Self {
            scope,
            root,
            pool,
            worker,
            events,
        }
    }

    pub(crate) fn node(&self, id: &str) -> Arc<Node> {
        let path = format!("test/db/{id}");
        self.scope.root().find(&path).unwrap()
    }

    pub(crate) fn run(&self, id: &str) -> Arc<Incarnation> {
        self.node(id).current().unwrap()
    }

    pub(crate) fn supervisor(&self) -> Supervisor {
        Supervisor::at(&self.scope.root().child("db").unwrap()).unwrap()
    }

    /// Waits until the tree has come to where `reached` holds.
    pub(crate) async fn until(&mut self, reached: impl Fn(&Self) -> bool) {
        while !reached(self) {
            // Which one it is, or how many were missed, does not matter here.
            assert!(self.events.next().await.is_some(), "the tree is gone");
        }
    }

    /// Waits until all kept workers are up and nothing else is; then checks the books.
    pub(crate) async fn at_rest(&mut self) {
        let size = self.pool.status().size;
        self.until(|it| it.pool.status().down == 0).await;
        let expected = status(&self.pool, size, 0, 0, 0);
        assert_eq!(self.pool.status(), expected);
        assert!(self.pool.holders().is_empty());
    }

    /// Checks that the pool lends all it has, each worker answering, and no more.
    pub(crate) async fn lends_all(&mut self) {
        self.at_rest().await;
        let PoolStatus {
            size, max_overflow, ..
        } = self.pool.status();
        let mut held = Vec::new();
        for value in 0..u32::try_from(size + max_overflow).unwrap() {
            let checkout = self.pool.checkout().await.unwrap();
            assert_eq!(checkout.echo(value).await.unwrap(), value);
            held.push(checkout);
        }
        let more = self.pool.try_checkout().await;
        assert!(matches!(more, Err(CheckoutError::Exhausted { .. })));
        drop(held);
        self.at_rest().await;
    }

    pub(crate) async fn stop(&self) {
        self.root.stop(ExitReason::Shutdown).await;
    }
}

pub(crate) fn status(
    pool: &Pool<ProbeWorker>,
    idle: usize,
    in_use: usize,
    overflow: usize,
    waiting: usize,
) -> PoolStatus {
    let mut status = pool.status();
    status.idle = idle;
    status.in_use = in_use;
    status.overflow = overflow;
    status.waiting = waiting;
    status.down = 0;
    status
}

/// Polls a future once.
pub(crate) fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Lets every task that is ready go on until none is.
pub(crate) async fn let_others_run() {
    // The clock is paused and moves only when nothing else can.
    tokio::time::sleep(Duration::from_nanos(1)).await;
}
