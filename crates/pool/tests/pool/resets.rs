//! Workers that keep something for whoever holds them.

use perennial_lifecycle::ExitReason;
use perennial_pool::{Pool, PoolConfig, Worker, WorkerRef};
use perennial_supervisor::Supervisor;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

struct Notepad;

enum Note {
    Add(&'static str),
    Read(RpcReplyPort<Vec<&'static str>>),
    Tear,
}

impl Actor for Notepad {
    type Msg = Note;
    type State = Vec<&'static str>;
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ActorRef<Note>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(Vec::new())
    }

    async fn handle(
        &self,
        _: ActorRef<Note>,
        note: Note,
        page: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match note {
            Note::Add(text) => page.push(text),
            Note::Read(reply) => reply.send(page.clone())?,
            Note::Tear => page.clear(),
        }
        Ok(())
    }
}

/// Tears off the page when it is lent, or when it comes back.
#[derive(Clone, Copy)]
enum Notepads {
    TornBefore,
    TornAfter,
}

struct Pen(WorkerRef<Note>, Notepads);

impl Drop for Pen {
    fn drop(&mut self) {
        if let Notepads::TornAfter = self.1 {
            self.0.cast(Note::Tear).unwrap();
        }
    }
}

impl Worker for Notepads {
    type Actor = Notepad;
    type Client = Pen;

    fn actor(&self) -> (Notepad, ()) {
        (Notepad, ())
    }

    fn client(&self, worker: WorkerRef<Note>) -> Pen {
        if let Self::TornBefore = self {
            worker.cast(Note::Tear).unwrap();
        }
        Pen(worker, *self)
    }
}

#[tokio::test(start_paused = true)]
async fn pool_25_a_client_can_reset_its_worker_before_and_after_each_holder() {
    for kind in [Notepads::TornBefore, Notepads::TornAfter] {
        let pool = Pool::new("notepads", kind, PoolConfig::new(1)).unwrap();
        let tree = Supervisor::builder().child(pool.child_spec());
        let tree = tree.build().unwrap().start("test").await.unwrap();
        for text in ["mine", "yours"] {
            let pen = pool.checkout().await.unwrap();
            pen.0.cast(Note::Add(text)).unwrap();
            assert_eq!(pen.0.call(Note::Read).await.unwrap(), [text]);
        }
        assert_eq!(pool.stats().created, 1);
        tree.stop(ExitReason::Shutdown).await;
    }
}
