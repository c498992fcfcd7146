//! The workers that are lent: each is numbered at its start, and notes its end.

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use perennial::pool::{Worker, WorkerRef};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::record::Death;

/// What happened to the workers of one scenario.
#[derive(Clone, Default)]
pub(crate) struct Roll(Arc<Mutex<Entries>>);

#[derive(Default)]
pub(crate) struct Entries {
    /// The actors by number; the first is `w1`.
    pub(crate) started: Vec<ActorRef<WorkerMsg>>,
    /// Since the last look.
    pub(crate) created: Vec<usize>,
    /// Since the last look.
    pub(crate) dead: Vec<usize>,
}

impl Roll {
    pub(crate) fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) enum WorkerMsg {
    End(Death),
}

pub(crate) struct Recorded(Roll);

/// Notes the end of a worker, however it comes.
pub(crate) struct Life {
    roll: Roll,
    number: usize,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.roll.entries().dead.push(self.number);
    }
}

impl Actor for Recorded {
    type Msg = WorkerMsg;
    type State = Life;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<WorkerMsg>,
        (): (),
    ) -> Result<Life, ActorProcessingErr> {
        let mut entries = self.0.entries();
        entries.started.push(myself);
        let number = entries.started.len();
        entries.created.push(number);
        drop(entries);
        Ok(Life {
            roll: self.0.clone(),
            number,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<WorkerMsg>,
        WorkerMsg::End(how): WorkerMsg,
        _: &mut Life,
    ) -> Result<(), ActorProcessingErr> {
        match how {
            Death::Kill => myself.kill(),
            Death::Normal => myself.stop(None),
            Death::Error => return Err(Box::<dyn Error + Send + Sync>::from("told to fail")),
        }
        Ok(())
    }
}

/// The kind of worker that is recorded.
pub(crate) struct RecordedWorker(pub(crate) Roll);

impl Worker for RecordedWorker {
    type Actor = Recorded;
    type Client = WorkerRef<WorkerMsg>;

    fn actor(&self) -> (Recorded, ()) {
        (Recorded(self.0.clone()), ())
    }

    fn client(&self, worker: WorkerRef<WorkerMsg>) -> WorkerRef<WorkerMsg> {
        worker
    }
}
