use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::cell::MemoryCell;
use crate::sync::{Timer, lock};

/// Drives the cell: when to look, and when to clean up.
pub(crate) struct MemoryActor;

#[derive(Debug)]
pub(crate) enum MemoryMsg {
    /// Measure, clean up if needed, and come back.
    Check,
    /// Measure only: after a clean-up, which must not lead straight into the next one.
    Measure,
    /// Clean up, if that is still requested.
    Cleanup,
}

pub(crate) struct MemoryState {
    cell: Arc<MemoryCell>,
    timer: Timer,
}

impl MemoryState {
    fn timer(cell: &MemoryCell, myself: &ActorRef<MemoryMsg>) -> Timer {
        let period = lock(&cell.config).check_every();
        Timer::after(period, myself.clone(), MemoryMsg::Check)
    }
}

impl Actor for MemoryActor {
    type Msg = MemoryMsg;
    type State = MemoryState;
    type Arguments = Arc<MemoryCell>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        cell: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        cell.attach(myself.clone());
        // Whoever sees the actor started sees a level that was measured.
        cell.check().await;
        let timer = MemoryState::timer(&cell, &myself);
        Ok(MemoryState { cell, timer })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            MemoryMsg::Check => {
                state.cell.check().await;
                state.timer = MemoryState::timer(&state.cell, &myself);
            }
            MemoryMsg::Measure => state.cell.measure().await,
            MemoryMsg::Cleanup => state.cell.clean_up_if_requested(),
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        state.cell.detach(&myself);
        Ok(())
    }
}
