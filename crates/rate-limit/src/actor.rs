//! The actor that sweeps a [`RateGate`] and tells its figures.

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinHandle;

use crate::{handle::RateGate, store::Swept};

#[cfg(test)]
mod tests;

/// Owns nothing that a restart would have to bring back.
#[derive(Debug)]
pub(crate) struct RateGateActor;

#[derive(Debug)]
pub(crate) enum RateGateMsg {
    Sweep,
}

pub(crate) struct State {
    gate: RateGate,
    ticks: JoinHandle<()>,
}

impl Drop for State {
    fn drop(&mut self) {
        // A killed actor runs no `post_stop`, but drops its state.
        self.ticks.abort();
    }
}

impl Actor for RateGateActor {
    type Msg = RateGateMsg;
    type State = State;
    type Arguments = RateGate;

    async fn pre_start(
        &self,
        myself: ActorRef<RateGateMsg>,
        gate: RateGate,
    ) -> Result<State, ActorProcessingErr> {
        let ticks = myself.send_interval(gate.config().sweep_interval, || RateGateMsg::Sweep);
        Ok(State { gate, ticks })
    }

    async fn handle(
        &self,
        _: ActorRef<RateGateMsg>,
        RateGateMsg::Sweep: RateGateMsg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let swept = state.gate.sweep();
        state.gate.publish(swept);
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<RateGateMsg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.gate.publish(Swept::default());
        Ok(())
    }
}
