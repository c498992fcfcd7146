//! The pool's actors: its supervisor, its workers, and the keeper that looks after them.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use std::time::Duration;

use perennial_lifecycle::{ChildKind, ChildSpec, StartContext, StartError, Started, catch_panic};
use perennial_supervisor::{ChildTemplate, DynamicSpec, DynamicSupervisor, RestartIntensity};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

use crate::Worker;
use crate::cells::Cells;

/// Restarts per worker and second that are still taken for business as usual: a retired worker costs one.
const RESTARTS_PER_WORKER: u32 = 100;

/// How often the gauges are set when nothing changes.
const REPORT_PERIOD: Duration = Duration::from_secs(5);

/// A child of the pool's supervisor.
pub(crate) enum Child {
    Worker(Life),
    Keeper,
}

/// A worker at a place, over its restarts, for as long as the supervisor knows it.
pub(crate) struct Life {
    cells: Arc<Cells>,
    pub(crate) place: usize,
    pub(crate) number: u64,
    begun: AtomicBool,
}

impl Life {
    pub(crate) fn new(cells: &Arc<Cells>, place: usize, number: u64) -> Self {
        Self {
            cells: Arc::clone(cells),
            place,
            number,
            begun: AtomicBool::new(false),
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.cells.gone(self.place, self.number);
    }
}

/// Describes the supervisor of a pool.
pub(crate) fn pool_spec<W: Worker>(worker: &Arc<W>, cells: &Arc<Cells>) -> ChildSpec {
    let worker = Arc::clone(worker);
    let tether = Arc::new(Tether {
        cells: Arc::clone(cells),
        epoch: AtomicU64::new(0),
    });
    ChildSpec::from_fn(
        Arc::clone(&cells.name),
        ChildKind::Supervisor,
        move |context| {
            let (worker, tether) = (Arc::clone(&worker), Arc::clone(&tether));
            async move {
                let node = Arc::clone(context.node());
                let cells = &tether.cells;
                let epoch = cells.settle_at(context.scope(), &node);
                tether.epoch.store(epoch, Release);
                // Dropped when a worker does not start: then it is asked to stop again.
                let supervisor = supervisor(&worker, cells).into_child(Arc::clone(&cells.name));
                let started = supervisor.start_fn()(context).await?;
                if let Err(error) = cells.warm_up().await {
                    // The host is told when it starts the pool. One that has lent before comes back without workers, and
                    // starts them when it can: or what is down behind them would take the tree with it.
                    if !cells.was_open() {
                        return Err(error);
                    }
                }
                if let Some(supervisor) = DynamicSupervisor::at(&node) {
                    let keeper = supervisor.start_child_named("keeper", Child::Keeper);
                    keeper.await.map_err(|error| {
                        StartError::new(perennial_lifecycle::ExitReason::failed(error))
                    })?;
                }
                cells.open(epoch);
                // Afterwards, so that the end of this run has the last word.
                if let Some(run) = node.current() {
                    let cells = Arc::clone(cells);
                    tokio::spawn(async move { cells.home_ended(epoch, &run.ended().await) });
                }
                Ok(started)
            }
        },
    )
}

fn supervisor<W: Worker>(worker: &Arc<W>, cells: &Arc<Cells>) -> DynamicSpec<Child> {
    let of_pool = Arc::clone(cells);
    let most = AtomicUsize::new(1);
    // What befits the pool at its largest: those of its workers that have just ended count when it was made smaller, too.
    let max = move || {
        let limit = of_pool.limit();
        let most = most.fetch_max(limit, Relaxed).max(limit);
        u32::try_from(most)
            .unwrap_or(u32::MAX)
            .saturating_mul(RESTARTS_PER_WORKER)
    };
    let intensity = RestartIntensity::new(max(), Duration::from_secs(1));
    let (worker, cells) = (Arc::clone(worker), Arc::clone(cells));
    let template = ChildTemplate::from_fn(
        "worker",
        ChildKind::Worker,
        move |context, child: Arc<Child>| {
            let (worker, cells) = (Arc::clone(&worker), Arc::clone(&cells));
            async move {
                match &*child {
                    Child::Worker(life) => start_worker(&*worker, context, life).await,
                    Child::Keeper => Ok(Started::from(context.spawn(Keeper(cells), ()).await?)),
                }
            }
        },
    );
    DynamicSupervisor::builder(template)
        .intensity(intensity)
        .max_restarts_by(max)
        .concurrent_starts(true)
        .build()
        .expect("the id and the settings of a pool's workers are fixed")
}

async fn start_worker<W: Worker>(
    worker: &W,
    context: StartContext,
    life: &Life,
) -> Result<Started, StartError> {
    let cells = &life.cells;
    let again = life.begun.swap(true, Relaxed);
    if !cells.begin(life) {
        return Ok(Started::Ignored);
    }
    let node = Arc::clone(context.node());
    let began = Instant::now();
    match spawn(worker, context).await {
        Ok(child) => match node.current() {
            // Dropping the child stops it.
            Some(run) if !cells.up(life, &node, &run, began.elapsed()) => Ok(Started::Ignored),
            // One that has ended already is restarted like any other.
            _ => Ok(Started::from(child)),
        },
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

async fn spawn<W: Worker>(
    worker: &W,
    context: StartContext,
) -> Result<perennial_lifecycle::Child, StartError> {
    let (actor, arguments) = catch_panic(|| worker.actor()).map_err(StartError::new)?;
    context.spawn(actor, arguments).await
}

/// Part of the pool's spec: gone when no tree holds the spec any more, and so can start the pool again.
struct Tether {
    cells: Arc<Cells>,
    /// The last start of the pool by this spec.
    epoch: AtomicU64,
}

impl Drop for Tether {
    fn drop(&mut self) {
        self.cells.forgotten(self.epoch.load(Acquire));
    }
}

/// Looks at the times of workers and loans, and closes the pool when it is told to stop.
struct Keeper(Arc<Cells>);

/// What the keeper tells itself.
enum KeeperMsg {
    Tick,
    /// The gauges are due: of two threads that change the books at once, the later may have been the first to set them.
    Report,
}

/// The keeper's state; at its end, whichever it is, its ticks end as well, and it looks whether the pool was told to stop.
struct Watch {
    cells: Arc<Cells>,
    ticks: Vec<AbortHandle>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ticks.iter().for_each(AbortHandle::abort);
        self.cells.keeper_ended();
    }
}

impl Actor for Keeper {
    type Msg = KeeperMsg;
    type State = Watch;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<KeeperMsg>,
        (): (),
    ) -> Result<Watch, ActorProcessingErr> {
        let mut ticks = vec![myself.send_interval(REPORT_PERIOD, || KeeperMsg::Report)];
        if let Some(period) = self.0.config.tick() {
            ticks.push(myself.send_interval(period, || KeeperMsg::Tick));
        }
        Ok(Watch {
            cells: Arc::clone(&self.0),
            ticks: ticks.iter().map(JoinHandle::abort_handle).collect(),
        })
    }

    async fn handle(
        &self,
        _: ActorRef<KeeperMsg>,
        message: KeeperMsg,
        _: &mut Watch,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            KeeperMsg::Tick => self.0.tick(),
            KeeperMsg::Report => self.0.report(),
        }
        Ok(())
    }
}
