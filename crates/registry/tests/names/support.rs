//! A tree with a registry, and an actor that does as it is told.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use perennial_lifecycle::{ChildSpec, ExitReason, Scope};
use perennial_registry::{Name, Registry};
use perennial_supervisor::{RestartIntensity, Supervisor, SupervisorBuilder};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const CLERK: Name<Msg> = Name::new("clerk");
pub(crate) const CLERKS: Name<Msg> = Name::new("clerks");

pub(crate) enum Msg {
    /// Counts itself.
    Work,
    /// Asks for the number of messages counted so far, and who counted them.
    Who(RpcReplyPort<(String, u64)>),
    /// Ends with a failure.
    Fail,
    /// Stays in hand for good.
    Hang,
}

impl fmt::Debug for Msg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Msg")
    }
}

pub(crate) struct Clerk;

impl Actor for Clerk {
    type Msg = Msg;
    type State = (String, u64);
    type Arguments = String;

    async fn pre_start(
        &self,
        _: ActorRef<Msg>,
        id: String,
    ) -> Result<(String, u64), ActorProcessingErr> {
        Ok((id, 0))
    }

    async fn handle(
        &self,
        _: ActorRef<Msg>,
        message: Msg,
        (id, count): &mut (String, u64),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Work => *count += 1,
            Msg::Who(reply) => reply.send((id.clone(), *count))?,
            Msg::Fail => return Err("told to".into()),
            Msg::Hang => std::future::pending().await,
        }
        Ok(())
    }
}

/// A worker of this id, without a name.
pub(crate) fn clerk(id: &str) -> ChildSpec {
    let made = id.to_owned();
    ChildSpec::worker(id, move || (Clerk, made.clone()))
}

pub(crate) fn named(id: &str) -> ChildSpec {
    clerk(id).name(CLERK)
}

pub(crate) fn member(id: &str) -> ChildSpec {
    clerk(id).group(CLERKS)
}

pub(crate) fn generous() -> SupervisorBuilder {
    Supervisor::builder().intensity(RestartIntensity::new(1_000_000, SECOND))
}

pub(crate) struct Fixture {
    pub(crate) scope: Scope,
    pub(crate) registry: Registry,
    pub(crate) supervisor: Supervisor,
}

impl Fixture {
    pub(crate) async fn start(specs: impl IntoIterator<Item = ChildSpec>) -> Self {
        let scope = Scope::new("t");
        let registry = Registry::new(&scope);
        let builder = generous().child(registry.child_spec()).children(specs);
        let supervisor = builder.build().unwrap().start_in(&scope).await.unwrap();
        Self {
            scope,
            registry,
            supervisor,
        }
    }

    /// Ends the run of a child and waits for the next one.
    pub(crate) async fn crash(&self, id: &str) {
        let node = self.supervisor.node().child(id).unwrap();
        let run = node.running().await;
        run.stop(ExitReason::failed("told to"));
        run.ended().await;
        node.running().await;
    }

    pub(crate) async fn stop(&self, id: &str) {
        self.supervisor.terminate_child(id).await.unwrap();
    }

    pub(crate) async fn restart(&self, id: &str) {
        self.supervisor.restart_child(id).await.unwrap();
    }
}

/// Fails the test when something does not come about in a minute.
pub(crate) async fn within<T>(what: &str, it: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(60 * SECOND, it).await;
    done.unwrap_or_else(|_| panic!("waited for {what}"))
}

pub(crate) type Job<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Lets other tasks of this thread run until they wait.
pub(crate) async fn let_others_run() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

/// Makes the job anew for each number of polls after which it is dropped, until one gets through. `before` is called
/// ahead of each job, `between` behind each poll, and `after` once the job is dropped or through, which it is told.
pub(crate) async fn drop_at_every_poll<'a>(
    job: impl Fn() -> Job<'a>,
    before: impl AsyncFn(),
    between: impl AsyncFn(usize),
    after: impl AsyncFn(bool),
) -> usize {
    for polls in 0..100 {
        before().await;
        let mut run = job();
        let mut done = false;
        for number in 0..polls {
            let polled = run.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready(()) = polled {
                done = true;
                break;
            }
            between(number).await;
            let_others_run().await;
        }
        drop(run);
        after(done).await;
        if done {
            return polls;
        }
    }
    panic!("it never gets through");
}
