use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinHandle;

use crate::Registry;

/// How often the registry looks for names whose actors are gone for good.
const SWEEP: Duration = Duration::from_secs(10);

/// Keeps house: nothing that a sender needs goes through it.
pub(crate) struct RegistryActor;

/// The registry actor's only message.
#[derive(Debug)]
pub(crate) struct Sweep;

pub(crate) struct State {
    registry: Registry,
    ticks: JoinHandle<()>,
}

impl Drop for State {
    fn drop(&mut self) {
        // ractor's timer would outlive the actor by one tick.
        self.ticks.abort();
    }
}

impl Actor for RegistryActor {
    type Msg = Sweep;
    type State = State;
    type Arguments = Registry;

    async fn pre_start(
        &self,
        myself: ActorRef<Sweep>,
        registry: Registry,
    ) -> Result<State, ActorProcessingErr> {
        let ticks = myself.send_interval(SWEEP, || Sweep);
        Ok(State { registry, ticks })
    }

    async fn handle(
        &self,
        _: ActorRef<Sweep>,
        Sweep: Sweep,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.registry.sweep();
        Ok(())
    }
}
