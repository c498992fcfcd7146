//! The crate `ractor-supervisor`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use ractor::{Actor, ActorRef};
use ractor_supervisor::{
    ChildSpec, Restart, SpawnFn, Supervisor, SupervisorArguments, SupervisorMsg, SupervisorOptions,
    SupervisorStrategy,
};

use crate::fleet::{Births, Contender, End};
use crate::worker::Worker;

pub(crate) struct RactorSupervisor;

/// Its children are entered in ractor's registry, which is one for the whole process.
static FLEETS: AtomicU64 = AtomicU64::new(0);

impl Contender for RactorSupervisor {
    const NAME: &'static str = "ractor-supervisor";

    type Address = ActorRef<End>;
    type Plan = (String, SupervisorArguments);
    type Root = ActorRef<SupervisorMsg>;

    fn plan(children: usize, births: Births<Self::Address>) -> Self::Plan {
        let fleet = FLEETS.fetch_add(1, Relaxed);
        let child_specs = (0..children).map(|index| {
            let births = births.clone();
            ChildSpec {
                id: format!("{fleet}-{index}"),
                restart: Restart::Permanent,
                spawn_fn: SpawnFn::new(move |parent, id| {
                    let births = births.clone();
                    async move {
                        let arguments = (index, births);
                        let started =
                            Actor::spawn_linked(Some(id), Worker, arguments, parent).await;
                        Ok(started?.0.get_cell())
                    }
                }),
                backoff_fn: None,
                reset_after: None,
            }
        });
        let arguments = SupervisorArguments {
            child_specs: child_specs.collect(),
            options: SupervisorOptions {
                strategy: SupervisorStrategy::OneForOne,
                max_restarts: usize::MAX,
                max_window: Duration::from_millis(10),
                reset_after: None,
            },
        };
        (format!("fleet-{fleet}"), arguments)
    }

    async fn start((name, arguments): Self::Plan) -> Self::Root {
        let started = Supervisor::spawn(name, arguments).await;
        started.expect("its start waits for no child").0
    }

    fn end(address: &Self::Address, end: End) {
        address.send_message(end).expect("the child is up");
    }

    /// It stops no children by itself; ractor kills them.
    async fn stop(root: Self::Root, children: Vec<Self::Address>) {
        root.stop_and_wait(None, None).await.expect("it is up");
        for child in children {
            child.wait(None).await.expect("there is no time limit");
        }
    }
}
