//! kameo's supervision.

use std::convert::Infallible;
use std::time::Duration;

use ::kameo::actor::{Actor, ActorRef, Spawn as _};
use ::kameo::message::{Context, Message};

use crate::fleet::{Births, Contender, Crash, End};

pub(crate) struct Kameo;

pub(crate) struct Supervisor;

impl Actor for Supervisor {
    type Args = ();
    type Error = Infallible;

    async fn on_start((): (), _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Self)
    }
}

pub(crate) struct Worker {
    index: usize,
}

impl Actor for Worker {
    type Args = (usize, Births<ActorRef<Self>>);
    type Error = Infallible;

    async fn on_start(
        (index, births): Self::Args,
        myself: ActorRef<Self>,
    ) -> Result<Self, Infallible> {
        births.announce(index, myself);
        Ok(Self { index })
    }
}

impl Message<End> for Worker {
    type Reply = Result<(), Crash>;

    async fn handle(&mut self, end: End, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        match end {
            End::Error => Err(Crash),
            End::Panic => panic!("child {} was told to", self.index),
        }
    }
}

impl Contender for Kameo {
    const NAME: &'static str = "kameo";

    type Address = ActorRef<Worker>;
    type Plan = Vec<(usize, Births<ActorRef<Worker>>)>;
    type Root = ActorRef<Supervisor>;

    fn plan(children: usize, births: Births<Self::Address>) -> Self::Plan {
        (0..children).map(|index| (index, births.clone())).collect()
    }

    async fn start(plan: Self::Plan) -> Self::Root {
        let supervisor = Supervisor::spawn(());
        for arguments in plan {
            Worker::supervise(&supervisor, arguments)
                .restart_limit(u32::MAX, Duration::from_millis(10))
                .spawn()
                .await;
        }
        supervisor
    }

    fn end(address: &Self::Address, end: End) {
        address.tell(end).try_send().expect("the child is up");
    }

    /// It stops all children at once.
    async fn stop(root: Self::Root, children: Vec<Self::Address>) {
        root.stop_gracefully().await.expect("it is up");
        root.wait_for_shutdown().await;
        for child in children {
            child.wait_for_shutdown().await;
        }
    }
}
