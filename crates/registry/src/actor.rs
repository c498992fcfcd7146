use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::Registry;

/// How often the registry looks for names whose actors are gone for good.
const SWEEP: Duration = Duration::from_secs(10);

/// Keeps house: nothing that a sender needs goes through it.
pub(crate) struct RegistryActor;

/// The registry actor's only message.
#[derive(Debug)]
pub(crate) struct Sweep;

impl Actor for RegistryActor {
    type Msg = Sweep;
    type State = Registry;
    type Arguments = Registry;

    async fn pre_start(
        &self,
        myself: ActorRef<Sweep>,
        registry: Registry,
    ) -> Result<Registry, ActorProcessingErr> {
        // The timer ends with the actor.
        drop(myself.send_interval(SWEEP, || Sweep));
        Ok(registry)
    }

    async fn handle(
        &self,
        _: ActorRef<Sweep>,
        Sweep: Sweep,
        registry: &mut Registry,
    ) -> Result<(), ActorProcessingErr> {
        registry.sweep();
        Ok(())
    }
}
