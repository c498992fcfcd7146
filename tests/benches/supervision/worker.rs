//! The child of every contender that is built on ractor: it ends as it is told, and says when it is up.

use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::fleet::{Births, Crash, End};

/// Keeps one number, as its state.
pub(crate) struct Worker;

/// What a run is started with: which child it is, and whom it tells that it is up.
pub(crate) type WorkerArguments = (usize, Births<ActorRef<End>>);

impl Actor for Worker {
    type Msg = End;
    type State = usize;
    type Arguments = WorkerArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<End>,
        (index, births): WorkerArguments,
    ) -> Result<usize, ActorProcessingErr> {
        births.announce(index, myself);
        Ok(index)
    }

    async fn handle(
        &self,
        _: ActorRef<End>,
        end: End,
        index: &mut usize,
    ) -> Result<(), ActorProcessingErr> {
        match end {
            End::Error => Err(Crash.into()),
            End::Panic => panic!("child {index} was told to"),
        }
    }
}
