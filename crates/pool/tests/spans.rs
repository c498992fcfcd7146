//! The spans of holders. Alone here, since who listens to spans is settled for a whole process.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::task::{Poll, Waker};
use std::time::Duration;

use perennial_lifecycle::Scope;
use perennial_pool::{Pool, PoolConfig, Worker, WorkerRef};
use perennial_supervisor::Supervisor;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tracing::level_filters::LevelFilter;
use tracing::span::Id;
use tracing::{Instrument as _, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

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

/// Looks whether the pool can be asked where a span is closed.
#[derive(Clone)]
struct Watchful {
    pool: Pool<IdleWorker>,
    looks: Arc<AtomicUsize>,
    locked: Arc<AtomicUsize>,
}

impl<S: Subscriber> Layer<S> for Watchful {
    fn on_close(&self, _: Id, _: Context<'_, S>) {
        let pool = self.pool.clone();
        let (answer, answered) = mpsc::channel();
        // To be asked from here would be to wait for ever.
        std::thread::spawn(move || answer.send(pool.status()));
        let is_locked = answered.recv_timeout(Duration::from_secs(5)).is_err();
        self.looks.fetch_add(1, SeqCst);
        self.locked.fetch_add(usize::from(is_locked), SeqCst);
    }
}

/// Polls a future once, in a span of its own.
fn poll_in_span<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    let _entered = tracing::info_span!("order").entered();
    future.poll(&mut std::task::Context::from_waker(Waker::noop()))
}

#[tokio::test(start_paused = true)]
async fn pool_23_who_listens_to_spans_may_ask_the_pool_whatever_becomes_of_a_holder() {
    let pool = Pool::new("idle", IdleWorker, PoolConfig::new(1)).unwrap();
    let scope = Scope::new("t");
    let tree = Supervisor::builder().child(pool.child_spec()).build();
    let _tree = tree.unwrap().start_in(&scope).await.unwrap();
    let watchful = Watchful {
        pool: pool.clone(),
        looks: Arc::default(),
        locked: Arc::default(),
    };
    let listening =
        tracing_subscriber::registry().with(watchful.clone().with_filter(LevelFilter::INFO));
    let _listening = tracing::subscriber::set_default(listening);
    let looked = |what: &str| {
        let (looks, locked) = (&watchful.looks, &watchful.locked);
        // There are spans of messages as well.
        assert!(looks.swap(0, SeqCst) > 0, "{what}");
        assert_eq!(locked.swap(0, SeqCst), 0, "{what}");
    };
    let lent = || match poll_in_span(pin!(pool.checkout())) {
        Poll::Ready(lent) => lent.unwrap(),
        Poll::Pending => panic!("none is idle"),
    };

    drop(lent());
    looked("given back");
    let held = pool.checkout().await.unwrap();
    let (mut first, mut second) = (Box::pin(pool.checkout()), Box::pin(pool.checkout()));
    assert!(poll_in_span(first.as_mut()).is_pending());
    assert!(poll_in_span(second.as_mut()).is_pending());
    drop(second);
    looked("left the queue");
    drop(held);
    assert!(!pool.holders()[0].span.is_none());
    drop(first);
    looked("not fetched");
    for path in ["t/idle/worker-1", "t/idle"] {
        let held = lent();
        let run = scope.root().find(path).unwrap().current().unwrap();
        run.kill();
        // Another one is up, and lent, while the holder has what is left of this one.
        drop(pool.checkout().await.unwrap());
        looked(path);
        drop(held);
    }
}
