use std::any::{Any, TypeId};
use std::convert::identity;
use std::future::{Ready, ready};
use std::sync::Arc;

use futures_util::future::Either;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, Message, SupervisionEvent};

use crate::call::{Call, Ended, call};
use crate::mailbox::front::Front;
use crate::mailbox::letterbox::Open;
use crate::{
    ChildKey, EventKind, ExitReason, Incarnation, Mailbox, MessageType, Node, ParentLink,
    StartError, WallTime, event, newborn, panic, span,
};

/// How an actor is asked to stop.
pub trait StopDoor: 'static {
    /// Whether the request waits behind the messages: what a supervisor with one queue needs.
    const IS_MAILBOX: bool;

    /// Asks the actor to stop for this reason; returns at once.
    fn knock(cell: &ActorCell, reason: ExitReason);
}

/// Through ractor's stop port: ahead of all messages, after the one in hand.
#[derive(Debug)]
pub struct StopPort;

impl StopDoor for StopPort {
    const IS_MAILBOX: bool = false;

    fn knock(cell: &ActorCell, _: ExitReason) {
        cell.stop(None);
    }
}

/// What all runs have in common that take the same messages and stop alike: one word in each.
pub(crate) struct Nature {
    /// The type of message.
    pub(crate) takes: TypeId,
    /// The same with its name, which a constant cannot hold.
    pub(crate) message: fn() -> MessageType,
    pub(crate) knock: fn(&ActorCell, ExitReason),
    pub(crate) stops_by_mailbox: bool,
}

impl Nature {
    pub(crate) fn of<M: Message, D: StopDoor>() -> &'static Self {
        const {
            &Self {
                takes: TypeId::of::<M>(),
                message: MessageType::of::<M>,
                knock: D::knock,
                stops_by_mailbox: D::IS_MAILBOX,
            }
        }
    }
}

/// What ractor is told of one of the actor's functions.
pub(crate) type Verdict = Result<(), ActorProcessingErr>;

/// A message that is being handled; or one that `S` looks after.
pub(crate) type Delivery<'a, F, Then, S> = Call<'a, F, Then, Either<S, Ready<Verdict>>>;

/// Wraps what the framework starts: the same message type, measured, and with a typed end.
pub(crate) struct Supervised<A>(pub(crate) A);

pub(crate) struct SupervisedArguments<T> {
    pub(crate) inner: T,
    pub(crate) seed: Seed,
}

/// What a run is made from, once ractor's handle of the actor is known.
pub(crate) struct Seed {
    pub(crate) link: Arc<dyn ParentLink>,
    pub(crate) key: ChildKey,
    pub(crate) number: u64,
    pub(crate) nature: &'static Nature,
    pub(crate) node: Arc<Node>,
    pub(crate) mailbox: Option<Arc<Mailbox>>,
}

/// The actor's state, and the guard that reports its end.
///
/// Field order matters: the actor's own state is dropped first, so that what it held is free when the
/// supervisor hears of the end. It is dropped in the actor's own task; see `Incarnation::unlink`.
pub(crate) struct SupervisedState<A: Actor> {
    inner: A::State,
    pub(crate) life: Life,
    /// How its letters are taken in hand, once it has got one.
    open: Option<Open<A::Msg>>,
}

/// What becomes of a message that is not just handled, as nearly all are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    /// Somebody looks at the actor's messages, and it is not in hand yet.
    Inspect,
    /// Nobody wants it any more.
    Skip,
}

/// Reports the end when it is dropped, which happens on every way out: stop, error, panic, kill, abort.
pub(crate) struct Life {
    link: Arc<dyn ParentLink>,
    key: ChildKey,
    /// As in the run, and found without it: of an actor that was not heard of for long, both come from memory at the same
    /// time.
    node: Arc<Node>,
    /// Lent to the thread that polls a handler, so that what the handler sends is known to be its own; here at all other
    /// times.
    pub(crate) run: Option<Arc<Incarnation>>,
    /// As in the run, of an actor that has got a letter.
    front: Option<Arc<Front>>,
    /// The end, once it is known. Still `None` when dropped: killed.
    ///
    /// A clean one that the actor chose by itself takes effect once `post_stop` is through.
    pub(crate) outcome: Option<Box<ExitReason>>,
    concluded: bool,
    /// It has come up. Before that there is no end to report: whoever starts it hears that it did not.
    born: bool,
}

/// What ractor is told of an end that is not clean; all else it would only box and throw away.
#[derive(Debug, thiserror::Error)]
#[error("ended; why is known at its place in the tree")]
struct Reported;

impl Drop for Life {
    fn drop(&mut self) {
        let Some(run) = self.run.take().filter(|_| self.born) else {
            return;
        };
        let reason = self.outcome.take().filter(|_| self.concluded);
        let reason = reason.unwrap_or_else(|| Box::new(ExitReason::Killed));
        let node = &self.node;
        if run.take_restart_to_tell() {
            self.link.child_restarted(&run);
        }
        run.settle();
        let scope = self.link.scope();
        let incarnation = run.number();
        let told = (*reason).clone();
        if !run.finish(reason) {
            // Nobody waits for it any more, and somebody else may live here.
            scope.uncount_detached();
            let reclaimed = EventKind::Reclaimed { incarnation };
            scope.events().emit(node.path(), reclaimed);
            return;
        }
        if let Some(set_aside) = run.set_aside() {
            event::set_aside(scope, node, &run, set_aside);
        }
        let at = WallTime::recent();
        let left = node.leave(&run, &told, at);
        let exited = EventKind::Exited {
            incarnation,
            reason: told,
        };
        scope.events().emit_at(node.path(), exited, at);
        if !run.is_disowned() {
            let left = left.unwrap_or_else(|| Arc::clone(&run));
            self.link.child_ended(self.key, left, at);
        }
        run.announce();
        run.traffic().closing().stir_after_lock();
    }
}

impl Life {
    fn begin(seed: Seed, cell: ActorCell) -> Self {
        let Seed {
            link,
            key,
            number,
            nature,
            node,
            mailbox,
        } = seed;
        let traffic = Arc::clone(link.scope().traffic());
        let run = Incarnation::new(number, cell, nature, Arc::clone(&node), traffic, mailbox);
        Self {
            link,
            key,
            node,
            run: Some(Arc::new(run)),
            front: None,
            outcome: None,
            concluded: false,
            born: false,
        }
    }

    /// Returns the run. Not while a handler is being polled: nobody but the handler has this then.
    #[inline]
    pub(crate) fn run(&self) -> &Arc<Incarnation> {
        self.run.as_ref().expect("lent only during a poll")
    }

    /// Takes a message in hand, unless there is more to it.
    ///
    /// A function of its own, so that the adapter's is small enough to be in place.
    #[inline(never)]
    fn begin_message<T: Message>(
        &mut self,
        open: &mut Option<Open<T>>,
        message: &mut T,
    ) -> Option<Special> {
        let run = self.run();
        if run.is_inspected() || span::is_on() {
            return self.begin_specially(message);
        }
        match (&self.front, open) {
            (Some(front), Some(open)) => open(message, front, run),
            _ if run.taken() == 0 => self.begin_specially(message),
            _ if run.front().is_none() => run.begin_plain(),
            (_, open) => self.begin_letter(open, message),
        }
    }

    /// Takes a letter in hand, and keeps at hand how.
    #[cold]
    #[inline(never)]
    fn begin_letter<T: Message>(
        &mut self,
        open: &mut Option<Open<T>>,
        message: &mut T,
    ) -> Option<Special> {
        let found = self.run().opener();
        (*open, self.front) = found.unzip();
        self.run().begin_message(message)
    }

    /// Apart, so that all others need not keep anything at hand for it.
    #[inline(never)]
    fn begin_specially(&self, message: &mut dyn Any) -> Option<Special> {
        let run = self.run();
        if run.taken() == 0 {
            // It may have been idle for long, and end with its first message.
            self.node.expect_message();
            self.node.expect_end();
        }
        if run.is_inspected() || span::is_on() {
            return Some(Special::Inspect);
        }
        run.begin_message(message)
    }

    /// Turns the result of one of the actor's functions into what ractor must see.
    #[inline(always)]
    fn judge(
        &mut self,
        result: std::thread::Result<Result<(), ActorProcessingErr>>,
    ) -> Result<(), ActorProcessingErr> {
        match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => self.end_with(ExitReason::from_processing_error(error)),
            Err(payload) => self.end_with_panic(payload),
        }
    }

    /// The message in hand is through.
    #[inline(always)]
    fn end_message(
        &mut self,
        result: std::thread::Result<Result<(), ActorProcessingErr>>,
    ) -> Result<(), ActorProcessingErr> {
        if let Ok(Ok(())) = result {
            self.run().end_message(self.front.as_deref(), true);
            return Ok(());
        }
        self.end_message_badly(result)
    }

    #[cold]
    fn end_message_badly(
        &mut self,
        result: std::thread::Result<Result<(), ActorProcessingErr>>,
    ) -> Result<(), ActorProcessingErr> {
        let verdict = self.judge(result);
        let front = self.front.as_deref();
        self.run().end_message(front, verdict.is_ok());
        verdict
    }

    #[cold]
    fn end_with_panic(&mut self, payload: Box<dyn Any + Send>) -> Result<(), ActorProcessingErr> {
        self.end_with(panic::caught(payload))
    }

    #[cold]
    fn end_with(&mut self, reason: ExitReason) -> Result<(), ActorProcessingErr> {
        if reason.is_clean() {
            // An orderly end of its own accord: ractor stops it, and `post_stop` runs.
            self.outcome.get_or_insert_with(|| Box::new(reason));
            self.run().cell().stop(None);
            return Ok(());
        }
        self.conclude(reason);
        Err(Reported.into())
    }

    /// Settles how an actor ends that is through with its `post_stop`.
    fn stopped(&mut self, result: std::thread::Result<Result<(), ActorProcessingErr>>) {
        match result {
            Ok(Ok(())) => {
                if self.outcome.is_none() {
                    let asked = self.run().asked().cloned();
                    self.outcome = Some(Box::new(asked.unwrap_or(ExitReason::Normal)));
                }
                self.concluded = true;
            }
            Ok(Err(error)) => self.conclude(ExitReason::from_processing_error(error)),
            Err(payload) => self.conclude(panic::caught(payload)),
        }
        if let Some(outcome) = &self.outcome {
            self.run().unlink(outcome);
        }
    }

    fn conclude(&mut self, reason: ExitReason) {
        self.node.expect_end();
        self.outcome = Some(Box::new(reason));
        self.concluded = true;
    }
}

impl<A: Actor> Supervised<A> {
    /// Has a message handled that was taken.
    #[inline]
    pub(crate) fn deliver<'a, S>(
        &self,
        myself: ActorRef<A::Msg>,
        message: A::Msg,
        SupervisedState { inner, life, .. }: &'a mut SupervisedState<A>,
    ) -> Delivery<
        'a,
        impl Future<Output = Verdict> + Send,
        impl Fn(Ended<Verdict>, &mut Life) -> Verdict + Send,
        S,
    > {
        call(
            life,
            || self.0.handle(myself, message, inner),
            |result, life| life.end_message(result),
            Either::Right,
        )
    }

    /// Drops a message that is not wanted.
    pub(crate) fn skip(
        message: A::Msg,
        SupervisedState { life, .. }: &mut SupervisedState<A>,
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send {
        call(
            life,
            || {
                drop(message);
                ready(Ok(()))
            },
            |result, life| life.end_message(result),
            identity,
        )
    }

    async fn specially(
        &self,
        myself: ActorRef<A::Msg>,
        message: A::Msg,
        state: &mut SupervisedState<A>,
        special: Special,
    ) -> Result<(), ActorProcessingErr> {
        match special {
            Special::Inspect => self.inspected(myself, message, state).await,
            Special::Skip => Self::skip(message, state).await,
        }
    }
}

impl<A: Actor> Actor for Supervised<A> {
    type Msg = A::Msg;
    type State = SupervisedState<A>;
    type Arguments = SupervisedArguments<A::Arguments>;

    async fn pre_start(
        &self,
        myself: ActorRef<A::Msg>,
        SupervisedArguments { inner, seed }: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut life = Life::begin(seed, myself.get_cell());
        let started = call(
            &mut life,
            || self.0.pre_start(myself, inner),
            |result, _| match result {
                Ok(Ok(state)) => Ok(state),
                Ok(Err(error)) => Err(StartError::new(ExitReason::from_processing_error(error))),
                Err(payload) => Err(StartError::from_panic(payload)),
            },
            identity,
        );
        let inner = started.await?;
        life.born = true;
        let run = life.run();
        run.resume();
        run.node().enter(Arc::clone(run));
        run.shut_if_late();
        newborn::present(Arc::clone(run));
        Ok(SupervisedState {
            inner,
            life,
            open: None,
        })
    }

    fn post_start(
        &self,
        myself: ActorRef<A::Msg>,
        SupervisedState { inner, life, .. }: &mut Self::State,
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send {
        if life.run().begin_work() {
            life.link.child_restarted(life.run());
        }
        call(
            life,
            || self.0.post_start(myself, inner),
            |result, life| life.judge(result),
            identity,
        )
    }

    /// In place, as ractor has the handler of an actor that is not wrapped: what is returned is made where it stays. To
    /// move it right after it was written takes as long as all the rest.
    #[inline(always)]
    fn handle(
        &self,
        myself: ActorRef<A::Msg>,
        mut message: A::Msg,
        state: &mut Self::State,
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send {
        let Some(special) = state.life.begin_message(&mut state.open, &mut message) else {
            return self.deliver(myself, message, state);
        };
        let special = self.specially(myself, message, state, special);
        Call::Boxed {
            future: Box::pin(Either::Left(special)),
        }
    }

    fn handle_supervisor_evt(
        &self,
        myself: ActorRef<A::Msg>,
        event: SupervisionEvent,
        SupervisedState { inner, life, .. }: &mut Self::State,
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send {
        call(
            life,
            || self.0.handle_supervisor_evt(myself, event, inner),
            |result, life| life.judge(result),
            identity,
        )
    }

    fn post_stop(
        &self,
        myself: ActorRef<A::Msg>,
        SupervisedState { inner, life, .. }: &mut Self::State,
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send {
        call(
            life,
            || self.0.post_stop(myself, inner),
            |result, life| {
                life.stopped(result);
                Ok(())
            },
            identity,
        )
    }
}
