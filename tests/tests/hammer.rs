//! Many tasks, one guard, and everything behind it is killed at random: no deadlock, the counts of everybody add up,
//! and the quota holds.
//!
//! Takes a few seconds; `PERENNIAL_HAMMER_SECONDS=30` hammers longer, and `PERENNIAL_SEED` chooses what is killed.
#![allow(clippy::unwrap_used, reason = "this is a test, its helpers included")]

use std::collections::BTreeMap;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use futures_util::FutureExt as _;
use perennial::breaker::{Trip, Window};
use perennial::guard::{Bulkhead, OperationOutcome, Stage};
use perennial::{
    BreakerConfig, Checkout, Guard, GuardError, OpenTime, Outcome, Pool, PoolConfig, PoolName,
    Quota, Settings, Tree, Worker, WorkerRef,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::time::{Instant, sleep, timeout};

const TASKS: usize = 10_000;
const KEYS: usize = 4;
const PER_SECOND: u32 = 2_000;
const WORKERS: usize = 8;
const OVERFLOW: usize = 2;
const PLACES: u32 = 64;
const WAITING: usize = PLACES as usize - WORKERS - OVERFLOW;
const ECHO: PoolName<EchoWorker> = PoolName::new("echo");
const ORDERED: &str = "as ordered";
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Echo;

impl Actor for Echo {
    type Msg = (u64, RpcReplyPort<u64>);
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        (number, reply): Self::Msg,
        _: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        // Nobody waits for the answer to a call that was given up.
        drop(reply.send(number));
        Ok(())
    }
}

struct EchoWorker;

impl Worker for EchoWorker {
    type Actor = Echo;
    type Client = WorkerRef<(u64, RpcReplyPort<u64>)>;

    fn actor(&self) -> (Echo, ()) {
        (Echo, ())
    }

    fn client(&self, worker: Self::Client) -> Self::Client {
        worker
    }
}

/// What the callers saw, by name.
#[derive(Default)]
struct Seen {
    offered: AtomicU64,
    /// Begun operations of each key.
    begun: [AtomicU64; KEYS],
    succeeded: AtomicU64,
    failed: AtomicU64,
    ignored: AtomicU64,
    panicked: AtomicU64,
    too_late: AtomicU64,
    dropped: AtomicU64,
    rate_limited: AtomicU64,
    circuit_open: AtomicU64,
    bulkhead_full: AtomicU64,
    no_worker: AtomicU64,
}

impl Seen {
    fn get(count: &AtomicU64) -> u64 {
        count.load(SeqCst)
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, SeqCst);
}

type OneGuard = Guard<Pool<EchoWorker>>;

/// One task: calls, in all the ways a call can go, until it is told to stop.
async fn caller(guard: Arc<OneGuard>, seen: Arc<Seen>, stop: Arc<AtomicBool>, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    sleep(Duration::from_millis(random.u64(0..500))).await;
    while !stop.load(SeqCst) {
        call(&guard, &seen, &mut random).await;
        sleep(Duration::from_millis(random.u64(100..900))).await;
    }
}

async fn call(guard: &OneGuard, seen: &Seen, random: &mut fastrand::Rng) {
    let (key, number) = (random.u64(0..KEYS as u64), random.u64(..));
    let kind = random.u32(0..100);
    let operation = |echo: Checkout<EchoWorker>| async move {
        add(&seen.begun[usize::try_from(key).unwrap()]);
        match kind {
            0..60 => {
                let answer = echo.call(|reply| (number, reply)).await;
                assert_eq!(answer.as_ref().copied().unwrap_or(number), number);
                answer.map(drop).map_err(io::Error::other)
            }
            60..70 => {
                sleep(Duration::from_micros(u64::from(kind) * 20)).await;
                Ok(())
            }
            70..80 => Err(io::Error::other("broken")),
            80..85 => Err(io::ErrorKind::NotFound.into()),
            85..88 => panic!("{ORDERED}"),
            88..90 => std::future::pending().await,
            _ => {
                tokio::task::yield_now().await;
                Ok(())
            }
        }
    };
    let classify = |result: &io::Result<()>| match result {
        Ok(()) => Outcome::Success,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Outcome::Ignored,
        Err(_) => Outcome::Failure,
    };
    add(&seen.offered);
    let call = AssertUnwindSafe(guard.run_keyed(&key, operation, classify)).catch_unwind();
    let ended = if random.u32(0..8) == 0 {
        let patience = Duration::from_micros(random.u64(0..3_000));
        match timeout(patience, call).await {
            Ok(ended) => ended,
            Err(_) => return add(&seen.dropped),
        }
    } else {
        call.await
    };
    let Ok(result) = ended else {
        return add(&seen.panicked);
    };
    let Err(error) = result else {
        return add(&seen.succeeded);
    };
    add(match (error.refused_by(), &error) {
        (Some(Stage::RateLimit), _) => &seen.rate_limited,
        (Some(Stage::Breaker), _) => &seen.circuit_open,
        (Some(Stage::Bulkhead), _) => &seen.bulkhead_full,
        (Some(Stage::Pool), _) => &seen.no_worker,
        (None, GuardError::DeadlineExceeded { .. }) => &seen.too_late,
        (None, GuardError::Operation(error)) if error.kind() == io::ErrorKind::NotFound => {
            &seen.ignored
        }
        (None, GuardError::Operation(_)) => &seen.failed,
        other => panic!("{other:?}"),
    });
}

/// Kills one of these at a time until it is told to stop; returns how often each was killed.
async fn killer(tree: Tree, stop: Arc<AtomicBool>) -> BTreeMap<String, u32> {
    let seed = std::env::var("PERENNIAL_SEED").map_or(1, |text| text.parse().unwrap());
    println!("PERENNIAL_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut victims: Vec<String> = [
        "breakers/svc",
        "breakers",
        "rate_gate",
        "pools/echo",
        "pools",
    ]
    .map(|path| format!("hammer/{path}"))
    .into();
    victims.extend((1..=WORKERS).map(|it| format!("hammer/pools/echo/worker-{it}")));
    let mut kills = BTreeMap::new();
    while !stop.load(SeqCst) {
        sleep(Duration::from_millis(random.u64(1..15))).await;
        let path = random.choice(&victims).unwrap();
        let node = tree.scope().root().find(path);
        // Between two of its runs there is nothing to kill.
        if let Some(run) = node.and_then(|node| node.current()) {
            run.kill();
            *kills.entry(path.clone()).or_default() += 1;
        }
    }
    for path in victims {
        assert!(kills.contains_key(&path), "{path} was never killed");
    }
    kills
}

fn only_unexpected_panics_are_reported() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str() != Some(ORDERED) {
            default(panic);
        }
    }));
}

async fn start() -> Tree {
    let mut settings = Settings::default();
    settings.supervision.max_restarts = 1_000_000;
    let trip = Trip::FailureRate {
        ratio: 0.4,
        window: Window::Calls(20),
        min_calls: 10,
    };
    let breaker = BreakerConfig::builder()
        .trip(trip)
        .open_time(OpenTime::Constant(Duration::from_millis(30)))
        .half_open_permits(3)
        .build()
        .unwrap();
    // With all workers up there is room for all whom the bulkhead lets in, and with one down not for the last.
    let pool = PoolConfig::new(WORKERS)
        .max_overflow(OVERFLOW)
        .max_waiting(WAITING);
    Tree::builder("hammer")
        .settings(settings)
        .pool(ECHO, EchoWorker, pool)
        .breaker("svc", breaker)
        .start()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grd_13_ten_thousand_tasks_on_one_guard_while_all_behind_it_is_killed() {
    let seconds = std::env::var("PERENNIAL_HAMMER_SECONDS").map_or(4, |text| text.parse().unwrap());
    only_unexpected_panics_are_reported();
    let tree = start().await;
    let places = Bulkhead::new(PLACES.try_into().unwrap()).wait_at_most(Duration::from_millis(20));
    let guard = tree
        .guard("svc")
        .quota(Quota::per_second(PER_SECOND))
        .bulkhead(places.clone())
        .pool(ECHO)
        .deadline(Duration::from_millis(150))
        .slow_after(Duration::from_millis(50))
        .build()
        .unwrap();
    let (guard, seen) = (Arc::new(guard), Arc::new(Seen::default()));
    let stop = Arc::new(AtomicBool::new(false));

    let began = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for seed in 0..TASKS as u64 {
        let (guard, seen) = (Arc::clone(&guard), Arc::clone(&seen));
        callers.spawn(caller(guard, seen, Arc::clone(&stop), seed));
    }
    let killer = tokio::spawn(killer(tree.clone(), Arc::clone(&stop)));
    sleep(Duration::from_secs(seconds)).await;
    stop.store(true, SeqCst);
    let all_end = async {
        while let Some(ended) = callers.join_next().await {
            ended.unwrap();
        }
    };
    timeout(PATIENCE, all_end).await.expect("no deadlock");
    let took = began.elapsed();
    let kills = timeout(PATIENCE, killer)
        .await
        .expect("no deadlock")
        .unwrap();
    timeout(PATIENCE, find_no_worker(&tree, &guard, &seen))
        .await
        .expect("a breaker and a quota that let one through");
    println!("kills: {kills:?}\n{:#?}", guard.status());

    counts_add_up(&tree, &guard, &seen);
    quota_holds(&seen, took);

    // Nothing leaked: all places are free, and all workers are lent at once.
    assert_eq!(places.in_use(), 0);
    let pool = tree.pool(ECHO).unwrap();
    let mut lent = Vec::new();
    for _ in 0..WORKERS {
        let worker = pool.checkout_within(PATIENCE).await.unwrap();
        assert_eq!(worker.call(|reply| (7, reply)).await.unwrap(), 7);
        lent.push(worker);
    }
    drop(lent);
    assert_eq!((pool.status().in_use, pool.status().waiting), (0, 0));
    let report = timeout(PATIENCE, tree.shutdown()).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
}

/// Calls while all workers are lent and the queue is full: whether the killer brought that about is chance.
async fn find_no_worker(tree: &Tree, guard: &OneGuard, seen: &Seen) {
    let pool = tree.pool(ECHO).unwrap();
    let mut lent = Vec::new();
    for _ in 0..WORKERS + OVERFLOW {
        lent.push(pool.checkout_within(PATIENCE).await.unwrap());
    }
    let mut queue = Vec::new();
    for _ in 0..WAITING {
        let mut waiting = Box::pin(pool.checkout_within(PATIENCE));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        queue.push(waiting);
    }
    let before = Seen::get(&seen.no_worker);
    let mut random = fastrand::Rng::with_seed(0);
    while Seen::get(&seen.no_worker) == before {
        call(guard, seen, &mut random).await;
        // What comes back of the quota, and the time that the breaker is open.
        sleep(Duration::from_millis(5)).await;
    }
}

/// The callers, the guard, the breaker and the gate tell the same story.
fn counts_add_up(tree: &Tree, guard: &OneGuard, seen: &Seen) {
    use OperationOutcome as Is;

    let status = guard.status();
    let told = |outcome| status.count(outcome);
    let get = Seen::get;
    let begun: u64 = seen.begun.iter().map(get).sum();

    // Offered = admitted + refused, admitted = succeeded + failed + cancelled: the guard's own books ...
    assert_eq!(status.offered(), get(&seen.offered));
    assert_eq!(status.begun(), begun);
    assert_eq!(told(Is::Success), get(&seen.succeeded) + get(&seen.ignored));
    assert_eq!(told(Is::Failure), get(&seen.failed));
    assert_eq!(told(Is::Panicked), get(&seen.panicked));
    assert_eq!(told(Is::DeadlineExceeded), get(&seen.too_late));
    assert_eq!(told(Is::Cancelled) + told(Is::GivenUp), get(&seen.dropped));
    assert_eq!(told(Is::RateLimited), get(&seen.rate_limited));
    assert_eq!(told(Is::CircuitOpen), get(&seen.circuit_open));
    assert_eq!(told(Is::BulkheadFull), get(&seen.bulkhead_full));
    assert_eq!(told(Is::NoWorker), get(&seen.no_worker));
    assert_eq!(told(Is::MemoryPressure), 0);

    // ... those of the breaker, which saw whoever passed the gate ...
    let breaker = tree.breaker("svc").unwrap().status();
    let failures = told(Is::Failure) + told(Is::Panicked) + told(Is::DeadlineExceeded);
    let asked = status.offered() - told(Is::RateLimited);
    let admitted = breaker.successes + breaker.failures + breaker.cancelled;
    assert_eq!(breaker.refused, told(Is::CircuitOpen));
    assert_eq!(breaker.failures, failures);
    assert_eq!(breaker.successes, get(&seen.succeeded));
    assert_eq!(asked, admitted + breaker.refused);

    // ... and those of the gate.
    let scopes = tree.rate_gate().scopes();
    let scope = scopes.iter().find(|it| &*it.scope == "svc").unwrap();
    assert_eq!(scope.refused, told(Is::RateLimited));
    assert_eq!(scope.allowed, asked);

    // All that can happen has happened.
    for outcome in Is::ALL {
        let possible = outcome != Is::MemoryPressure;
        assert!(!possible || told(outcome) > 0, "{outcome} never happened");
    }
}

/// No key had more operations begun than its burst and what came back meanwhile.
fn quota_holds(seen: &Seen, took: Duration) {
    for (key, begun) in seen.begun.iter().enumerate() {
        let begun = Seen::get(begun);
        let limit = f64::from(PER_SECOND) * (1.0 + took.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53")]
        let begun = begun as f64;
        assert!(begun <= limit, "key {key}: {begun} of {limit}");
    }
}
