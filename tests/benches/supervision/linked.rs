//! ractor alone: actors under one parent, started in a loop and stopped one after the other. Nobody starts
//! them again.

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::fleet::{Births, Contender, End};
use crate::worker::{Worker, WorkerArguments};

pub(crate) struct Linked;

struct Parent;

impl Actor for Parent {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    /// Without this it would stop with the first of its children.
    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        _: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

impl Contender for Linked {
    const NAME: &'static str = "ractor";

    type Address = ActorRef<End>;
    type Plan = Vec<WorkerArguments>;
    type Root = ActorRef<()>;

    fn plan(children: usize, births: Births<Self::Address>) -> Self::Plan {
        (0..children).map(|index| (index, births.clone())).collect()
    }

    async fn start(plan: Self::Plan) -> ActorRef<()> {
        let (parent, _) = Actor::spawn(None, Parent, ()).await.expect("it starts");
        for arguments in plan {
            let started = Actor::spawn_linked(None, Worker, arguments, parent.get_cell()).await;
            started.expect("the child starts");
        }
        parent
    }

    fn end(address: &Self::Address, end: End) {
        address.send_message(end).expect("the child is up");
    }

    async fn stop(root: ActorRef<()>, children: Vec<Self::Address>) {
        for child in children.iter().rev() {
            child.stop_and_wait(None, None).await.expect("it is up");
        }
        root.stop_and_wait(None, None).await.expect("it is up");
    }
}
