//! Work that takes long on a blocking thread, by an actor that stays killable; and what a watchdog says of one
//! that works in its handler.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use perennial::{CallError, ChildSpec, EventKind, Name, Tree, Watchdog};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::watch;

/// Counts the primes below a number.
struct Count(u64, RpcReplyPort<usize>);
const PRIMES: Name<Count> = Name::new("primes");

/// Works on a blocking thread. How many closures are at work can be watched.
struct Primes(Arc<watch::Sender<usize>>);

/// Tells the closure to stop when the handler ends, which a kill makes it do at its await.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

struct AtWork(Arc<watch::Sender<usize>>);

impl AtWork {
    fn begin(count: Arc<watch::Sender<usize>>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

fn primes_below(limit: u64, stop: &AtomicBool) -> usize {
    assert!(limit > 0, "nothing is below zero");
    let is_prime = |n: &u64| {
        (2..)
            .take_while(|it| it * it <= *n)
            .all(|it| !n.is_multiple_of(it))
    };
    let numbers = (2..limit).take_while(|_| !stop.load(Relaxed));
    numbers.filter(is_prime).count()
}

impl Actor for Primes {
    type Msg = Count;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Count>, _: ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Count>,
        Count(limit, reply): Count,
        _: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let stop = Arc::new(AtomicBool::new(false));
        let _guard = StopOnDrop(Arc::clone(&stop));
        let at_work = Arc::clone(&self.0);
        let work = tokio::task::spawn_blocking(move || {
            let _at_work = AtWork::begin(at_work);
            primes_below(limit, &stop)
        });
        match work.await {
            Ok(count) => Ok(reply.send(count)?),
            Err(error) => match error.try_into_panic() {
                // The actor's own from here on.
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is going away.
                Err(cancelled) => Err(cancelled.into()),
            },
        }
    }
}

/// What not to do: spins in its handler, and so keeps a thread of the runtime until somebody opens the gate.
struct Hog(Arc<AtomicBool>);
struct Spin(RpcReplyPort<&'static str>);
const HOG: Name<Spin> = Name::new("hog");

impl Actor for Hog {
    type Msg = Spin;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Spin>, _: ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Spin>,
        Spin(reply): Spin,
        _: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        while !self.0.load(Relaxed) {
            std::hint::spin_loop();
        }
        Ok(reply.send("done at last")?)
    }
}

// The hog keeps one of the threads, however few cores there are.
#[tokio::main(worker_threads = 3)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    perennial::install_panic_hook();
    let minute = Duration::from_secs(60);
    let (sender, mut at_work) = watch::channel(0);
    let sender = Arc::new(sender);
    let gate = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&gate);
    let watchdog = Watchdog::report(Duration::from_millis(20));
    let tree = Tree::builder("cpu")
        .child(ChildSpec::worker("primes", move || {
            (Primes(Arc::clone(&sender)), ())
        }))
        .child(ChildSpec::worker("hog", move || (Hog(Arc::clone(&opened)), ())).watchdog(watchdog))
        .start()
        .await?;
    let primes = tree.resolve(&PRIMES)?;

    let count = primes.call(|reply| Count(10_000, reply), minute).await?;
    println!("primes below 10000: {count}");

    // More than it can ever count. The kill takes effect at the await, and the closure sees the flag.
    let endless = primes.call(|reply| Count(u64::MAX, reply), minute);
    let kill = async {
        at_work.wait_for(|count| *count == 1).await?;
        tree.debug().kill("cpu/host/primes").await?;
        at_work.wait_for(|count| *count == 0).await?;
        Ok::<(), Box<dyn std::error::Error>>(())
    };
    let (endless, killed) = tokio::join!(endless, kill);
    killed?;
    if let Err(CallError::CalleeFailed { reason, .. }) = endless {
        println!("in the middle of too much work: {reason}; the closure has stopped as well");
    }

    // A panic of the work is one of the actor, which is restarted.
    let bad = primes.call(|reply| Count(0, reply), minute).await;
    if let Err(CallError::CalleeFailed { reason, .. }) = bad {
        println!("below zero: {reason}");
    }
    let count = primes.call(|reply| Count(100, reply), minute).await?;
    println!("after two restarts, primes below 100: {count}");

    // The watchdog says who does not yield, and at what.
    let mut events = tree.debug().events();
    let spinning = tree.call(HOG, Spin, minute);
    let wait = async {
        while let Some(event) = events.next().await {
            let event = event?;
            if let EventKind::Stuck {
                incarnation,
                message,
                ..
            } = event.kind
            {
                println!("stuck: {} #{incarnation}, with a {message}", event.path);
                break;
            }
        }
        gate.store(true, Relaxed);
        Ok::<(), Box<dyn std::error::Error>>(())
    };
    let (spun, waited) = tokio::join!(spinning, wait);
    waited?;
    println!("the hog is {}", spun?);
    tree.shutdown().await;
    Ok(())
}
