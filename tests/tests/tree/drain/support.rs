//! Actors that take their time, and the beginning of a shutdown.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use perennial::{ChildSpec, EventKind, Events, Mail, Name, Route, Tree, TreeBuilder};
use perennial_testkit::Journal;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::watch;

use crate::support::{patient, within};

/// What the actors of these tests do.
pub(crate) enum Job {
    /// Note it.
    Note(u32),
    /// Say that it has begun, wait for the gate, then note it.
    Wait(u32),
    /// Wait for the gate, then have the other actor answer, and note the answer.
    Ask(Tree),
    Answer(RpcReplyPort<u32>),
    /// Wait for the gate, then send to each member of the group in each way, and note the answers.
    Spread(Tree),
    /// Never end.
    Hang,
    /// Say that it has begun, and do not yield until somebody says so.
    Block(Mutex<mpsc::Receiver<()>>),
    Fail,
}

pub(crate) const ONE: Name<Job> = Name::new("one");
pub(crate) const TWO: Name<Job> = Name::new("two");
pub(crate) const CLERKS: Name<Job> = Name::new("clerks");
pub(crate) const EMPTY: Name<Job> = Name::new("empty");
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// What the actors and the test share.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) begun: Journal<u32>,
    pub(crate) done: Journal<u32>,
    pub(crate) gate: watch::Sender<bool>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self {
            begun: Journal::new(),
            done: Journal::new(),
            gate: watch::Sender::new(false),
        }
    }

    pub(crate) fn open(&self) {
        self.gate.send_replace(true);
    }

    pub(crate) async fn wait(&self) {
        self.begun.push(0);
        self.gate.subscribe().wait_for(|it| *it).await.unwrap();
    }

    pub(crate) fn plain(&self, id: &str) -> ChildSpec {
        let desk = self.clone();
        ChildSpec::worker(id, move || (Plain, desk.clone()))
    }

    pub(crate) fn mail(&self, id: &str) -> ChildSpec {
        let desk = self.clone();
        ChildSpec::worker(id, move || (Enveloped, desk.clone()))
    }

    pub(crate) async fn handle(&self, job: Job) -> Result<(), ActorProcessingErr> {
        match job {
            Job::Note(number) => self.done.push(number),
            Job::Wait(number) => {
                self.wait().await;
                self.done.push(number);
            }
            Job::Ask(tree) => {
                self.wait().await;
                let second = Duration::from_secs(1);
                let answer = tree.call(TWO, Job::Answer, second).await;
                self.done.push(answer.map_err(|error| error.to_string())?);
            }
            Job::Spread(tree) => {
                self.wait().await;
                let clerks = tree.group(&CLERKS)?;
                clerks.cast(Route::RoundRobin, Job::Note(1))?;
                clerks.send(Route::RoundRobin, Job::Note(2), SECOND).await?;
                let answer = clerks.call(Route::LeastQueued, Job::Answer, SECOND).await;
                self.done.push(answer?);
                clerks.broadcast_with(|_| Job::Note(3))?;
            }
            Job::Answer(reply) => reply.send(42)?,
            Job::Block(release) => {
                self.begun.push(0);
                release.into_inner().unwrap().recv()?;
            }
            Job::Fail => return Err("as told".into()),
            Job::Hang => {
                self.begun.push(0);
                std::future::pending().await
            }
        }
        Ok(())
    }
}

pub(crate) struct Plain;

impl Actor for Plain {
    type Msg = Job;
    type State = Desk;
    type Arguments = Desk;

    async fn pre_start(&self, _: ActorRef<Job>, desk: Desk) -> Result<Desk, ActorProcessingErr> {
        Ok(desk)
    }

    async fn handle(
        &self,
        _: ActorRef<Job>,
        job: Job,
        desk: &mut Desk,
    ) -> Result<(), ActorProcessingErr> {
        desk.handle(job).await
    }
}

pub(crate) struct Enveloped;

impl Actor for Enveloped {
    type Msg = Mail<Job>;
    type State = Desk;
    type Arguments = Desk;

    async fn pre_start(
        &self,
        _: ActorRef<Mail<Job>>,
        desk: Desk,
    ) -> Result<Desk, ActorProcessingErr> {
        Ok(desk)
    }

    async fn handle(
        &self,
        _: ActorRef<Mail<Job>>,
        job: Mail<Job>,
        desk: &mut Desk,
    ) -> Result<(), ActorProcessingErr> {
        desk.handle(job.into_inner()).await
    }
}

pub(crate) fn builder() -> TreeBuilder {
    Tree::builder("t").settings(patient())
}

/// Begins a shutdown, and returns once the tree takes nothing from outside any more.
pub(crate) async fn begin(tree: &Tree) -> tokio::task::JoinHandle<perennial::ShutdownReport> {
    let stopping = tokio::spawn({
        let tree = tree.clone();
        async move { tree.shutdown().await }
    });
    let traffic = tree.scope().traffic().clone();
    within("the refusal", traffic.refusal()).await;
    stopping
}

/// Waits for an event of this kind.
pub(crate) async fn hear(events: &mut Events, wanted: fn(&EventKind) -> bool) {
    let heard = async { while !wanted(&events.next().await.unwrap().unwrap().kind) {} };
    within("the event", heard).await;
}
