//! The actor of one breaker: it lets nothing through and holds nothing back, it makes time visible.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::AbortHandle;

use crate::cell::Cell;

/// How often the totals are published when nothing moves.
const REPORT_PERIOD: Duration = Duration::from_secs(5);

pub(crate) struct BreakerActor;

#[derive(Debug)]
pub(crate) enum BreakerMsg {
    /// The breaker has moved, or an open time may be over.
    Look,
    /// The totals are due.
    Report,
}

pub(crate) struct BreakerActorState {
    cell: Arc<Cell>,
    /// Rings at the end of the present open time.
    alarm: Option<Ends>,
    _watcher: Ends,
    _reporter: Ends,
}

/// A task that ends with the actor that started it, however that ends.
struct Ends(AbortHandle);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Actor for BreakerActor {
    type Msg = BreakerMsg;
    type State = BreakerActorState;
    type Arguments = Arc<Cell>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        cell: Arc<Cell>,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut state = cell.watch();
        let watched = myself.clone();
        let watcher = tokio::spawn(async move {
            while state.changed().await.is_ok() && watched.cast(BreakerMsg::Look).is_ok() {}
        });
        let reporter = myself.send_interval(REPORT_PERIOD, || BreakerMsg::Report);
        // An earlier incarnation may have gone while the breaker was open.
        myself.cast(BreakerMsg::Look)?;
        cell.publish();
        Ok(BreakerActorState {
            cell,
            alarm: None,
            _watcher: Ends(watcher.abort_handle()),
            _reporter: Ends(reporter.abort_handle()),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            // An alarm that rings for an open time that is no more finds nothing to do.
            BreakerMsg::Look => {
                state.alarm = state.cell.tick().map(|left| {
                    let alarm = myself.send_after(left, || BreakerMsg::Look);
                    Ends(alarm.abort_handle())
                });
            }
            BreakerMsg::Report => state.cell.publish(),
        }
        Ok(())
    }

    /// Publishes what was counted since the last time: in a tree that stops nobody else will.
    async fn post_stop(
        &self,
        _: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        state.cell.publish();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
