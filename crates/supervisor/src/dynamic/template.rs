use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use perennial_lifecycle::{
    ActorName, Backoff, ChildKind, ChildSpec, ExitReason, Mailbox, Quarantine, Restart,
    RestartIntensity, Shutdown, StartContext, StartError, Started, Watchdog, catch_panic,
};
use ractor::Actor;

/// How a dynamic supervisor starts a child from arguments, and when it starts it again.
///
/// A restart uses the arguments of the first start. The defaults are those of a [`ChildSpec`], and so is all that can be
/// set, but for a name: that is an actor's own, and a template makes many.
#[must_use]
pub struct ChildTemplate<Args> {
    erased: Template,
    arguments: PhantomData<fn(Args)>,
}

impl<Args: Send + Sync + 'static> ChildTemplate<Args> {
    /// Describes a worker: `factory` makes the actor and its own arguments at every start.
    pub fn worker<A, F>(id: impl Into<Arc<str>>, factory: F) -> Self
    where
        A: Actor,
        F: Fn(&Args) -> (A, A::Arguments) + Send + Sync + 'static,
    {
        Self::from_fn(
            id,
            ChildKind::Worker,
            move |context: StartContext, arguments: Arc<Args>| {
                // Called before the future, which must not borrow the factory; a panic of it is a failed start.
                let made = catch_panic(|| factory(&arguments));
                async move {
                    let (actor, arguments) = made.map_err(StartError::new)?;
                    Ok(Started::from(context.spawn(actor, arguments).await?))
                }
            },
        )
    }

    /// Describes a child by its start function, for supervisors and for starts that may refuse or take
    /// several steps.
    pub fn from_fn<F, Fut>(id: impl Into<Arc<str>>, kind: ChildKind, start: F) -> Self
    where
        F: Fn(StartContext, Arc<Args>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Started, StartError>> + Send + 'static,
    {
        let start = Arc::new(start);
        let make = move |id: Arc<str>, arguments: Box<dyn Any + Send>| {
            let arguments: Arc<Args> = Arc::from(arguments.downcast::<Args>().ok()?);
            let start = Arc::clone(&start);
            Some(ChildSpec::from_fn(id, kind, move |context| {
                start(context, Arc::clone(&arguments))
            }))
        };
        let spec = ChildSpec::from_fn(id, kind, |_| async {
            let reason = ExitReason::failed("a template starts nothing without arguments");
            Err(StartError::new(reason))
        });
        Self {
            erased: Template {
                spec,
                make: Arc::new(make),
                made: Arc::new(AtomicU64::new(0)),
            },
            arguments: PhantomData,
        }
    }

    /// Restarts the children after every exit. This is the default.
    pub fn permanent(self) -> Self {
        self.restart(Restart::Permanent)
    }

    /// Restarts the children only after an exit that is not clean.
    pub fn transient(self) -> Self {
        self.restart(Restart::Transient)
    }

    /// Never restarts the children.
    pub fn temporary(self) -> Self {
        self.restart(Restart::Temporary)
    }

    /// Sets the restart type.
    pub fn restart(mut self, restart: Restart) -> Self {
        self.erased.spec = self.erased.spec.restart(restart);
        self
    }

    /// Sets how the children are stopped.
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.erased.spec = self.erased.spec.shutdown(shutdown);
        self
    }

    /// Says whether a child's own end may end the supervisor, see its auto shutdown.
    pub fn significant(mut self, significant: bool) -> Self {
        self.erased.spec = self.erased.spec.significant(significant);
        self
    }

    /// Waits before each restart of a child, see [`ChildSpec::backoff`]. The schedule is each child's own.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.erased.spec = self.erased.spec.backoff(backoff);
        self
    }

    /// Limits the restarts of each child, see [`ChildSpec::budget`].
    pub fn budget(mut self, budget: RestartIntensity) -> Self {
        self.erased.spec = self.erased.spec.budget(budget);
        self
    }

    /// Parks a child where it would end the supervisor, see [`ChildSpec::quarantine`].
    pub fn quarantine(mut self, quarantine: Quarantine) -> Self {
        self.erased.spec = self.erased.spec.quarantine(quarantine);
        self
    }

    /// Watches for handlers that take too long, see [`ChildSpec::watchdog`].
    pub fn watchdog(mut self, watchdog: Watchdog) -> Self {
        self.erased.spec = self.erased.spec.watchdog(watchdog);
        self
    }

    /// Makes each child a member of this group, see [`ChildSpec::group`], beside those named before.
    pub fn group(mut self, group: impl Into<ActorName>) -> Self {
        self.erased.spec = self.erased.spec.group(group);
        self
    }

    /// Chooses what the mailbox of each child holds, see [`ChildSpec::mailbox`].
    pub fn mailbox(mut self, mailbox: Mailbox) -> Self {
        self.erased.spec = self.erased.spec.mailbox(mailbox);
        self
    }

    /// Limits how long a shutdown of the tree waits for each child, see [`ChildSpec::drain_within`].
    pub fn drain_within(mut self, limit: Duration) -> Self {
        self.erased.spec = self.erased.spec.drain_within(limit);
        self
    }

    pub(super) fn erase(self) -> Template {
        self.erased
    }
}

impl<Args> Clone for ChildTemplate<Args> {
    fn clone(&self) -> Self {
        Self {
            erased: self.erased.clone(),
            arguments: PhantomData,
        }
    }
}

impl<Args> fmt::Debug for ChildTemplate<Args> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ChildTemplate")
            .field(&self.erased.spec)
            .finish()
    }
}

type Make = dyn Fn(Arc<str>, Box<dyn Any + Send>) -> Option<ChildSpec> + Send + Sync;

/// A template that has forgotten the type of its arguments, so that all supervisors take one message type.
#[derive(Clone)]
pub(crate) struct Template {
    /// What all children have in common. It starts nothing itself.
    spec: ChildSpec,
    make: Arc<Make>,
    /// How many children without a name there were: over all runs of the supervisor, so that none of them
    /// takes the place of one that a killed supervisor has left behind.
    made: Arc<AtomicU64>,
}

impl Template {
    pub(crate) fn spec(&self) -> &ChildSpec {
        &self.spec
    }

    pub(crate) fn next_id(&self) -> Arc<str> {
        let number = self.made.fetch_add(1, Relaxed) + 1;
        format!("{}-{number}", self.spec.id()).into()
    }

    /// Makes the spec of one child; `None` when the arguments are of another type.
    pub(crate) fn make(&self, id: Arc<str>, arguments: Box<dyn Any + Send>) -> Option<ChildSpec> {
        let spec = (self.make)(id, arguments)?
            .restart(self.spec.restart_type())
            .shutdown(self.spec.shutdown_type())
            .significant(self.spec.is_significant())
            .cared_for_as(&self.spec)
            .grouped_as(&self.spec);
        Some(spec)
    }
}
