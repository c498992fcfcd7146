use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use super::cell::HealthCell;
use crate::sync::Timer;

/// Keeps the latest report fresh.
pub(crate) struct HealthActor;

#[derive(Debug)]
pub(crate) struct Refresh;

pub(crate) struct HealthState {
    cell: Arc<HealthCell>,
    /// At most one refresh, outside the handler: a check that is stuck holds up no message.
    refresh: JoinSet<()>,
    timer: Timer,
}

impl HealthState {
    fn refresh(&mut self) {
        while self.refresh.try_join_next().is_some() {}
        if self.refresh.is_empty() {
            let cell = Arc::clone(&self.cell);
            self.refresh.spawn(async move { cell.refresh().await });
        }
    }
}

fn timer(cell: &HealthCell, myself: &ActorRef<Refresh>) -> Timer {
    Timer::after(cell.config.refresh_every(), myself.clone(), Refresh)
}

impl Actor for HealthActor {
    type Msg = Refresh;
    type State = HealthState;
    type Arguments = Arc<HealthCell>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        cell: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let timer = timer(&cell, &myself);
        let mut state = HealthState {
            cell,
            refresh: JoinSet::new(),
            timer,
        };
        state.refresh();
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        Refresh: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        state.refresh();
        state.timer = timer(&state.cell, &myself);
        Ok(())
    }
}
