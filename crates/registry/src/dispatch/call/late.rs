//! The calls that are made in a handler, that have to wait until they can be sent, or for their answer.

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use perennial_lifecycle::{
    ActorName, Caller, Clock, ExitReason, Incarnation, Listening, Moment, Node, Terms, Traffic,
    Waiting, after, early, poll_answer,
};
use ractor::Message;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::Ticket;
use crate::dispatch::{Callee, Target, deliver_by};
use crate::{CallError, CastError, Refusal};

/// How long a call waits to hear whether its callee, which has dropped the reply port, fails: the message is dropped a
/// moment before.
const END_GRACE: Duration = Duration::from_millis(20);

/// An error is large, and the future of a call that has its answer soon is not to have room for it.
pub(super) type Outcome<M, T> = Result<T, Box<CallError<M>>>;

/// Until when an answer is of use.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// What was given, or is left of the time of the message in hand if that is less.
    timeout: Duration,
    /// The deadline of the message in hand; of a call from outside of all handlers there is none.
    own: Moment,
}

impl Limits {
    pub(super) fn of(timeout: Duration) -> Self {
        let own = Moment::NEVER;
        Self { timeout, own }
    }

    /// Of a call that is made in a handler.
    fn within(timeout: Duration, run: &Incarnation, tree: &Traffic) -> Self {
        let own = run.deadline_in_hand_by(tree);
        if own == Moment::NEVER {
            return Self::of(timeout);
        }
        let timeout = timeout.min(own.since(tree.clock().recent()));
        Self { timeout, own }
    }

    /// Returns the deadline of what is sent now, as far as that is known: never early, though the reading may be late.
    pub(super) fn deadline(self, now: Moment, clock: &Clock) -> Moment {
        clock.after(now, self.timeout).min(self.own)
    }

    /// Returns the same as it is waited for; counted from when it is first asked for, since most calls have their answer
    /// without.
    fn until(self, seen: &OnceLock<Instant>, clock: &Clock) -> Instant {
        *seen.get_or_init(|| after(self.timeout.min(clock.until(self.own))))
    }
}

/// Makes the message, sends it as soon as it can be, and waits for the answer.
pub(super) async fn send<M: Message, T: Send + 'static>(
    target: &impl Target<M>,
    make: impl FnOnce() -> (M, oneshot::Receiver<T>),
    timeout: Duration,
) -> Outcome<M, T> {
    let (message, mut answer) = make();
    // Made inside a handler: by whom, and how long its own message has left, which may be in the hand of another tree.
    let current = Incarnation::current();
    let limits = match &current {
        Some(run) => Limits::within(timeout, run, target.traffic()),
        None => Limits::of(timeout),
    };
    let until = OnceLock::new();
    let caller = current.as_deref();
    let sending = send_in_time(target, message, limits, caller, &until, &mut answer);
    let (callee, ticket, mut listening) = sending.await?;
    let answered = early(timeout, |cx| {
        poll_answer(&mut answer, listening.as_mut(), cx)
    });
    let is_dropped = match answered.await {
        Some(Ok(value)) => return Ok(value),
        Some(Err(_)) => true,
        None => false,
    };
    let mut wait = Wait::new(target, callee, ticket, answer, limits);
    wait.listening = listening;
    wait.until = until;
    wait.end(is_dropped).await
}

/// A call that was sent, and whose answer did not come soon.
pub(super) struct Wait<'a, G, T> {
    target: &'a G,
    callee: Callee<'a>,
    ticket: Ticket,
    answer: oneshot::Receiver<T>,
    listening: Option<Listening<'a>>,
    limits: Limits,
    until: OnceLock<Instant>,
}

impl<'a, G, T> Wait<'a, G, T> {
    pub(super) fn new(
        target: &'a G,
        callee: Callee<'a>,
        ticket: Ticket,
        answer: oneshot::Receiver<T>,
        limits: Limits,
    ) -> Self {
        Self {
            target,
            callee,
            ticket,
            answer,
            listening: None,
            limits,
            until: OnceLock::new(),
        }
    }

    /// Waits for the answer, or finds out why there is none; `is_dropped` where the reply port was.
    pub(super) async fn end<M: Message>(mut self, is_dropped: bool) -> Outcome<M, T>
    where
        G: Target<M>,
        T: Send + 'static,
    {
        let clock = self.target.traffic().clock();
        let until = self.limits.until(&self.until, clock);
        let answered = if is_dropped {
            Err(NoAnswer::Dropped)
        } else {
            let listening = self.listening.as_mut();
            tokio::select! {
                biased;
                answered = answer_of::<M, T>(&self.callee, &mut self.answer, listening, &self.ticket) => answered,
                () = sleep_until(until) => Err(NoAnswer::Late),
            }
        };
        match answered {
            Ok(value) => Ok(value),
            Err(why) => {
                let name = self.target.name().clone();
                let error = error(why, name, &self.callee, &self.ticket, self.limits, until);
                Err(Box::new(error.await))
            }
        }
    }
}

/// Hands the message of a call over as soon as it can be.
async fn send_in_time<'a, M: Message, T: Send + 'static>(
    target: &'a impl Target<M>,
    message: M,
    limits: Limits,
    caller: Option<&'a Incarnation>,
    until: &OnceLock<Instant>,
    answer: &mut oneshot::Receiver<T>,
) -> Result<(Callee<'a>, Ticket, Option<Listening<'a>>), Box<CallError<M>>> {
    let traffic = target.traffic();
    let clock = traffic.clock();
    let now = clock.recent();
    let checked = if limits.own <= now {
        let name = target.name().clone();
        Err(Refusal::Expired { name })
    } else {
        target.admit()
    };
    if let Err(refusal) = checked {
        return Err(Box::new(CastError { message, refusal }.into()));
    }
    let deadline = limits.deadline(now, clock);
    let slip = OnceLock::new();
    let terms = || Terms {
        deadline,
        caller: Some(slip.get_or_init(|| Caller::new(traffic)).clone()),
    };
    let task = match caller {
        Some(_) => Some(poll_fn(|cx| Poll::Ready(cx.waker().clone())).await),
        None => None,
    };
    let meet = |run: &Arc<Incarnation>| {
        let listening = match (caller, &task) {
            (Some(caller), Some(task)) => {
                let waiting = wait_for(traffic, caller, run.node(), target)?;
                // Before the message goes.
                Some(waiting.listen(answer, task))
            }
            _ => None,
        };
        Ok((Callee::Own(Arc::clone(run)), listening))
    };
    let await_place = |place: &Node| match caller {
        Some(caller) => wait_for(traffic, caller, place, target).map(Some),
        None => Ok(None),
    };
    let until = || limits.until(until, clock);
    let delivered = deliver_by(target, message, until, terms, meet, await_place).await;
    match delivered {
        Ok((callee, listening)) => Ok((callee, Ticket(slip.into_inner()), listening)),
        Err(error) => Err(Box::new(error.into())),
    }
}

/// Says why there is no answer.
async fn error<M>(
    why: NoAnswer,
    name: ActorName,
    callee: &Arc<Incarnation>,
    ticket: &Ticket,
    limits: Limits,
    until: Instant,
) -> CallError<M> {
    match why {
        NoAnswer::Ended(reason) => CallError::CalleeFailed { name, reason },
        NoAnswer::Dropped if ticket.was_dropped() => CallError::Dropped { name },
        NoAnswer::Dropped if Instant::now() < until => why_dropped(name, callee, until).await,
        _ => CallError::TimedOut {
            name,
            timeout: limits.timeout,
        },
    }
}

/// Notes who waits for whom, and refuses a call that would never be answered.
fn wait_for<'a, M: Message>(
    traffic: &Traffic,
    caller: &'a Incarnation,
    callee: &Node,
    target: &impl Target<M>,
) -> Result<Waiting<'a>, Refusal> {
    let (waits, path) = (caller.traffic().waits(), caller.node().path());
    let waiting = waits.begin_across(path, traffic.waits(), callee.path());
    waiting.map_err(|cycle| Refusal::WouldDeadlock {
        name: target.name().clone(),
        path: cycle.path,
    })
}

/// Why there is no answer.
enum NoAnswer {
    /// The reply port was dropped, or nobody will take the message.
    Dropped,
    /// The callee has ended with the message.
    Ended(ExitReason),
    /// The deadline has passed.
    Late,
}

/// Waits for the answer, or for the end of the run that has the message.
async fn answer_of<M: Message, T>(
    callee: &Incarnation,
    answer: &mut oneshot::Receiver<T>,
    mut listening: Option<&mut Listening<'_>>,
    ticket: &Ticket,
) -> Result<T, NoAnswer> {
    let reason = tokio::select! {
        biased;
        answered = poll_fn(|cx| poll_answer(answer, listening.as_deref_mut(), cx)) => {
            return answered.map_err(|_| NoAnswer::Dropped);
        }
        // A channel that closes while a message is on its way into it may keep the message, and with it the port.
        reason = callee.ended() => reason,
    };
    if let Ok(value) = answer.try_recv() {
        return Ok(value);
    }
    if callee.takes_mail::<M>() && !ticket.is_taken() {
        // It waits for the next run.
        tokio::select! {
            biased;
            answered = poll_fn(|cx| poll_answer(answer, listening.as_deref_mut(), cx)) => {
                return answered.map_err(|_| NoAnswer::Dropped);
            }
            // There will be none, though the message may be kept, as in a port that closed with it on its way.
            () = callee.node().retired() => return answer.try_recv().map_err(|_| NoAnswer::Dropped),
        }
    }
    Err(NoAnswer::Ended(reason))
}

async fn why_dropped<M>(
    name: ActorName,
    callee: &Arc<Incarnation>,
    until: Instant,
) -> CallError<M> {
    // Where it waited over a restart, a later run had it.
    let run = match callee.has_ended() {
        true => callee.node().current(),
        false => Some(Arc::clone(callee)),
    };
    if let Some(run) = run {
        let mut ended = timeout(END_GRACE, run.ended()).await;
        if ended.is_err() && run.is_failing_or_ending() {
            // Its end is on record once all is dropped that it holds, and that may take its time.
            ended = timeout_at(until, run.ended()).await;
        }
        if let Ok(reason) = ended {
            return CallError::CalleeFailed { name, reason };
        }
    }
    match callee.node().last_end() {
        Some(end) if callee.has_ended() => CallError::CalleeFailed {
            name,
            reason: end.reason,
        },
        _ => CallError::NoReply { name },
    }
}
