use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use perennial_lifecycle::{ActorPath, Incarnation, Node, early, poll_answer};
use ractor::{Actor, Message, RpcReplyPort};
use tokio::sync::oneshot;

use crate::WorkerError;
use crate::cells::Cells;

/// How long a worker that dropped a reply may take to end before it is taken to live on.
const LAST_BREATH: Duration = Duration::from_millis(50);

/// A kind of worker that a pool can lend: a plain ractor actor, and what its holders work with.
///
/// See the [crate's example](crate).
pub trait Worker: Send + Sync + 'static {
    /// The actor.
    type Actor: Actor;

    /// What a holder works with, mostly a thin wrapper that turns methods into messages.
    type Client: Send + Sync + 'static;

    /// Makes the actor of one worker and its arguments; called at every start and restart.
    fn actor(&self) -> (Self::Actor, <Self::Actor as Actor>::Arguments);

    /// Wraps the reference to one worker in what holders use; called at every checkout.
    ///
    /// For a worker that keeps something for its holder this is the place to reset it: what is cast here is handled before
    /// all that the holder sends. What a client casts as it is dropped is handled before what the next holder sends.
    fn client(&self, worker: WorkerRef<<Self::Actor as Actor>::Msg>) -> Self::Client;

    /// Says whether an idle worker is in order, before it is lent; asked when the pool's
    /// [`check_after`](crate::PoolConfig::check_after) says so. One that is not, or does not answer within the
    /// pool's `check_timeout`, or makes the check panic, is killed and started anew; the borrower gets another.
    ///
    /// By default every worker that is alive is in order.
    ///
    /// # Errors
    ///
    /// What is wrong; it is logged.
    fn check(
        &self,
        client: &Self::Client,
    ) -> impl Future<Output = Result<(), Box<dyn Error + Send + Sync>>> + Send {
        let _ = client;
        std::future::ready(Ok(()))
    }
}

/// A reference to a borrowed worker: to the one run of it that was alive at the checkout.
///
/// It is good until the worker is checked in, and never reaches a later run or a later loan.
pub struct WorkerRef<M> {
    desk: Arc<Desk>,
    loan: u64,
    message: PhantomData<fn(M)>,
}

impl<M: Message> WorkerRef<M> {
    /// Fails when the actor takes another type of message, which a pool's own workers never do.
    pub(crate) fn new(desk: &Arc<Desk>, loan: u64) -> Option<Self> {
        desk.incarnation.is_of::<M>().then(|| Self {
            desk: Arc::clone(desk),
            loan,
            message: PhantomData,
        })
    }

    /// Sends a message and waits for its reply.
    ///
    /// There is no timeout here: the deadline of the whole operation belongs around it. When the worker
    /// ends meanwhile the call ends too.
    ///
    /// # Errors
    ///
    /// - [`WorkerError::WouldDeadlock`] when a handler calls, and the worker waits for its actor.
    /// - [`WorkerError::Died`] says why the worker ended.
    /// - [`WorkerError::NoReply`] when the worker dropped the reply and has not ended shortly after.
    /// - [`WorkerError::CheckedIn`] when the worker was given back.
    ///
    /// # Panics
    ///
    /// If it has to wait in a runtime with several threads whose time is not enabled.
    ///
    /// # Cancel safety
    ///
    /// Safe for the pool, not for the message: it is on its way and may be handled. A worker that is
    /// checked in with a call unanswered is killed and restarted, and not lent before that.
    pub async fn call<T: Send + 'static>(
        &self,
        message: impl FnOnce(RpcReplyPort<T>) -> M,
    ) -> Result<T, WorkerError> {
        self.desk.check(self.loan)?;
        let run = &self.desk.incarnation;
        if let Some(caller) = Incarnation::current() {
            // Boxed, since the future of each call would have room for it.
            return Box::pin(self.call_in_handler(caller, message)).await;
        }
        let (reply, answer) = oneshot::channel();
        let mut call = Call::begin(&self.desk, answer);
        if !self.send(message(reply.into())) {
            call.settle();
            return Err(Box::pin(self.desk.end_or_silence()).await);
        }
        // As `Incarnation::answer`, which would be one more future within this one. A port that was handed on may outlive
        // the worker; nobody waits for that.
        let answer = match early(Duration::MAX, |context| {
            Pin::new(&mut call.answer).poll(context)
        })
        .await
        {
            Some(answer) => answer.ok(),
            None => run.late_answer(&mut call.answer).await,
        };
        call.settle();
        match answer {
            Some(answer) => Ok(answer),
            // Boxed, as what handlers do.
            None => Err(Box::pin(self.desk.end_or_silence()).await),
        }
    }

    /// Calls as a handler, of which it is noted that it waits for the worker.
    async fn call_in_handler<T: Send + 'static>(
        &self,
        caller: Arc<Incarnation>,
        message: impl FnOnce(RpcReplyPort<T>) -> M,
    ) -> Result<T, WorkerError> {
        let run = &self.desk.incarnation;
        let (waits, path) = (caller.traffic().waits(), caller.node().path());
        let waiting = waits.begin_across(path, run.traffic().waits(), self.path());
        let waiting = waiting.map_err(|cycle| WorkerError::WouldDeadlock { path: cycle.path })?;
        let task = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let (reply, answer) = oneshot::channel();
        let mut call = Call::begin(&self.desk, answer);
        let mut listening = waiting.listen(&mut call.answer, &task);
        if !self.send(message(reply.into())) {
            call.settle();
            return Err(self.desk.end_or_silence().await);
        }
        let answered = poll_fn(|cx| poll_answer(&mut call.answer, Some(&mut listening), cx));
        let answer = tokio::select! {
            biased;
            answered = answered => answered.ok(),
            // What was answered before the end counts.
            _ = run.ended() => call.answer.try_recv().ok(),
        };
        call.settle();
        drop(listening);
        match answer {
            Some(answer) => Ok(answer),
            None => Err(self.desk.end_or_silence().await),
        }
    }

    /// Sends a message that has no reply.
    ///
    /// It is handled before the messages of the next holder.
    ///
    /// # Errors
    ///
    /// - [`WorkerError::Died`] when the worker has ended.
    /// - [`WorkerError::NoReply`] when it is ending and takes no more messages.
    /// - [`WorkerError::CheckedIn`] when the worker was given back.
    pub fn cast(&self, message: M) -> Result<(), WorkerError> {
        self.desk.check(self.loan)?;
        if self.send(message) {
            return Ok(());
        }
        let ended = self.desk.incarnation.exit_reason().cloned();
        Err(ended.map_or(WorkerError::NoReply, |reason| WorkerError::Died { reason }))
    }

    /// Returns where the worker lives.
    #[must_use]
    pub fn path(&self) -> &ActorPath {
        self.desk.node.path()
    }

    /// Returns the run that this reference reaches.
    #[must_use]
    pub fn incarnation(&self) -> &Arc<Incarnation> {
        &self.desk.incarnation
    }

    fn send(&self, message: M) -> bool {
        self.desk.incarnation.post(message).is_ok()
    }
}

impl<M> Clone for WorkerRef<M> {
    fn clone(&self) -> Self {
        Self {
            desk: Arc::clone(&self.desk),
            loan: self.loan,
            message: PhantomData,
        }
    }
}

impl<M> fmt::Debug for WorkerRef<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerRef")
            .field("path", self.desk.node.path())
            .field("incarnation", &self.desk.incarnation.number())
            .finish_non_exhaustive()
    }
}

/// One run of a worker, with what its holders have asked of it. Made once per run: a checkout allocates nothing.
///
/// On cache lines of its own, as are its counts of references: a worker mostly stays with one thread.
#[repr(align(128))]
pub(crate) struct Desk {
    /// A loan leads back to its pool through its worker, not by a count of its own that all borrowers write.
    /// The books forget the worker, and so end the circle, when its supervisor does.
    pub(crate) cells: Arc<Cells>,
    pub(crate) node: Arc<Node>,
    pub(crate) incarnation: Arc<Incarnation>,
    /// Its place in the books.
    pub(crate) place: usize,
    /// The number of the loan under way; 0 when there is none.
    loan: AtomicU64,
    /// The latest loan that was begun in an actor's handler, and that actor. Written by nobody else, and so that no loan
    /// need carry it.
    borrower: Mutex<Option<(u64, ActorPath)>>,
    /// The latest loan from which it came back as not to be lent again.
    unfit: AtomicU64,
    /// The latest loan that was warned about.
    warned: AtomicU64,
    /// How many calls were begun; also the number of the latest.
    calls: AtomicU64,
    /// The latest call that was answered. A mailbox is worked off in order, so all before it were too.
    answered: AtomicU64,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("path", self.node.path())
            .field("incarnation", &self.incarnation.number())
            .finish_non_exhaustive()
    }
}

impl Desk {
    pub(crate) fn new(
        cells: Arc<Cells>,
        node: Arc<Node>,
        incarnation: Arc<Incarnation>,
        place: usize,
    ) -> Self {
        Self {
            cells,
            node,
            incarnation,
            place,
            loan: AtomicU64::new(0),
            borrower: Mutex::new(None),
            unfit: AtomicU64::new(0),
            warned: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(crate) fn is_alive(&self) -> bool {
        !self.incarnation.is_ending()
    }

    /// Begins a loan: references of this number are good from now on, and no others.
    pub(crate) fn begin_loan(&self, loan: u64) {
        self.loan.store(loan, Release);
    }

    /// Ends the loan: references that are still about fail from now on.
    pub(crate) fn end_loan(&self) {
        self.loan.store(0, Release);
    }

    /// It is not to be lent again after this loan.
    pub(crate) fn discard(&self, loan: u64) {
        self.unfit.store(loan, Relaxed);
    }

    pub(crate) fn is_discarded(&self, loan: u64) -> bool {
        self.unfit.load(Relaxed) == loan
    }

    /// Says whether this loan was not warned about yet, and notes that it is now.
    pub(crate) fn is_to_be_warned_about(&self, loan: u64) -> bool {
        self.warned.swap(loan, Relaxed) != loan
    }

    /// Remembers the actor in whose handler this loan was begun, if it is of this tree: another may have the same paths.
    #[inline(never)]
    pub(crate) fn note_borrower(&self, loan: u64, caller: Arc<Incarnation>) {
        if Arc::ptr_eq(caller.traffic(), self.incarnation.traffic()) {
            let actor = caller.node().path().clone();
            *self.borrower.lock().unwrap_or_else(PoisonError::into_inner) = Some((loan, actor));
        }
    }

    /// Returns the actor in whose handler the loan under way was begun.
    pub(crate) fn borrower(&self) -> Option<ActorPath> {
        let loan = self.loan.load(Acquire);
        let borrower = self.borrower.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, actor) = borrower.as_ref().filter(|(of, _)| *of == loan)?;
        Some(actor.clone())
    }

    /// Says whether the worker may still be busy with a call: given up, or awaited by somebody else.
    pub(crate) fn has_open_call(&self) -> bool {
        self.calls.load(Acquire) > self.answered.load(Acquire)
            && self.incarnation.exit_reason().is_none()
    }

    fn check(&self, loan: u64) -> Result<(), WorkerError> {
        if self.loan.load(Acquire) != loan {
            return Err(WorkerError::CheckedIn);
        }
        Ok(())
    }

    fn begin(&self) -> u64 {
        self.calls.fetch_add(1, Release) + 1
    }

    /// Tells a worker that died from one that lives on and did not answer.
    ///
    /// A handler that fails drops its reply a moment before its end is recorded.
    async fn end_or_silence(&self) -> WorkerError {
        let known = self.incarnation.exit_reason().cloned();
        let reason = match known {
            Some(reason) => Some(reason),
            None => tokio::time::timeout(LAST_BREATH, self.incarnation.ended())
                .await
                .ok(),
        };
        reason.map_or(WorkerError::NoReply, |reason| WorkerError::Died { reason })
    }
}

/// A call under way; dropped unanswered, it stays open on the loan.
struct Call<'a, T> {
    desk: &'a Desk,
    number: u64,
    answer: oneshot::Receiver<T>,
    settled: bool,
}

impl<'a, T> Call<'a, T> {
    fn begin(desk: &'a Desk, answer: oneshot::Receiver<T>) -> Self {
        Self {
            desk,
            number: desk.begin(),
            answer,
            settled: false,
        }
    }

    fn settle(&mut self) {
        self.settled = true;
        self.desk.answered.fetch_max(self.number, Release);
    }
}

impl<T> Drop for Call<'_, T> {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        // Answered, or let go of, while the caller was already leaving: the worker is done with it.
        if !matches!(
            self.answer.try_recv(),
            Err(oneshot::error::TryRecvError::Empty)
        ) {
            self.settle();
        }
    }
}
