//! A tree with a scribe, who notes what it handles, and two colleagues who do as they are told.

use std::future::Future;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use perennial_lifecycle::{
    ActorPath, ChildSpec, DeadLetter, DeadLetters, DeadReason, ExitReason, Figures, Incarnation,
    Mail, Mailbox, Node, RestartIntensity, Scope,
};
use perennial_registry::{CallError, Name, Registry};
use perennial_supervisor::Supervisor;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::Notify;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const SCRIBE: Name<Job> = Name::new("scribe");
pub(crate) const CLERK: Name<Job> = Name::new("clerk");
pub(crate) const TELLER: Name<Job> = Name::new("teller");

/// What is done in a handler.
pub(crate) type Task =
    Box<dyn Fn() -> BoxFuture<'static, Result<(), ActorProcessingErr>> + Send + Sync>;

pub(crate) fn task<Fut>(work: impl Fn() -> Fut + Send + Sync + 'static) -> Task
where
    Fut: Future<Output = Result<(), ActorProcessingErr>> + Send + 'static,
{
    Box::new(move || work().boxed())
}

pub(crate) enum Job {
    /// Notes it.
    Write(u32),
    /// Notes it and fails.
    Fail(u32),
    /// Notes it and panics.
    Panic(u32),
    /// Notes it, is taken out of its envelope, and fails.
    Once(u32),
    /// Notes it, and waits to be let go on.
    Hold(u32),
    /// Waits to be let go on.
    Block,
    /// Does it.
    Do(Task),
    /// Drops its envelope, and then holds its thread until it is told to go on.
    Stick(Arc<Mutex<mpsc::Receiver<()>>>),
    /// Does it, and then answers with 7.
    Ask(Task, RpcReplyPort<u32>),
    /// Drops the port without an answer.
    Forget(RpcReplyPort<u32>),
    /// Tells what was noted.
    Read(RpcReplyPort<Vec<u32>>),
    /// Tells what is written on the envelope.
    Look(RpcReplyPort<Envelope>),
}

/// What a handler is told of its message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) time_left: Option<Duration>,
    pub(crate) age: Duration,
    pub(crate) sender: Option<ActorPath>,
    pub(crate) crashes: u32,
    pub(crate) is_call: bool,
    pub(crate) is_abandoned: bool,
}

impl Envelope {
    fn of(job: &Mail<Job>) -> Self {
        Self {
            time_left: job.time_left(),
            age: job.age(),
            sender: job.sender().cloned(),
            crashes: job.crashes(),
            is_call: job.is_call(),
            is_abandoned: job.is_abandoned(),
        }
    }
}

/// What outlasts the runs of an actor.
#[derive(Default)]
pub(crate) struct Desk {
    pub(crate) notes: Mutex<Vec<u32>>,
    /// As each message began.
    pub(crate) envelopes: Mutex<Vec<Envelope>>,
    /// As each ended that a handler took out.
    pub(crate) left: Mutex<Vec<Envelope>>,
    pub(crate) go: Notify,
    pub(crate) blocked: Notify,
}

impl Desk {
    fn note(&self, n: u32) {
        self.notes.lock().unwrap().push(n);
    }

    /// Works on a message, as far as that needs no hold of it.
    async fn work(&self, job: &Job) -> Result<(), ActorProcessingErr> {
        match job {
            Job::Write(n) => self.note(*n),
            Job::Fail(n) => {
                self.note(*n);
                return Err("as told".into());
            }
            Job::Panic(n) => {
                self.note(*n);
                panic!("as told");
            }
            Job::Once(n) => self.note(*n),
            Job::Hold(n) => {
                self.note(*n);
                self.wait().await;
            }
            Job::Block => self.wait().await,
            Job::Do(task) | Job::Ask(task, _) => task().await?,
            Job::Stick(_) | Job::Forget(_) | Job::Read(_) | Job::Look(_) => {}
        }
        Ok(())
    }

    async fn wait(&self) {
        self.blocked.notify_one();
        self.go.notified().await;
    }

    fn is_to_be_taken(job: &Job) -> bool {
        !matches!(
            job,
            Job::Write(_) | Job::Fail(_) | Job::Panic(_) | Job::Hold(_) | Job::Block | Job::Do(_)
        )
    }

    /// Does what needs the message itself.
    fn finish(&self, job: Job, envelope: Envelope) -> Result<(), ActorProcessingErr> {
        match job {
            Job::Once(_) => return Err("as told".into()),
            Job::Ask(_, reply) => drop(reply.send(7)),
            Job::Forget(reply) => drop(reply),
            Job::Read(reply) => drop(reply.send(self.notes.lock().unwrap().clone())),
            Job::Look(reply) => drop(reply.send(envelope)),
            _ => {}
        }
        Ok(())
    }
}

/// Takes its messages in envelopes.
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
        desk.envelopes.lock().unwrap().push(Envelope::of(&job));
        if let Job::Stick(held) = &*job {
            let held = Arc::clone(held);
            drop(job);
            held.lock().unwrap().recv()?;
            return Ok(());
        }
        desk.work(&job).await?;
        if !Desk::is_to_be_taken(&job) {
            return Ok(());
        }
        let envelope = Envelope::of(&job);
        desk.left.lock().unwrap().push(envelope.clone());
        desk.finish(job.into_inner(), envelope)
    }
}

/// Takes its messages as they are.
pub(crate) struct PlainScribe(pub(crate) Arc<Desk>);

impl Actor for PlainScribe {
    type Msg = Job;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        job: Job,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let Self(desk) = self;
        desk.work(&job).await?;
        desk.finish(job, Envelope::default())
    }
}

/// How an actor takes its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// `type Msg = Job`
    Plain,
    /// `type Msg = Mail<Job>`
    Mail,
}

impl Door {
    pub(crate) const BOTH: [Self; 2] = [Self::Plain, Self::Mail];

    pub(crate) fn spec(self, id: &'static str, desk: &Arc<Desk>) -> ChildSpec {
        let desk = Arc::clone(desk);
        let spec = match self {
            Self::Plain => ChildSpec::worker(id, move || (PlainScribe(Arc::clone(&desk)), ())),
            Self::Mail => ChildSpec::worker(id, move || (Scribe(Arc::clone(&desk)), ())),
        };
        spec.name(Name::<Job>::new(id).to_actor_name())
    }
}

pub(crate) struct Fixture {
    pub(crate) scope: Scope,
    pub(crate) registry: Registry,
    /// The scribe's.
    pub(crate) desk: Arc<Desk>,
    pub(crate) supervisor: Supervisor,
}

impl Fixture {
    /// Starts a scribe that takes its messages in envelopes.
    pub(crate) async fn start(mailbox: Mailbox) -> Self {
        Self::behind(Door::Mail, mailbox).await
    }

    pub(crate) async fn behind(door: Door, mailbox: Mailbox) -> Self {
        let desk = Arc::new(Desk::default());
        let spec = door.spec("scribe", &desk).mailbox(mailbox);
        let colleague = |id| door.spec(id, &Arc::default());
        Self::of(desk, [spec, colleague("clerk"), colleague("teller")]).await
    }

    pub(crate) async fn of(desk: Arc<Desk>, specs: impl IntoIterator<Item = ChildSpec>) -> Self {
        let scope = Scope::new("t");
        let registry = Registry::new(&scope);
        let supervisor = Supervisor::builder().intensity(RestartIntensity::new(10_000, SECOND));
        let supervisor = specs
            .into_iter()
            .fold(supervisor, |all, spec| all.child(spec));
        let supervisor = supervisor.build().unwrap().start_in(&scope).await.unwrap();
        Self {
            scope,
            registry,
            desk,
            supervisor,
        }
    }

    pub(crate) fn cast(&self, job: Job) {
        self.registry.cast(SCRIBE, job).unwrap();
    }

    pub(crate) fn write(&self, numbers: impl IntoIterator<Item = u32>) {
        for n in numbers {
            self.cast(Job::Write(n));
        }
    }

    /// Makes the scribe wait in its handler.
    pub(crate) async fn block(&self) {
        self.cast(Job::Block);
        self.desk.blocked.notified().await;
    }

    /// Lets the scribe go on.
    pub(crate) fn go(&self) {
        self.desk.go.notify_one();
    }

    pub(crate) async fn notes(&self) -> Vec<u32> {
        self.registry.call(SCRIBE, Job::Read, SECOND).await.unwrap()
    }

    /// Calls the scribe with something that it does before it answers.
    pub(crate) async fn ask(&self, task: Task) -> Result<u32, CallError<Job>> {
        let ask = |reply| Job::Ask(task, reply);
        self.registry.call(SCRIBE, ask, 60 * SECOND).await
    }

    /// Lets the others go on until all of them wait: a paused clock stands still for so long.
    pub(crate) async fn settled(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    pub(crate) fn run(&self) -> Arc<Incarnation> {
        self.node().current().unwrap()
    }

    pub(crate) fn node(&self) -> Arc<Node> {
        self.supervisor.node().child("scribe").unwrap()
    }

    pub(crate) fn figures(&self) -> Figures {
        self.node().figures().unwrap()
    }

    pub(crate) fn dead(&self) -> &DeadLetters {
        self.scope.traffic().dead_letters()
    }

    pub(crate) fn dead_list(&self) -> Vec<DeadLetter> {
        self.dead().list()
    }

    pub(crate) fn dead_reasons(&self) -> Vec<DeadReason> {
        self.dead_list().iter().map(|it| it.reason).collect()
    }

    pub(crate) fn assert_balanced(&self) {
        let books = self.scope.books();
        assert!(books.is_balanced(), "{books:?}");
    }

    /// Ends the tree; the books must balance also then.
    pub(crate) async fn finish(self) {
        self.assert_balanced();
        self.supervisor.stop(ExitReason::Shutdown).await;
        self.assert_balanced();
        let books = self.scope.books();
        assert_eq!(
            (books.in_hand, self.scope.traffic().waits().list().len()),
            (0, 0)
        );
    }
}
