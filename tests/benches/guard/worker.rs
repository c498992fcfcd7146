//! The worker actor that everybody pools.

use perennial::{Worker, WorkerRef};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

pub(crate) struct Square(pub(crate) u64, pub(crate) RpcReplyPort<u64>);

pub(crate) struct Squarer;

impl Actor for Squarer {
    type Msg = Square;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Square>, _: ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Square>,
        Square(number, reply): Square,
        _: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(reply.send(number.wrapping_mul(number))?)
    }
}

pub(crate) struct SquareWorker;

impl Worker for SquareWorker {
    type Actor = Squarer;
    type Client = WorkerRef<Square>;

    fn actor(&self) -> (Squarer, ()) {
        (Squarer, ())
    }

    fn client(&self, worker: WorkerRef<Square>) -> WorkerRef<Square> {
        worker
    }
}
