use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::cell::PerformanceCell;
use crate::sync::Timer;

/// Judges the alert rules and takes the baselines, at intervals.
pub(crate) struct PerformanceActor;

#[derive(Debug)]
pub(crate) struct Evaluate;

pub(crate) struct PerformanceState {
    cell: Arc<PerformanceCell>,
    timer: Timer,
}

fn timer(cell: &PerformanceCell, myself: &ActorRef<Evaluate>) -> Timer {
    Timer::after(cell.config.evaluate_every(), myself.clone(), Evaluate)
}

impl Actor for PerformanceActor {
    type Msg = Evaluate;
    type State = PerformanceState;
    type Arguments = Arc<PerformanceCell>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        cell: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let timer = timer(&cell, &myself);
        Ok(PerformanceState { cell, timer })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        Evaluate: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        for series in state.cell.all() {
            state.cell.evaluate(&series);
            // With many services this is milliseconds of work; others, and a kill, come in between.
            tokio::task::yield_now().await;
        }
        state.cell.forget_idle();
        state.timer = timer(&state.cell, &myself);
        Ok(())
    }
}
