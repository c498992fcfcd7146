//! The least that somebody writes on plain ractor who wants his children back: a map from the actor to what
//! it takes to start it again.

use std::collections::HashMap;

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::fleet::{Births, Contender, End};
use crate::worker::{Worker, WorkerArguments};

pub(crate) struct HandWritten;

struct Supervisor;

impl Actor for Supervisor {
    type Msg = ();
    type State = HashMap<ActorId, WorkerArguments>;
    type Arguments = Vec<WorkerArguments>;

    async fn pre_start(
        &self,
        myself: ActorRef<()>,
        children: Vec<WorkerArguments>,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut known = HashMap::with_capacity(children.len());
        for arguments in children {
            let id = start_child(&myself, arguments.clone()).await?;
            known.insert(id, arguments);
        }
        Ok(known)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<()>,
        event: SupervisionEvent,
        known: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(child, _)
        | SupervisionEvent::ActorTerminated(child, _, _) = event
            && let Some(arguments) = known.remove(&child.get_id())
        {
            let id = start_child(&myself, arguments.clone()).await?;
            known.insert(id, arguments);
        }
        Ok(())
    }
}

async fn start_child(
    parent: &ActorRef<()>,
    arguments: WorkerArguments,
) -> Result<ActorId, ActorProcessingErr> {
    let (child, _) = Actor::spawn_linked(None, Worker, arguments, parent.get_cell()).await?;
    Ok(child.get_id())
}

impl Contender for HandWritten {
    const NAME: &'static str = "hand-written";

    type Address = ActorRef<End>;
    type Plan = Vec<WorkerArguments>;
    type Root = ActorRef<()>;

    fn plan(children: usize, births: Births<Self::Address>) -> Self::Plan {
        (0..children).map(|index| (index, births.clone())).collect()
    }

    async fn start(plan: Self::Plan) -> ActorRef<()> {
        let started = Actor::spawn(None, Supervisor, plan).await;
        started.expect("all children start").0
    }

    fn end(address: &Self::Address, end: End) {
        address.send_message(end).expect("the child is up");
    }

    /// ractor kills the children of an actor that stops.
    async fn stop(root: ActorRef<()>, children: Vec<Self::Address>) {
        root.stop_and_wait(None, None).await.expect("it is up");
        for child in children {
            child.wait(None).await.expect("there is no time limit");
        }
    }
}
