//! Perennial's own supervisor.

use std::time::Duration;

use perennial::lifecycle::{ChildSpec, ExitReason};
use perennial::supervisor::{RestartIntensity, Strategy, Supervisor, SupervisorSpec};
use ractor::ActorRef;

use crate::fleet::{Births, Contender, End};
use crate::worker::Worker;

pub(crate) struct Ours;

impl Contender for Ours {
    const NAME: &'static str = "Perennial";

    type Address = ActorRef<End>;
    type Plan = SupervisorSpec;
    type Root = Supervisor;

    fn plan(children: usize, births: Births<Self::Address>) -> SupervisorSpec {
        Supervisor::builder()
            .strategy(Strategy::OneForOne)
            .intensity(RestartIntensity::new(u32::MAX, Duration::from_millis(10)))
            .children((0..children).map(|index| {
                let births = births.clone();
                ChildSpec::worker(index.to_string(), move || (Worker, (index, births.clone())))
            }))
            .build()
            .expect("the ids differ")
    }

    async fn start(plan: SupervisorSpec) -> Supervisor {
        plan.start("bench").await.expect("all children start")
    }

    fn end(address: &Self::Address, end: End) {
        address.send_message(end).expect("the child is up");
    }

    async fn stop(root: Supervisor, _: Vec<Self::Address>) {
        root.stop(ExitReason::Shutdown).await;
    }
}
