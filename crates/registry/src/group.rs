//! A name that stands for many actors.

mod members;
mod route;

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::{ActorName, ActorPath, Incarnation, Node, Terms, Traffic};
use ractor::{Message, RpcReplyPort};

pub use self::members::Member;
pub(crate) use self::members::Members;
use self::members::Routed;
pub use self::route::Route;
use crate::dispatch::{self, Target};
use crate::policy::Chosen;
use crate::{CallError, CastError, JoinError, Name, Refusal, SenderKey, WhenDown, event};

/// A name that stands for many actors, whose members join and leave with their lives; cheap to clone.
///
/// A child is made a member by its spec ([`ChildSpec::group`](perennial_lifecycle::ChildSpec::group)), and each of its
/// runs is one from the moment it is up until it ends or is asked to. So a restart takes a member out and back in
/// without anybody's help, and no message goes to one that is known to be on its way out.
///
/// One message goes to one member, chosen by the [`Route`]; a member that ends at that moment gives it back, and it
/// goes to another, as it does from one that is full unless it has a key. Without a member it waits or fails as
/// [`WhenDown`] says, with [`Refusal::NoMember`].
///
/// ```
/// # use perennial_lifecycle::{ChildSpec, Scope};
/// # use perennial_supervisor::Supervisor;
/// # use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
/// use perennial_registry::{Name, Registry, Route};
/// use std::time::Duration;
///
/// # struct Clerk;
/// # impl Actor for Clerk {
/// #     type Msg = RpcReplyPort<u64>;
/// #     type State = ();
/// #     type Arguments = ();
/// #     async fn pre_start(&self, _: ActorRef<Self::Msg>, _: ()) -> Result<(), ActorProcessingErr> { Ok(()) }
/// #     async fn handle(&self, _: ActorRef<Self::Msg>, reply: Self::Msg, _: &mut ()) -> Result<(), ActorProcessingErr> {
/// #         reply.send(42)?;
/// #         Ok(())
/// #     }
/// # }
/// const CLERKS: Name<RpcReplyPort<u64>> = Name::new("clerks");
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let scope = Scope::new("shop");
/// # let registry = Registry::new(&scope);
/// let clerk = |id| ChildSpec::worker(id, || (Clerk, ())).group(CLERKS);
/// # Supervisor::builder().child(clerk("ada")).child(clerk("bob")).build()?.start_in(&scope).await?;
///
/// let clerks = registry.group(&CLERKS)?;
/// assert_eq!(clerks.len(), 2);
/// let second = Duration::from_secs(1);
/// assert_eq!(clerks.call(Route::key(&"customer 7"), |reply| reply, second).await?, 42);
/// # Ok(())
/// # }
/// ```
pub struct Group<M> {
    members: Arc<Members>,
    when_down: Chosen,
    key: Option<SenderKey>,
    message: PhantomData<fn(M)>,
}

/// What came of a broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broadcast {
    /// How many members the message was delivered to.
    pub delivered: usize,
    /// How many had no room for it: their mailboxes are full, and a broadcast does not wait.
    pub full: usize,
    /// How many ended before they could be given theirs.
    pub missed: usize,
}

impl Members {
    /// Returns where the members live, in order of joining.
    pub(crate) fn paths(&self) -> Vec<ActorPath> {
        let members = self.list();
        members.iter().map(|it| it.path().clone()).collect()
    }
}

impl<M: Message> Group<M> {
    pub(crate) fn new(members: Arc<Members>, name: &Name<M>) -> Self {
        Self {
            members,
            when_down: name.chosen(),
            key: name.key(),
            message: PhantomData,
        }
    }

    /// Chooses what a message does that finds no member, for all that is sent through this handle.
    #[must_use]
    pub fn when_down(mut self, when_down: WhenDown) -> Self {
        self.when_down = Chosen::new(when_down);
        self
    }

    /// Gives the key of whoever sends through this handle to the gate before the name; see [`Name::for_key`].
    ///
    /// It has no say in the [`Route`].
    #[must_use]
    pub fn for_key(mut self, key: &(impl Hash + ?Sized)) -> Self {
        self.key = Some(SenderKey::of(key));
        self
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &ActorName {
        self.members.name()
    }

    /// Returns the members, in order of joining.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.members.list()
    }

    /// Returns how many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.count()
    }

    /// Says whether there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes the runs at a place members, from the one that lives there on, until [`leave`](Self::leave).
    ///
    /// For actors whose spec does not say so. A place that is a member already stays one.
    ///
    /// All members take `M` as it is, or all in a [`Mail`](perennial_lifecycle::Mail), as the first of them does; where
    /// that is a place at which nobody runs, as it is. All are of the group's own tree.
    ///
    /// # Errors
    ///
    /// [`JoinError`] when the place, or the members, take another type, and when somebody runs there who is of another
    /// tree.
    pub fn join(&self, place: &Arc<Node>) -> Result<(), JoinError> {
        self.members.join_as::<M>(place)
    }

    /// Takes the place out of the group: its present run, and those to come until something lets it join again.
    ///
    /// A spec does so at its next start.
    pub fn leave(&self, place: &Arc<Node>) {
        self.members.leave(place);
    }

    /// Sends a message to one member and does not wait for anything.
    ///
    /// # Errors
    ///
    /// [`CastError`] hands the message back when the gate refuses or there is no member.
    pub fn cast(&self, route: Route, message: M) -> Result<(), CastError<M>> {
        dispatch::cast(&self.to(route), message)
    }

    /// Sends a message to one member; when there is none, waits for one, `wait` at the longest, unless
    /// [`WhenDown`] says otherwise. When all are full, it waits for room at any of them; with a key, at its own.
    ///
    /// # Errors
    ///
    /// [`CastError`] hands the message back when the gate refuses, or there is still no member.
    ///
    /// # Panics
    ///
    /// As [`Address::send`](crate::Address::send).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: when dropped before it is ready, the message was not sent.
    pub async fn send(&self, route: Route, message: M, wait: Duration) -> Result<(), CastError<M>> {
        dispatch::send(&self.to(route), message, wait).await
    }

    /// Sends a message that carries a reply port to one member, and waits for the reply.
    ///
    /// # Errors
    ///
    /// As [`Address::call`](crate::Address::call). A member that ends while it holds the message is not replaced by
    /// another one: it may have done the work.
    ///
    /// A member that calls its own group is answered by another one, as long as there is one that does not wait for it;
    /// by [`Route::Key`] only if the key is another's.
    ///
    /// # Panics
    ///
    /// As [`Address::call`](crate::Address::call).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the answer; a message that was delivered is handled all the same.
    pub async fn call<T: Send + 'static>(
        &self,
        route: Route,
        make: impl FnOnce(RpcReplyPort<T>) -> M,
        timeout: Duration,
    ) -> Result<T, CallError<M>> {
        dispatch::call(&self.to(route), make, timeout).await
    }

    /// Sends a copy of the message to every member.
    ///
    /// # Errors
    ///
    /// As [`broadcast_with`](Self::broadcast_with).
    pub fn broadcast(&self, message: &M) -> Result<Broadcast, Refusal>
    where
        M: Clone,
    {
        self.broadcast_with(|_| message.clone())
    }

    /// Sends every member the message that `make` makes for it.
    ///
    /// Every run that is a member from before the call until after it is given exactly one, if its mailbox has room for it
    /// or makes some. One that could not be given counts as refused in the books of its member. The gate is asked once.
    ///
    /// # Errors
    ///
    /// [`Refusal`] when the gate refuses, or the members take another type. To have no member is none.
    pub fn broadcast_with(&self, make: impl FnMut(&Member) -> M) -> Result<Broadcast, Refusal> {
        let asked = self.members.check_type::<M>();
        let asked = asked.and_then(|()| self.members.admit(self.key));
        asked
            .and_then(|()| self.members.broadcast(make))
            .inspect_err(event::refused)
    }

    fn to(&self, route: Route) -> Routed<'_> {
        Routed::new(&self.members, route, self.when_down, self.key)
    }
}

impl<M: Message> Target<M> for Routed<'_> {
    fn name(&self) -> &ActorName {
        self.members.name()
    }

    fn when_down(&self) -> WhenDown {
        self.when_down
            .get()
            .unwrap_or_else(|| self.members.when_down())
    }

    fn admit(&self) -> Result<(), Refusal> {
        self.members.check_type::<M>()?;
        self.members.admit(self.key)
    }

    fn traffic(&self) -> &Arc<Traffic> {
        self.members.traffic()
    }

    fn deliver<R>(
        &self,
        message: M,
        terms: impl Fn() -> Terms,
        meet: impl FnMut(&Arc<Incarnation>) -> Result<R, Refusal>,
    ) -> Result<R, CastError<M>> {
        self.deliver(message, terms, meet)
    }

    fn full(&self) -> Vec<Arc<Incarnation>> {
        self.open()
    }

    fn joined(&self) -> impl Future<Output = ()> + Send {
        self.members.joined()
    }

    fn count_refused(&self) {
        self.count_refused();
    }

    async fn back(&self) {
        self.members.back().await;
    }
}

impl<M> Clone for Group<M> {
    fn clone(&self) -> Self {
        Self {
            members: Arc::clone(&self.members),
            when_down: self.when_down,
            key: self.key,
            message: PhantomData,
        }
    }
}

impl<M> fmt::Debug for Group<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("name", self.members.name())
            .field("members", &self.members.count())
            .finish_non_exhaustive()
    }
}
