//! A tree with one scribe, who notes what it handles.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use perennial_lifecycle::{ChildSpec, Mail, Mailbox, RestartIntensity, Scope};
use perennial_registry::{Name, Registry};
use perennial_supervisor::Supervisor;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::Notify;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const SCRIBE: Name<Job> = Name::new("scribe");

pub(crate) enum Job {
    /// Notes it.
    Write(u32),
    /// Notes it and fails.
    Fail(u32),
    /// Waits to be let go on.
    Block,
    /// Tells what was noted.
    Read(RpcReplyPort<Vec<u32>>),
}

/// What outlasts the runs of a scribe.
#[derive(Default)]
pub(crate) struct Desk {
    pub(crate) notes: Mutex<Vec<u32>>,
    pub(crate) go: Notify,
    pub(crate) blocked: Notify,
}

pub(crate) struct Scribe(pub(crate) Arc<Desk>);

impl Actor for Scribe {
    type Msg = Mail<Job>;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        job: Mail<Job>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let Self(desk) = self;
        match &*job {
            Job::Write(n) => desk.notes.lock().unwrap().push(*n),
            Job::Fail(n) => {
                desk.notes.lock().unwrap().push(*n);
                return Err("as told".into());
            }
            Job::Block => {
                desk.blocked.notify_one();
                desk.go.notified().await;
            }
            Job::Read(_) => {
                if let Job::Read(reply) = job.into_inner() {
                    let _ = reply.send(desk.notes.lock().unwrap().clone());
                }
            }
        }
        Ok(())
    }
}

pub(crate) struct Fixture {
    pub(crate) scope: Scope,
    pub(crate) registry: Registry,
    pub(crate) desk: Arc<Desk>,
    pub(crate) supervisor: Supervisor,
}

impl Fixture {
    pub(crate) async fn start(mailbox: Mailbox) -> Self {
        let desk = Arc::new(Desk::default());
        let inside = Arc::clone(&desk);
        let spec = ChildSpec::worker("scribe", move || (Scribe(Arc::clone(&inside)), ()))
            .name(SCRIBE.to_actor_name())
            .mailbox(mailbox);
        let scope = Scope::new("t");
        let registry = Registry::new(&scope);
        let supervisor = Supervisor::builder()
            .intensity(RestartIntensity::new(100, SECOND))
            .child(spec);
        let supervisor = supervisor.build().unwrap().start_in(&scope).await.unwrap();
        Self {
            scope,
            registry,
            desk,
            supervisor,
        }
    }

    /// Makes the scribe wait in its handler.
    pub(crate) async fn block(&self) {
        self.registry.cast(SCRIBE, Job::Block).unwrap();
        self.desk.blocked.notified().await;
    }

    pub(crate) async fn notes(&self) -> Vec<u32> {
        self.registry.call(SCRIBE, Job::Read, SECOND).await.unwrap()
    }

    pub(crate) fn assert_balanced(&self) {
        let books = self.scope.books();
        assert!(books.is_balanced(), "{books:?}");
    }
}
