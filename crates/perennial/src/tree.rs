use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use perennial_breaker::{Breaker, Breakers};
use perennial_config::{ConfigChange, ConfigServer};
use perennial_debug::Debugger;
use perennial_guard::{Environment, GuardBuilder, NoPool};
use perennial_lifecycle::{ExitReason, Monitor, Scope, after};
use perennial_monitor::{HealthAggregator, MemoryManager, PerformanceMonitor};
use perennial_pool::{Pool, PoolName, PoolStatus, Pools, Worker};
use perennial_rate_limit::{Quota, RateGate};
use perennial_registry::{
    Address, CallError, CastError, Group, Name, NameWatch, Present, Refusal, Registry, ResolveError,
};
use perennial_supervisor::Supervisor;
use ractor::{Message, RpcReplyPort};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::keeper::TreeEnd;
use crate::wiring::NameGate;
use crate::{ShutdownReport, TreeBuilder, UpdateProtectedError};

/// A running supervision tree; cheap to clone.
///
/// When the last handle is dropped the tree stops in order, in the background.
#[derive(Clone)]
pub struct Tree(pub(crate) Arc<Parts>);

/// What the handle holds: the cells that outlive every actor.
pub(crate) struct Parts {
    pub(crate) scope: Scope,
    pub(crate) root: Supervisor,
    pub(crate) host: Supervisor,
    pub(crate) registry: Registry,
    pub(crate) gate: RateGate,
    pub(crate) breakers: Breakers,
    pub(crate) pools: Pools,
    pub(crate) config: ConfigServer,
    pub(crate) memory: MemoryManager,
    pub(crate) performance: PerformanceMonitor,
    pub(crate) health: HealthAggregator,
    pub(crate) debug: Debugger,
    pub(crate) environment: Environment,
    /// Until when the tree may drain, once it is told to stop.
    pub(crate) stop: watch::Sender<Option<Instant>>,
    pub(crate) drain_deadline: Duration,
    pub(crate) end: watch::Receiver<Option<TreeEnd>>,
}

impl Tree {
    /// Begins a tree; the namespace is the name of its root: any text that is not empty.
    pub fn builder(namespace: &str) -> TreeBuilder {
        TreeBuilder::new(namespace)
    }

    /// Sends a message to a named actor and does not wait for anything.
    ///
    /// # Errors
    ///
    /// [`CastError`] hands the message back: the name's gate refused, or the actor is not running.
    pub fn cast<M: Message>(&self, name: Name<M>, message: M) -> Result<(), CastError<M>> {
        self.0.registry.cast(name, message)
    }

    /// Sends a message to a named actor, and waits until it can be handed over, `wait` at the longest.
    ///
    /// It waits for an actor that is being restarted, unless [`WhenDown`](crate::WhenDown) says otherwise, and for room in
    /// its mailbox, unless the [mailbox](crate::Mailbox) says otherwise. It does not wait until the message is handled.
    ///
    /// # Errors
    ///
    /// [`CastError`] hands the message back: the name's gate refused, or there was no room or no actor in time.
    ///
    /// # Panics
    ///
    /// Where it has to wait outside of a tokio runtime, or in one whose timers are not enabled.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: when dropped before it is ready, the message was not sent.
    pub async fn send<M: Message>(
        &self,
        name: Name<M>,
        message: M,
        wait: Duration,
    ) -> Result<(), CastError<M>> {
        self.0.registry.send(name, message, wait).await
    }

    /// Calls a named actor and waits for its reply, `timeout` at the longest.
    ///
    /// While the actor is being restarted the message waits, within the timeout, unless
    /// [`WhenDown`](crate::WhenDown) says otherwise.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    ///
    /// # Panics
    ///
    /// Where it has to wait outside of a tokio runtime, or in one whose timers are not enabled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the answer; a message that was delivered is handled all the same.
    pub async fn call<M: Message, T: Send + 'static>(
        &self,
        name: Name<M>,
        make: impl FnOnce(RpcReplyPort<T>) -> M,
        timeout: Duration,
    ) -> Result<T, CallError<M>> {
        self.0.registry.call(name, make, timeout).await
    }

    /// Resolves a name once, for many messages; the address stays right over restarts.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] when no actor was started under the name, or when it takes another type.
    pub fn resolve<M: Message>(&self, name: &Name<M>) -> Result<Address<M>, ResolveError> {
        self.0.registry.resolve(name)
    }

    /// Waits until a named actor is up and returns its run; as long as the tree lives, if it is never started.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] when the actor takes another type, when the name is one of another tree, or when the tree has
    /// ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: waiting changes nothing.
    pub async fn wait_for<M: Message>(&self, name: &Name<M>) -> Result<Present, ResolveError> {
        self.0.registry.wait_for(name).await
    }

    /// Follows a name over all its runs: one up and one down for each, in order; see [`NameWatch`].
    ///
    /// # Errors
    ///
    /// As [`wait_for`](Self::wait_for).
    pub fn watch<M: Message>(&self, name: &Name<M>) -> Result<NameWatch, ResolveError> {
        self.0.registry.watch(name)
    }

    /// Finds the group of this name; it need not have members yet.
    ///
    /// A child joins by its spec, see [`ChildSpec::group`](crate::ChildSpec::group).
    ///
    /// # Errors
    ///
    /// [`ResolveError`] when the members take another type, or when the name is one of another tree.
    pub fn group<M: Message>(&self, name: &Name<M>) -> Result<Group<M>, ResolveError> {
        self.0.registry.group(name)
    }

    /// Watches a named actor: the monitor gives one notice of the end of its present run.
    ///
    /// An actor that is gone, or failed to start, gives it at once; see
    /// [`Node::monitor`](crate::Node::monitor).
    ///
    /// # Errors
    ///
    /// [`ResolveError`] when no actor was started under the name, or when it takes another type.
    ///
    /// # Examples
    ///
    /// ```
    /// # use perennial::{ChildSpec, Name, Tree};
    /// # use ractor::{Actor, ActorProcessingErr, ActorRef};
    /// # struct Billing;
    /// # impl Actor for Billing {
    /// #     type Msg = ();
    /// #     type State = ();
    /// #     type Arguments = ();
    /// #     async fn pre_start(&self, _: ActorRef<()>, _: ()) -> Result<(), ActorProcessingErr> {
    /// #         Ok(())
    /// #     }
    /// #     async fn handle(&self, _: ActorRef<()>, _: (), _: &mut ()) -> Result<(), ActorProcessingErr> {
    /// #         Err("out of paper".into())
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// const BILLING: Name<()> = Name::new("billing");
    /// let tree = Tree::builder("shop")
    ///     .child(ChildSpec::worker("billing", || (Billing, ())))
    ///     .start()
    ///     .await?;
    ///
    /// let monitor = tree.monitor(&BILLING)?;
    /// tree.cast(BILLING, ())?;
    /// let down = monitor.await;
    /// assert_eq!(down.incarnation, 1);
    /// assert_eq!(down.reason.to_string(), "failed: out of paper");
    /// # tree.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn monitor<M: Message>(&self, name: &Name<M>) -> Result<Monitor, ResolveError> {
        self.0.registry.monitor(name)
    }

    /// Puts a quota before every cast and call to a name, in place of the one before: what was spent of that stays spent.
    ///
    /// It is the quota of each key that senders give ([`Name::for_key`]); those that give none share one.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] when the name is one of another tree.
    pub fn set_quota<M>(&self, name: &Name<M>, quota: Quota) -> Result<(), ResolveError> {
        let tree = self.0.scope.root().path().as_str();
        if let Some(namespace) = name.namespace().filter(|it| ***it != *tree) {
            return Err(ResolveError(Refusal::OtherTree {
                name: name.to_actor_name(),
                namespace: Arc::clone(namespace),
                tree: tree.into(),
            }));
        }
        let name = name.as_actor_name();
        let gate = NameGate::new(&self.0.gate, name, quota);
        self.0.registry.set_gate(name, Box::new(gate));
        Ok(())
    }

    /// Begins a protected operation on a service.
    ///
    /// The service's breaker is the one of that name; without one, building the guard fails unless it says
    /// [`without_breaker`](GuardBuilder::without_breaker).
    pub fn guard(&self, service: &str) -> GuardBuilder<NoPool, ()> {
        self.0.environment.guard(service)
    }

    /// Finds a pool by name and worker type.
    #[must_use]
    pub fn pool<W: Worker>(&self, name: PoolName<W>) -> Option<Pool<W>> {
        self.0.pools.get(name)
    }

    /// Returns the status of every pool, in order of name.
    #[must_use]
    pub fn pools(&self) -> Vec<(Arc<str>, PoolStatus)> {
        self.0.pools.status()
    }

    /// Finds a breaker by service.
    #[must_use]
    pub fn breaker(&self, service: &str) -> Option<Breaker> {
        self.0.breakers.get(service)
    }

    /// Returns all breakers.
    #[must_use]
    pub fn breakers(&self) -> &Breakers {
        &self.0.breakers
    }

    /// Returns the names.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Returns the store of all quotas.
    #[must_use]
    pub fn rate_gate(&self) -> &RateGate {
        &self.0.gate
    }

    /// Returns the live configuration.
    #[must_use]
    pub fn config(&self) -> &ConfigServer {
        &self.0.config
    }

    /// Changes a setting on behalf of a user: within the user's quota, through breaker and pool, written to
    /// the database before it is acknowledged.
    ///
    /// # Errors
    ///
    /// [`UpdateProtectedError`] says who refused, or why the value is not valid; then nothing has changed.
    /// After `DeadlineExceeded` or a failed worker the value may have been stored or not.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the answer; the value may be stored or not.
    pub async fn update_protected(
        &self,
        path: &str,
        value: impl Serialize,
        user: &str,
    ) -> Result<ConfigChange, UpdateProtectedError> {
        self.0.config.update_protected(path, value, user).await
    }

    /// Returns the memory manager.
    #[must_use]
    pub fn memory(&self) -> &MemoryManager {
        &self.0.memory
    }

    /// Returns the performance monitor.
    #[must_use]
    pub fn performance(&self) -> &PerformanceMonitor {
        &self.0.performance
    }

    /// Returns the health aggregator.
    #[must_use]
    pub fn health(&self) -> &HealthAggregator {
        &self.0.health
    }

    /// Returns the debug actor's handle.
    #[must_use]
    pub fn debug(&self) -> &Debugger {
        &self.0.debug
    }

    /// Returns the root supervisor.
    #[must_use]
    pub fn root(&self) -> &Supervisor {
        &self.0.root
    }

    /// Returns the supervisor of the host's own actors, for adding more while the tree runs.
    #[must_use]
    pub fn host(&self) -> &Supervisor {
        &self.0.host
    }

    /// Returns what all actors of the tree share.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.0.scope
    }

    /// Drains the tree, stops it, and returns what was cut off.
    ///
    /// From this moment on the tree takes messages only from its own handlers; whoever else sends, or waits to, has the
    /// message back with [`Refusal::ShuttingDown`](crate::Refusal::ShuttingDown). What was sent before is handled, within
    /// the time that [`TreeBuilder::drain_deadline`] and the settings give, and that a child's spec does
    /// ([`ChildSpec::drain_within`](crate::ChildSpec::drain_within)). Then the actors stop in reverse start order, each
    /// within its own deadline, and what is left when the tree's deadline has passed is killed.
    ///
    /// Calling it again waits for the same end. A tree that gave up before, or whose runtime is gone, has nothing left to
    /// stop, and its report [says so](ShutdownReport::gave_up).
    ///
    /// A handler of the tree that waits here waits for itself, until it is cut off: it leaves the wait to a task of its own.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the wait, not the stop.
    pub async fn shutdown(&self) -> ShutdownReport {
        self.shutdown_within(self.0.drain_deadline).await
    }

    /// As [`shutdown`](Self::shutdown), and drains for this long at most; zero does not drain.
    ///
    /// While another shutdown drains the earlier of the two deadlines holds, so this cuts a drain short.
    ///
    /// # Cancel safety
    ///
    /// As [`shutdown`](Self::shutdown).
    pub async fn shutdown_within(&self, drain: Duration) -> ShutdownReport {
        let deadline = after(drain);
        self.0.stop.send_if_modified(|known| {
            let is_earlier = known.is_none_or(|known| deadline < known);
            if is_earlier {
                *known = Some(deadline);
            }
            is_earlier
        });
        let report = match self.wait_for_end().await {
            TreeEnd::Stopped(report) => (*report).clone(),
            TreeEnd::GaveUp(reason) => ShutdownReport {
                gave_up: Some(reason),
                ..ShutdownReport::default()
            },
        };
        // Only now: actors may need their pools while they stop.
        self.0.pools.close();
        report
    }

    /// Waits for `stop`, such as a signal, or until the tree has given up; then [shuts it down](Self::shutdown).
    ///
    /// ```
    /// use perennial::Tree;
    /// use std::process::ExitCode;
    ///
    /// # async fn signal() {}
    /// #[tokio::main]
    /// async fn main() -> ExitCode {
    ///     let tree = match Tree::builder("shop").start().await {
    ///         Ok(tree) => tree,
    ///         Err(error) => {
    ///             eprintln!("shop: {error}");
    ///             return ExitCode::FAILURE;
    ///         }
    ///     };
    ///     // Such as `tokio::signal::ctrl_c()`.
    ///     let report = tree.run_until(signal()).await;
    ///     eprintln!("shop: {report}");
    ///     report.exit_code()
    /// }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Before `stop` is done, dropping the future changes nothing; then as [`shutdown`](Self::shutdown).
    pub async fn run_until(&self, stop: impl Future) -> ShutdownReport {
        tokio::select! {
            _ = stop => {}
            _ = self.ended() => {}
        }
        self.shutdown().await
    }

    /// Waits until the tree has ended, and says why if it gave up.
    ///
    /// It gives up when restarts were too many, and when its root was killed and does not start again: ten starts, with
    /// growing waits between them that take half a minute together. It also does where its runtime was shut down.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: waiting changes nothing.
    pub async fn ended(&self) -> Option<ExitReason> {
        match self.wait_for_end().await {
            TreeEnd::GaveUp(reason) => Some(reason),
            TreeEnd::Stopped(report) => report.gave_up.clone(),
        }
    }

    async fn wait_for_end(&self) -> TreeEnd {
        let mut end = self.0.end.clone();
        let seen = end.wait_for(Option::is_some).await;
        let end = seen.ok().and_then(|end| end.clone());
        // Whoever would have told was dropped with the runtime, as all actors were, whatever they had in hand.
        end.unwrap_or_else(|| TreeEnd::GaveUp(ExitReason::failed("its runtime was shut down")))
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree")
            .field("root", self.0.root.path())
            .finish_non_exhaustive()
    }
}
