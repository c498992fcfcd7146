//! The pool's actors: its supervisor, its workers, and the keeper that opens and closes it.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use perennial_lifecycle::{
    Child, ChildKind, ChildSpec, ChildState, ExitReason, Incarnation, StartContext, StartError,
    Started,
};
use perennial_supervisor::{RestartIntensity, Strategy, Supervisor};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::Worker;
use crate::cells::Cells;

/// Restarts per worker and second that are still taken for business as usual: a retired worker costs one.
const RESTARTS_PER_WORKER: u32 = 100;

/// Describes the supervisor of a pool.
pub(crate) fn pool_spec<W: Worker>(worker: &Arc<W>, cells: &Arc<Cells>) -> ChildSpec {
    let all = cells.config.size + cells.config.max_overflow;
    let max = u32::try_from(all)
        .unwrap_or(u32::MAX)
        .saturating_mul(RESTARTS_PER_WORKER);
    let spec = Supervisor::builder()
        .strategy(Strategy::OneForOne)
        .intensity(RestartIntensity::new(max, Duration::from_secs(1)))
        .children((0..cells.config.size).map(|place| kept_spec(worker, cells, place)))
        // Last, so that it is stopped first: who waits is told before the workers go.
        .child(keeper_spec(cells))
        .build()
        .expect("the ids of a pool's children are fixed and distinct")
        .into_child(Arc::clone(&cells.name));
    let start = Arc::clone(spec.start_fn());
    let cells = Arc::clone(cells);
    ChildSpec::from_fn(
        Arc::clone(&cells.name),
        ChildKind::Supervisor,
        move |context| {
            cells.settle_at(context.scope(), context.node());
            start(context)
        },
    )
}

/// Describes one of the workers that the pool keeps.
fn kept_spec<W: Worker>(worker: &Arc<W>, cells: &Arc<Cells>, place: usize) -> ChildSpec {
    let worker = Arc::clone(worker);
    let cells = Arc::clone(cells);
    let id = format!("worker-{}", place + 1);
    ChildSpec::from_fn(id, ChildKind::Worker, move |context| {
        let worker = Arc::clone(&worker);
        let cells = Arc::clone(&cells);
        async move {
            let node = Arc::clone(context.node());
            let again = context.incarnation() > 1;
            let began = Instant::now();
            match spawn(&*worker, context).await {
                Ok(child) => {
                    cells.up(place, &node, began.elapsed());
                    Ok(Started::from(child))
                }
                Err(error) => {
                    let pause = cells.start_failed(&error.reason);
                    if again {
                        // The supervisor tries again at once, which must not spin.
                        tokio::time::sleep(pause).await;
                    }
                    Err(error)
                }
            }
        }
    })
}

async fn spawn<W: Worker>(worker: &W, context: StartContext) -> Result<Child, StartError> {
    let (actor, arguments) = std::panic::catch_unwind(AssertUnwindSafe(|| worker.actor()))
        .map_err(|payload| StartError::from_panic(&*payload))?;
    context.spawn(actor, arguments).await
}

/// Describes an overflow worker, which is handed to whoever asked for it through `delivery`.
pub(crate) fn overflow_spec<W: Worker>(
    worker: &Arc<W>,
    id: String,
    delivery: &Delivery,
    permit: OwnedSemaphorePermit,
) -> ChildSpec {
    let worker = Arc::clone(worker);
    let delivery = delivery.clone();
    // The supervisor keeps the spec, and so the permit, for as long as it knows the worker.
    let permit = Arc::new(permit);
    ChildSpec::from_fn(id, ChildKind::Worker, move |context| {
        let worker = Arc::clone(&worker);
        let delivery = delivery.clone();
        let permit = Arc::clone(&permit);
        async move {
            if delivery.is_refused() {
                return Ok(Started::Ignored);
            }
            let node = Arc::clone(context.node());
            let child = spawn(&*worker, context).await?;
            drop(permit);
            if delivery.deliver(node.current()) {
                Ok(Started::from(child))
            } else {
                // Dropping the child stops it.
                Ok(Started::Ignored)
            }
        }
    })
    .temporary()
}

/// How an overflow worker reaches the borrower that waits for it, who may have left.
#[derive(Clone, Default)]
pub(crate) struct Delivery(Arc<Mutex<Parcel>>);

#[derive(Default)]
enum Parcel {
    #[default]
    Awaited,
    Delivered(Option<Arc<Incarnation>>),
    Refused,
}

impl Delivery {
    fn is_refused(&self) -> bool {
        matches!(*self.parcel(), Parcel::Refused)
    }

    fn deliver(&self, run: Option<Arc<Incarnation>>) -> bool {
        let mut parcel = self.parcel();
        if matches!(*parcel, Parcel::Refused) {
            return false;
        }
        *parcel = Parcel::Delivered(run);
        true
    }

    /// Takes what was delivered. From here on the worker is the caller's to give back.
    pub(crate) fn accept(&self) -> Option<Arc<Incarnation>> {
        match std::mem::replace(&mut *self.parcel(), Parcel::Refused) {
            Parcel::Delivered(run) => run,
            Parcel::Awaited | Parcel::Refused => None,
        }
    }

    fn parcel(&self) -> MutexGuard<'_, Parcel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses the worker when the borrower leaves; one that was delivered already is stopped.
pub(crate) struct Recipient(pub(crate) Delivery);

impl Drop for Recipient {
    fn drop(&mut self) {
        if let Some(run) = self.0.accept() {
            run.stop(ExitReason::Shutdown);
        }
    }
}

/// Opens the pool when all its workers are up, and closes it when the pool is told to stop.
struct Keeper(Arc<Cells>);

/// The keeper is told nothing but to stop.
enum KeeperMsg {}

/// The keeper's state; looks at its end, whichever it is, whether the pool was told to stop.
struct Watch(Arc<Cells>);

impl Drop for Watch {
    fn drop(&mut self) {
        // A supervisor that was killed, or that gave up, comes back, and who waits goes on waiting. One
        // that its own supervisor stops is marked before it is asked to; unless all of this only makes room
        // after a supervisor further up was lost.
        let stopping = self.0.home().is_some_and(|(scope, node)| {
            node.state() == ChildState::Stopping && !scope.is_orphaned(node.path())
        });
        if stopping {
            self.0.stop();
        }
    }
}

fn keeper_spec(cells: &Arc<Cells>) -> ChildSpec {
    let cells = Arc::clone(cells);
    ChildSpec::worker("keeper", move || (Keeper(Arc::clone(&cells)), ()))
}

impl Actor for Keeper {
    type Msg = KeeperMsg;
    type State = Watch;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<KeeperMsg>, (): ()) -> Result<Watch, ActorProcessingErr> {
        self.0.open();
        Ok(Watch(Arc::clone(&self.0)))
    }
}
