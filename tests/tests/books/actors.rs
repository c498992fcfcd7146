//! The actors: one of each kind, which do what their messages say.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use perennial::lifecycle::Incarnation;
use perennial::registry::Member;
use perennial::{CallError, CastError, Group, Mail, Name, Node, Registry, Route};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::time::{Instant, sleep, timeout};

use crate::log::{InHand, Job, Log};
use crate::script::{Act, Sending, To, Way};

pub(crate) const NAMES: [Name<Job>; 4] = [
    Name::new("a0"),
    Name::new("a1"),
    Name::new("a2"),
    Name::new("a3"),
];

/// The groups: a group has members of one kind.
const PLAIN: Name<Job> = Name::new("plain");
const MAILED: Name<Job> = Name::new("mailed");

pub(crate) fn group_name(is_mail: bool) -> Name<Job> {
    match is_mail {
        false => PLAIN,
        true => MAILED,
    }
}

/// Returns which actor lives at a place of this id.
fn index_of(id: &str) -> usize {
    let at = NAMES.iter().position(|it| it.to_string() == id);
    at.expect("a place of the plan")
}

/// By how much a call may miss its deadline: it waits a moment to hear why its port was dropped.
const SLACK: Duration = Duration::from_millis(30);

pub(crate) struct World {
    pub(crate) registry: Registry,
    pub(crate) log: Arc<Log>,
    pub(crate) actors: usize,
    /// Where actors have lived: some places leave the tree, and others come at the same paths.
    pub(crate) places: Mutex<Vec<Arc<Node>>>,
}

pub(crate) struct Plain(pub(crate) Arc<World>);

pub(crate) struct Mailed(pub(crate) Arc<World>);

impl World {
    /// Sends a message and notes what its sender sees of it.
    pub(crate) fn send(self: &Arc<Self>, sending: Sending) -> BoxFuture<'static, ()> {
        let world = Arc::clone(self);
        async move { world.send_now(sending).await }.boxed()
    }

    async fn send_now(&self, Sending { to, way, acts }: Sending) {
        let address = match to {
            To::Actor(at) => Address::Name(NAMES[at % self.actors].clone()),
            To::Group { is_mail, route } => Address::Group(self.group(is_mail), route),
            To::All { is_mail } => return self.broadcast(is_mail, &acts),
        };
        let to = match to {
            To::Actor(at) => To::Actor(at % self.actors),
            group => group,
        };
        let is_call = matches!(way, Way::Call { .. });
        let tag = self.log.tag(to, is_call);
        let id = tag.id;
        let job = Job {
            tag,
            acts,
            reply: None,
            is_deferred: false,
        };
        let is_delivered = match way {
            Way::Cast => match address.cast(&self.registry, job) {
                Ok(()) => true,
                Err(error) => {
                    assert_eq!(error.message.tag.id, id);
                    false
                }
            },
            Way::Send { wait } => {
                let wait = Duration::from_millis(wait);
                match address.send(&self.registry, job, wait).await {
                    Ok(()) => true,
                    Err(error) => {
                        assert_eq!(error.message.tag.id, id);
                        false
                    }
                }
            }
            Way::Call {
                timeout: within,
                given_up_after,
            } => {
                let within = Duration::from_millis(within);
                let begin = Instant::now();
                let make = |reply| Job {
                    reply: Some(reply),
                    ..job
                };
                let call = address.call(&self.registry, make, within);
                let called = match given_up_after {
                    None => Ok(call.await),
                    Some(after) => timeout(Duration::from_millis(after), call).await,
                };
                let Ok(called) = called else {
                    return;
                };
                assert!(begin.elapsed() <= within + SLACK, "{:?}", begin.elapsed());
                match called {
                    Ok(answer) => {
                        assert_eq!(answer, id);
                        true
                    }
                    Err(CallError::Refused(error)) => {
                        assert_eq!(error.message.tag.id, id);
                        false
                    }
                    Err(_) => true,
                }
            }
        };
        self.log.sent(id, is_delivered);
    }

    fn group(&self, is_mail: bool) -> Group<Job> {
        self.registry.group(&group_name(is_mail)).unwrap()
    }

    /// Sends a copy to all, each a message of its own.
    fn broadcast(&self, is_mail: bool, acts: &[Act]) {
        let mut copies = Vec::new();
        let make = |member: &Member| {
            let to = To::Actor(index_of(member.path().id()));
            let tag = self.log.tag(to, false);
            copies.push(tag.id);
            Job {
                tag,
                acts: acts.to_vec(),
                reply: None,
                is_deferred: false,
            }
        };
        let sent = self.group(is_mail).broadcast_with(make).unwrap();
        // On one thread nobody has come yet for what was delivered, and nobody else holds the others.
        let is_there = |id: &u64| self.log.entries().fates[id].alive == 1;
        let (delivered, refused): (Vec<_>, Vec<_>) = copies.into_iter().partition(is_there);
        assert_eq!(sent.delivered, delivered.len(), "{sent:?}");
        assert_eq!(sent.full + sent.missed, refused.len(), "{sent:?}");
        for (copies, is_delivered) in [(delivered, true), (refused, false)] {
            for id in copies {
                self.log.sent(id, is_delivered);
            }
        }
    }

    /// Notes where the actor lives that is starting.
    fn note_place(&self) {
        let run = Incarnation::current().expect("in a function of an actor");
        let mut places = self.places.lock().unwrap();
        if !places.iter().any(|it| Arc::ptr_eq(it, run.node())) {
            places.push(Arc::clone(run.node()));
        }
    }

    /// Does what a message says; whether it is to be sent to its actor once more.
    async fn act(
        self: &Arc<Self>,
        acts: Vec<Act>,
        is_deferred: bool,
        in_hand: &mut InHand,
        stop: impl Fn(),
    ) -> Result<Next, ActorProcessingErr> {
        for act in acts {
            match act {
                Act::Fail => return Err("as told".into()),
                // Without the hook, which would print it.
                Act::Panic => std::panic::resume_unwind(Box::new("as told")),
                Act::TakeAndFail => {
                    in_hand.is_last = true;
                    return Ok(Next::TakeAndFail);
                }
                Act::Sleep(millis) => sleep(Duration::from_millis(millis)).await,
                Act::StopSelf => stop(),
                Act::Defer if is_deferred => {}
                Act::Defer => return Ok(Next::Defer),
                Act::Message(sending) => self.send(sending).await,
            }
        }
        Ok(Next::Done)
    }
}

/// Where a message is sent to.
enum Address {
    Name(Name<Job>),
    Group(Group<Job>, Route),
}

impl Address {
    #[allow(clippy::result_large_err, reason = "it has the message")]
    fn cast(&self, registry: &Registry, job: Job) -> Result<(), CastError<Job>> {
        match self {
            Self::Name(name) => registry.cast(name.clone(), job),
            Self::Group(group, route) => group.cast(*route, job),
        }
    }

    async fn send(
        &self,
        registry: &Registry,
        job: Job,
        wait: Duration,
    ) -> Result<(), CastError<Job>> {
        match self {
            Self::Name(name) => registry.resolve(name).unwrap().send(job, wait).await,
            Self::Group(group, route) => group.send(*route, job, wait).await,
        }
    }

    async fn call(
        &self,
        registry: &Registry,
        make: impl FnOnce(RpcReplyPort<u64>) -> Job,
        within: Duration,
    ) -> Result<u64, CallError<Job>> {
        match self {
            Self::Name(name) => registry.call(name.clone(), make, within).await,
            Self::Group(group, route) => group.call(*route, make, within).await,
        }
    }
}

enum Next {
    Done,
    TakeAndFail,
    Defer,
}

impl Actor for Plain {
    type Msg = Job;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Job>, (): ()) -> Result<(), ActorProcessingErr> {
        self.0.note_place();
        Ok(())
    }

    // Noted when it is taken, and not when the future is polled first: in between the actor may be killed.
    fn handle(
        &self,
        myself: ActorRef<Job>,
        mut job: Job,
        (): &mut (),
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send {
        let mut in_hand = InHand::new(&self.0.log, job.tag.id, true);
        async move {
            let acts = job.acts.clone();
            let stop = || myself.stop(None);
            let next = self.0.act(acts, job.is_deferred, &mut in_hand, stop);
            match next.await? {
                Next::Done => {
                    if let Some(reply) = job.reply.take() {
                        // The caller may have gone.
                        drop(reply.send(job.tag.id));
                    }
                }
                Next::TakeAndFail => return Err("as told".into()),
                Next::Defer => {
                    self.0.log.change(job.tag.id, |fate| fate.deferred = true);
                    job.is_deferred = true;
                    drop(myself.cast(job));
                }
            }
            in_hand.done();
            Ok(())
        }
    }
}

impl Actor for Mailed {
    type Msg = Mail<Job>;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        self.0.note_place();
        Ok(())
    }

    fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        mut job: Mail<Job>,
        (): &mut (),
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send {
        // One that was put away and sent once more has been handled, as far as the books are concerned.
        let is_last = job.is_call() || job.is_deferred;
        if job.is_call() != job.reply.is_some() {
            self.0.log.change(job.tag.id, |fate| fate.mistaken = true);
        }
        let mut in_hand = InHand::new(&self.0.log, job.tag.id, is_last);
        async move {
            let acts = job.acts.clone();
            let stop = || myself.stop(None);
            let next = self.0.act(acts, job.is_deferred, &mut in_hand, stop);
            match next.await? {
                Next::Done => {
                    let mut job = job.into_inner();
                    in_hand.is_last = true;
                    if let Some(reply) = job.reply.take() {
                        drop(reply.send(job.tag.id));
                    }
                }
                Next::TakeAndFail => {
                    drop(job.into_inner());
                    return Err("as told".into());
                }
                Next::Defer => {
                    self.0.log.change(job.tag.id, |fate| fate.deferred = true);
                    job.is_deferred = true;
                    drop(myself.cast(job));
                }
            }
            in_hand.done();
            Ok(())
        }
    }
}
