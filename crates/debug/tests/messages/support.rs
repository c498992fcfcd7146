//! A shop with two actors that take messages, one plain and one in envelopes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use perennial_debug::{Debugger, Snapshot};
use perennial_lifecycle::{ActorName, ChildSpec, Incarnation, Mail, Mailbox, Node, Scope};
use perennial_registry::{Name, Registry};
use perennial_supervisor::{RestartIntensity, Supervisor, SupervisorBuilder};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{Notify, oneshot};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const CLERK: Name<Job> = Name::new("clerk");
pub(crate) const SCRIBE: Name<Job> = Name::new("scribe");

pub(crate) enum Job {
    Write(u32),
    /// Says that it has begun, takes this long, and notes it.
    Slow(u32, oneshot::Sender<()>, Duration),
    Fail,
    Flush,
}

/// What outlasts the runs.
#[derive(Default)]
pub(crate) struct Desk {
    pub(crate) notes: Mutex<Vec<u32>>,
    pub(crate) noted: Notify,
}

impl Desk {
    pub(crate) fn note(&self, number: u32) {
        self.notes.lock().unwrap().push(number);
        self.noted.notify_one();
    }

    /// Waits until so many are noted.
    pub(crate) async fn notes(&self, count: usize) -> Vec<u32> {
        loop {
            let notes = self.notes.lock().unwrap().clone();
            if notes.len() >= count {
                return notes;
            }
            self.noted.notified().await;
        }
    }

    pub(crate) async fn work(&self, job: &mut Job) -> Result<(), ActorProcessingErr> {
        match job {
            Job::Write(number) => self.note(*number),
            Job::Slow(number, begun, time) => {
                let (mut other, _wait) = oneshot::channel();
                std::mem::swap(begun, &mut other);
                // Gone already where nobody waits for the beginning.
                other.send(()).ok();
                tokio::time::sleep(*time).await;
                self.note(*number);
            }
            Job::Fail => return Err("as told".into()),
            Job::Flush => self.note(1_000),
        }
        Ok(())
    }
}

/// Takes plain messages.
pub(crate) struct Clerk(pub(crate) Arc<Desk>);

impl Actor for Clerk {
    type Msg = Job;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Job>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Job>,
        mut job: Job,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        self.0.work(&mut job).await
    }
}

/// Takes them in envelopes.
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
        mut job: Mail<Job>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        self.0.work(&mut job).await
    }
}

/// `shop` with `clerk`, `scribe` and `debug`.
pub(crate) struct Shop {
    pub(crate) scope: Scope,
    pub(crate) debugger: Debugger,
    pub(crate) clerk: Arc<Desk>,
    pub(crate) scribe: Arc<Desk>,
}

pub(crate) fn clerk(id: &str, desk: &Arc<Desk>) -> ChildSpec {
    let desk = Arc::clone(desk);
    let group = ActorName::host("staff");
    ChildSpec::worker(id, move || (Clerk(Arc::clone(&desk)), ()))
        .name(ActorName::host(id.to_owned()))
        .group(group)
}

pub(crate) fn supervisor() -> SupervisorBuilder {
    Supervisor::builder().intensity(RestartIntensity::new(1_000, SECOND))
}

impl Shop {
    pub(crate) async fn open() -> Self {
        Self::open_with(Mailbox::bounded(10)).await
    }

    pub(crate) async fn open_with(mailbox: Mailbox) -> Self {
        Self::with(mailbox.clone(), mailbox).await
    }

    pub(crate) async fn with(clerks: Mailbox, scribes: Mailbox) -> Self {
        let scope = Scope::new("shop");
        let names = Registry::new(&scope);
        let debugger = Debugger::new(&scope).with_names(&names);
        let (desk, inside) = <(Arc<Desk>, Arc<Desk>)>::default();
        let scribe = Arc::clone(&inside);
        let spec = ChildSpec::worker("scribe", move || (Scribe(Arc::clone(&inside)), ()))
            .name(SCRIBE.to_actor_name())
            .mailbox(scribes);
        supervisor()
            .child(clerk("clerk", &desk).mailbox(clerks))
            .child(spec)
            .child(debugger.child_spec())
            .build()
            .unwrap()
            .start_in(&scope)
            .await
            .unwrap();
        Self {
            scope,
            debugger,
            clerk: desk,
            scribe,
        }
    }

    pub(crate) fn node(&self, path: &str) -> Arc<Node> {
        self.scope.root().find(path).unwrap()
    }

    pub(crate) fn run(&self, path: &str) -> Arc<Incarnation> {
        self.node(path).current().unwrap()
    }

    pub(crate) fn send(&self, path: &str, job: Job) {
        self.run(path).offer(job).unwrap();
    }

    /// Gives the actor a job for this long, and waits until it is in hand.
    pub(crate) async fn occupy(&self, path: &str, time: Duration) {
        let (begun, wait) = oneshot::channel();
        self.send(path, Job::Slow(0, begun, time));
        wait.await.unwrap();
    }

    pub(crate) async fn snapshot(&self) -> Snapshot {
        self.debugger.snapshot().await.unwrap()
    }

    pub(crate) fn log(&self) -> Vec<String> {
        let timeline = self.debugger.timeline(usize::MAX);
        let texts = timeline.into_iter().map(|entry| entry.text);
        texts
            .filter_map(|text| text.strip_prefix("operator: ").map(str::to_owned))
            .collect()
    }

    pub(crate) fn assert_balanced(&self) {
        let books = self.scope.books();
        assert!(books.is_balanced(), "{books:?}");
    }
}

/// The lines below the tree.
pub(crate) fn below(snapshot: &Snapshot) -> String {
    let text = snapshot.render();
    let (_, below) = text.split_once("\n\n").unwrap();
    below.to_owned()
}
