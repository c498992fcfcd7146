use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::{EventKind, Exit, ExitReason, Incarnation, StartContext, StartError, panic};

/// How an actor is asked to stop.
#[derive(Clone, Copy, Debug)]
pub enum StopDoor {
    /// Through ractor's stop port: ahead of all messages, after the one in hand.
    Port,
    /// As a message, behind those that wait: what a supervisor with one queue needs.
    Mailbox(fn(&ActorCell, ExitReason)),
}

impl StopDoor {
    pub(crate) fn knock(self, cell: &ActorCell, reason: ExitReason) {
        match self {
            Self::Port => cell.stop(None),
            Self::Mailbox(send) => send(cell, reason),
        }
    }
}

/// Wraps what the framework starts: the same message type, measured, and with a typed end.
pub(crate) struct Supervised<A>(pub(crate) A);

pub(crate) struct SupervisedArguments<T> {
    pub(crate) inner: T,
    pub(crate) context: StartContext,
    pub(crate) incarnation: Arc<Incarnation>,
}

/// The actor's state, and the guard that reports its end.
///
/// Field order matters: the actor's own state is dropped first, so that what it held is free when the
/// supervisor hears of the end.
pub(crate) struct SupervisedState<S> {
    inner: S,
    life: Life,
}

/// Reports the end when it is dropped, which happens on every way out: stop, error, panic, kill, abort.
struct Life {
    context: StartContext,
    incarnation: Arc<Incarnation>,
    /// A clean end that the actor chose by itself; takes effect once `post_stop` is through.
    chosen: Option<ExitReason>,
    /// The end as it is known. Still `None` when dropped: killed.
    outcome: Option<ExitReason>,
}

impl Drop for Life {
    fn drop(&mut self) {
        let reason = self.outcome.take().unwrap_or(ExitReason::Killed);
        let StartContext { node, scope, .. } = &self.context;
        if !self.incarnation.finish(&reason) {
            // Nobody waits for it any more, and somebody else may live here.
            scope.uncount_detached();
            let incarnation = self.incarnation.number();
            let reclaimed = EventKind::Reclaimed { incarnation };
            scope.events().emit(node.path(), reclaimed);
            return;
        }
        node.leave(&self.incarnation, &reason);
        scope.events().emit(
            node.path(),
            EventKind::Exited {
                incarnation: self.incarnation.number(),
                reason: reason.clone(),
            },
        );
        self.context
            .link
            .child_ended(self.context.key, &self.incarnation, &reason);
        self.incarnation.announce();
    }
}

impl Life {
    /// Turns the result of one of the actor's functions into what ractor must see.
    fn judge(
        &mut self,
        myself: &ActorCell,
        result: std::thread::Result<Result<(), ActorProcessingErr>>,
    ) -> Result<(), ActorProcessingErr> {
        let reason = match result {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => ExitReason::from_processing_error(error),
            Err(payload) => panic::reason(&*payload),
        };
        if reason.is_clean() {
            // An orderly end of its own accord: ractor stops it, and `post_stop` runs.
            self.chosen.get_or_insert(reason);
            myself.stop(None);
            return Ok(());
        }
        let error = Exit(reason.clone());
        self.outcome = Some(reason);
        Err(error.into())
    }
}

impl<A: Actor> Actor for Supervised<A> {
    type Msg = A::Msg;
    type State = SupervisedState<A::State>;
    type Arguments = SupervisedArguments<A::Arguments>;

    async fn pre_start(
        &self,
        myself: ActorRef<A::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let SupervisedArguments {
            inner,
            context,
            incarnation,
        } = arguments;
        incarnation.set_cell(myself.get_cell());
        let started = AssertUnwindSafe(self.0.pre_start(myself, inner))
            .catch_unwind()
            .await;
        let inner = match started {
            Ok(Ok(state)) => state,
            Ok(Err(error)) => {
                let reason = ExitReason::from_processing_error(error);
                return Err(StartError::new(reason).into());
            }
            Err(payload) => return Err(StartError::from_panic(&*payload).into()),
        };
        context.node.enter(Arc::clone(&incarnation));
        Ok(SupervisedState {
            inner,
            life: Life {
                context,
                incarnation,
                chosen: None,
                outcome: None,
            },
        })
    }

    async fn post_start(
        &self,
        myself: ActorRef<A::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let cell = myself.get_cell();
        let result = AssertUnwindSafe(self.0.post_start(myself, &mut state.inner))
            .catch_unwind()
            .await;
        state.life.judge(&cell, result)
    }

    async fn handle(
        &self,
        myself: ActorRef<A::Msg>,
        message: A::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let SupervisedState { inner, life } = state;
        life.incarnation.begin_message();
        let result = AssertUnwindSafe(self.0.handle(myself, message, inner))
            .catch_unwind()
            .await;
        life.incarnation.end_message();
        if matches!(result, Ok(Ok(()))) {
            return Ok(());
        }
        let cell = life.incarnation.cell().clone();
        life.judge(&cell, result)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<A::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let cell = myself.get_cell();
        let result = AssertUnwindSafe(self.0.handle_supervisor_evt(
            myself,
            event,
            &mut state.inner,
        ))
        .catch_unwind()
        .await;
        state.life.judge(&cell, result)
    }

    async fn post_stop(
        &self,
        myself: ActorRef<A::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let result = AssertUnwindSafe(self.0.post_stop(myself, &mut state.inner))
            .catch_unwind()
            .await;
        let life = &mut state.life;
        let reason = match result {
            Ok(Ok(())) => life
                .chosen
                .take()
                .or_else(|| life.incarnation.asked().cloned())
                .unwrap_or(ExitReason::Normal),
            Ok(Err(error)) => ExitReason::from_processing_error(error),
            Err(payload) => panic::reason(&*payload),
        };
        life.outcome = Some(reason);
        Ok(())
    }
}
