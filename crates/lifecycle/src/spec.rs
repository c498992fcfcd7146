use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryFutureExt as _;
use futures_util::future::{BoxFuture, ready};
use ractor::Actor;
use serde::{Deserialize, Serialize};

use crate::{
    ActorName, Backoff, Mailbox, Quarantine, RestartIntensity, StartContext, StartError, Started,
    Watchdog, catch_panic,
};

/// When a child that ended is started again.
///
/// | restart type | after a clean exit | after any other |
/// | --- | --- | --- |
/// | `Permanent` | yes | yes |
/// | `Transient` | no | yes |
/// | `Temporary` | no | no |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Always.
    #[default]
    Permanent,
    /// Only after an exit that is not clean.
    Transient,
    /// Never; the child is forgotten when it ends.
    Temporary,
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Permanent => "permanent",
            Self::Transient => "transient",
            Self::Temporary => "temporary",
        })
    }
}

/// How a supervisor stops a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shutdown {
    /// Kill it at once.
    BrutalKill,
    /// Ask it to stop, and kill it when it has not ended after this time.
    Within(Duration),
    /// Ask it to stop and wait as long as it takes.
    Infinity,
}

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BrutalKill => f.write_str("brutal_kill"),
            Self::Within(limit) => write!(f, "within {limit:?}"),
            Self::Infinity => f.write_str("infinity"),
        }
    }
}

/// Whether a child is itself a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildKind {
    /// An ordinary actor.
    Worker,
    /// A supervisor with children of its own.
    Supervisor,
}

/// The function that starts a child: called at every start and restart.
pub type StartFn =
    dyn Fn(StartContext) -> BoxFuture<'static, Result<Started, StartError>> + Send + Sync;

/// How to start one child, and when to start it again.
///
/// Defaults are OTP's: permanent, not significant, shut down within 5 s (a supervisor: infinity).
///
/// Cheap to clone: the supervisor's settings and what it knows of the child share one copy.
#[derive(Clone)]
#[must_use]
pub struct ChildSpec(Arc<Inner<StartFn>>);

/// All in one place: a supervisor of many children would look for the start function far from the settings.
struct Inner<F: ?Sized> {
    settings: Settings,
    start: F,
}

#[derive(Clone)]
struct Settings {
    id: Arc<str>,
    restart: Restart,
    significant: bool,
    shutdown: Shutdown,
    kind: ChildKind,
    /// What few children have, so that the others do not carry it.
    more: Option<Box<More>>,
}

#[derive(Clone, Default)]
struct More {
    name: Option<Arc<ActorName>>,
    groups: Option<Arc<[ActorName]>>,
    mailbox: Option<Arc<Mailbox>>,
    care: Care,
}

/// What goes beyond OTP.
#[derive(Clone, Copy, Debug, Default)]
struct Care {
    backoff: Option<Backoff>,
    budget: Option<RestartIntensity>,
    quarantine: Option<Quarantine>,
    watchdog: Option<Watchdog>,
}

impl ChildSpec {
    /// Describes a worker: `factory` makes the actor and its arguments at every start.
    pub fn worker<A, F>(id: impl Into<Arc<str>>, factory: F) -> Self
    where
        A: Actor,
        F: Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    {
        // Without an `async` block, which would store the actor and the inner future side by side: the block
        // that a start allocates stays within what allocators keep at hand.
        Self::new(id, ChildKind::Worker, move |context| {
            // The supervisor, which catches a panic of a start function, hears of it in the same way.
            match catch_panic(&factory) {
                Ok((actor, arguments)) => {
                    Box::pin(context.spawn(actor, arguments).map_ok(Started::from))
                }
                Err(reason) => Box::pin(ready(Err(StartError::new(reason)))),
            }
        })
    }

    /// Describes a child by its start function, for starts that may refuse or take several steps.
    pub fn from_fn<F, Fut>(id: impl Into<Arc<str>>, kind: ChildKind, start: F) -> Self
    where
        F: Fn(StartContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Started, StartError>> + Send + 'static,
    {
        Self::new(id, kind, move |context| Box::pin(start(context)))
    }

    fn new(
        id: impl Into<Arc<str>>,
        kind: ChildKind,
        start: impl Fn(StartContext) -> BoxFuture<'static, Result<Started, StartError>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let settings = Settings {
            id: id.into(),
            restart: Restart::Permanent,
            significant: false,
            shutdown: match kind {
                ChildKind::Worker => Shutdown::Within(Duration::from_secs(5)),
                ChildKind::Supervisor => Shutdown::Infinity,
            },
            kind,
            more: None,
        };
        Self(Arc::new(Inner { settings, start }))
    }

    fn edit(&mut self) -> &mut Settings {
        if Arc::get_mut(&mut self.0).is_none() {
            // A start function cannot be copied; the copy goes on calling that of the original.
            let original = self.clone();
            self.0 = Arc::new(Inner {
                settings: original.0.settings.clone(),
                start: move |context: StartContext| (original.0.start)(context),
            });
        }
        let inner = Arc::get_mut(&mut self.0).expect("nobody else has it");
        &mut inner.settings
    }

    /// Restarts the child after every exit. This is the default.
    pub fn permanent(self) -> Self {
        self.restart(Restart::Permanent)
    }

    /// Restarts the child only after an exit that is not clean.
    pub fn transient(self) -> Self {
        self.restart(Restart::Transient)
    }

    /// Never restarts the child, and forgets it when it ends.
    pub fn temporary(self) -> Self {
        self.restart(Restart::Temporary)
    }

    /// Sets the restart type.
    pub fn restart(mut self, restart: Restart) -> Self {
        self.edit().restart = restart;
        self
    }

    /// Sets how the child is stopped.
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.edit().shutdown = shutdown;
        self
    }

    /// Says whether the child's own end may end its supervisor, see the supervisor's auto shutdown.
    pub fn significant(mut self, significant: bool) -> Self {
        self.edit().significant = significant;
        self
    }

    /// Waits before each restart. Default: none, as in OTP.
    pub fn backoff(self, backoff: Backoff) -> Self {
        self.care(|care| care.backoff = Some(backoff))
    }

    /// Limits the restarts of this child, beside the intensity of its supervisor. Default: no such limit.
    ///
    /// A child that exceeds its budget ends the supervisor, unless it has a
    /// [quarantine](Self::quarantine).
    pub fn budget(self, budget: RestartIntensity) -> Self {
        self.care(|care| care.budget = Some(budget))
    }

    /// Parks the child where it would end its supervisor: when its own budget, or with its restart the
    /// supervisor's intensity, is exceeded. Default: none, as in OTP.
    pub fn quarantine(self, quarantine: Quarantine) -> Self {
        self.care(|care| care.quarantine = Some(quarantine))
    }

    /// Watches for handlers that take too long. Default: nobody does.
    pub fn watchdog(self, watchdog: Watchdog) -> Self {
        self.care(|care| care.watchdog = Some(watchdog))
    }

    fn care(mut self, set: impl FnOnce(&mut Care)) -> Self {
        set(&mut self.edit().more.get_or_insert_default().care);
        self
    }

    /// Enters the child under this name in the tree's directory.
    pub fn name(mut self, name: impl Into<ActorName>) -> Self {
        self.edit().more.get_or_insert_default().name = Some(Arc::new(name.into()));
        self
    }

    /// Enters the child under `name` unless it has a name already.
    pub fn name_if_none(mut self, name: impl FnOnce(&str) -> ActorName) -> Self {
        if self.actor_name().is_none() {
            let name = name(&self.0.settings.id);
            self = self.name(name);
        }
        self
    }

    /// Makes each run of the child a member of this group in the tree's directory, beside those named before.
    pub fn group(mut self, group: impl Into<ActorName>) -> Self {
        let groups = &mut self.edit().more.get_or_insert_default().groups;
        let known = groups.iter().flat_map(|all| all.iter().cloned());
        *groups = Some(known.chain([group.into()]).collect());
        self
    }

    /// Chooses what its mailbox holds, and what happens where it holds no more; 10,000 messages unless told otherwise.
    pub fn mailbox(mut self, mut mailbox: Mailbox) -> Self {
        let known = &mut self.edit().more.get_or_insert_default().mailbox;
        let limit = known.as_ref().and_then(|it| it.drain_limit());
        if let Some(limit) = limit {
            mailbox.set_drain_within(limit);
        }
        *known = Some(Arc::new(mailbox));
        self
    }

    /// Limits how long a shutdown of the tree waits until the child has handled what it was sent before; zero does not
    /// wait for it at all. Of a supervisor the limit holds for all below it. Default: only the limit of the whole tree.
    ///
    /// The time counts from the beginning of the shutdown.
    pub fn drain_within(mut self, limit: Duration) -> Self {
        let mailbox = &mut self.edit().more.get_or_insert_default().mailbox;
        Arc::make_mut(mailbox.get_or_insert_default()).set_drain_within(limit);
        self
    }

    /// Returns the id, unique among the children of one supervisor.
    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.0.settings.id
    }

    /// Returns when the child is restarted.
    #[must_use]
    pub fn restart_type(&self) -> Restart {
        self.0.settings.restart
    }

    /// Returns how the child is stopped.
    #[must_use]
    pub fn shutdown_type(&self) -> Shutdown {
        self.0.settings.shutdown
    }

    /// Returns whether the child is a supervisor.
    #[must_use]
    pub fn kind(&self) -> ChildKind {
        self.0.settings.kind
    }

    /// Says whether the child is significant.
    #[must_use]
    pub fn is_significant(&self) -> bool {
        self.0.settings.significant
    }

    /// Returns the name in the directory.
    #[must_use]
    pub fn actor_name(&self) -> Option<&Arc<ActorName>> {
        self.0.settings.more.as_ref()?.name.as_ref()
    }

    /// Returns the groups in the directory.
    #[must_use]
    pub fn groups(&self) -> Option<&Arc<[ActorName]>> {
        self.0.settings.more.as_ref()?.groups.as_ref()
    }

    /// Returns the settings of its mailbox, where it has its own.
    #[must_use]
    pub fn mailbox_setting(&self) -> Option<&Arc<Mailbox>> {
        self.0.settings.more.as_ref()?.mailbox.as_ref()
    }

    /// Returns what it waits before each restart.
    #[must_use]
    pub fn backoff_setting(&self) -> Option<Backoff> {
        self.0.settings.more.as_ref()?.care.backoff
    }

    /// Returns its own restart budget.
    #[must_use]
    pub fn budget_setting(&self) -> Option<RestartIntensity> {
        self.0.settings.more.as_ref()?.care.budget
    }

    /// Returns how it is parked when it ends too often.
    #[must_use]
    pub fn quarantine_setting(&self) -> Option<Quarantine> {
        self.0.settings.more.as_ref()?.care.quarantine
    }

    /// Returns who watches its handlers.
    #[must_use]
    pub fn watchdog_setting(&self) -> Option<Watchdog> {
        self.0.settings.more.as_ref()?.care.watchdog
    }

    /// Takes over the groups of another spec.
    pub fn grouped_as(mut self, other: &Self) -> Self {
        if let Some(groups) = other.groups() {
            self.edit().more.get_or_insert_default().groups = Some(Arc::clone(groups));
        }
        self
    }

    /// Takes over what the supervisor is to do beyond OTP's rules from another spec: a template's. So with the settings of
    /// its mailbox, unless it has its own.
    pub fn cared_for_as(mut self, other: &Self) -> Self {
        if let Some(more) = &other.0.settings.more {
            let own = self.edit().more.get_or_insert_default();
            own.care = more.care;
            if own.mailbox.is_none() {
                own.mailbox.clone_from(&more.mailbox);
            }
        }
        self
    }

    /// Returns the start function.
    pub fn start_fn(&self) -> &StartFn {
        &self.0.start
    }

    /// Checks what the types leave open.
    ///
    /// # Errors
    ///
    /// [`ChildSpecError`] names the child and the field.
    pub fn validate(&self) -> Result<(), ChildSpecError> {
        if self.0.settings.id.is_empty() || self.0.settings.id.contains('/') {
            return Err(ChildSpecError::Id {
                id: self.0.settings.id.to_string(),
            });
        }
        if self.0.settings.significant && self.0.settings.restart == Restart::Permanent {
            return Err(ChildSpecError::SignificantPermanent {
                id: self.0.settings.id.to_string(),
            });
        }
        let more = self.0.settings.more.as_ref();
        let Some(more) = more else {
            return Ok(());
        };
        if let Some(fault) = more.mailbox.as_ref().and_then(|it| it.check().err()) {
            return Err(ChildSpecError::Setting {
                id: self.0.settings.id.to_string(),
                field: "mailbox",
                wrong: fault.0,
            });
        }
        more.care.validate(self)
    }
}

impl Care {
    fn validate(&self, spec: &ChildSpec) -> Result<(), ChildSpecError> {
        let id = &*spec.0.settings.id;
        let setting = |field, wrong| {
            Err(ChildSpecError::Setting {
                id: id.to_owned(),
                field,
                wrong,
            })
        };
        if spec.0.settings.restart == Restart::Temporary {
            let useless = [
                ("backoff", self.backoff.is_some()),
                ("budget", self.budget.is_some()),
                ("quarantine", self.quarantine.is_some()),
            ];
            if let Some((field, _)) = useless.into_iter().find(|(_, set)| *set) {
                return setting(field, "a temporary child is never restarted");
            }
        }
        if self.budget.is_some_and(|it| it.period().is_zero()) {
            return setting("budget", "period must not be zero");
        }
        if self.watchdog.is_some_and(|it| it.limit().is_zero()) {
            return setting("watchdog", "limit must not be zero");
        }
        if let Some(backoff) = self.backoff {
            backoff.validate(id, "backoff")?;
        }
        self.quarantine
            .map_or(Ok(()), |quarantine| quarantine.validate(id))
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("id", &self.0.settings.id)
            .field("restart", &self.0.settings.restart)
            .field("significant", &self.0.settings.significant)
            .field("shutdown", &self.0.settings.shutdown)
            .field("kind", &self.0.settings.kind)
            .field("name", &self.actor_name())
            .field("groups", &self.groups())
            .field("mailbox", &self.mailbox_setting())
            .field("care", &self.0.settings.more.as_ref().map(|more| more.care))
            .finish_non_exhaustive()
    }
}

/// A child spec that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChildSpecError {
    /// The id is empty, or holds the `/` that separates the segments of a path.
    #[error("child `{id}`: id must not be empty or contain `/`")]
    Id {
        /// The id as given.
        id: String,
    },
    /// A permanent child never ends for good, so its end cannot be significant.
    #[error("child `{id}`: significant needs restart transient or temporary")]
    SignificantPermanent {
        /// The child.
        id: String,
    },
    /// A setting that says how the child is restarted, parked or watched cannot be used.
    #[error("child `{id}`: {field}: {wrong}")]
    Setting {
        /// The child.
        id: String,
        /// The setting.
        field: &'static str,
        /// What is wrong with it.
        wrong: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;
    use crate::{ChildKey, Incarnation, ParentLink, Scope, WallTime};

    struct NoParent(Scope);

    impl ParentLink for NoParent {
        fn scope(&self) -> &Scope {
            &self.0
        }

        fn child_ended(&self, _: ChildKey, _: Arc<Incarnation>, _: WallTime) {}
    }

    #[tokio::test]
    async fn a_copy_that_is_changed_leaves_the_original_alone_and_starts_the_same() {
        let starts = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&starts);
        let spec = ChildSpec::from_fn("a", ChildKind::Worker, move |_| {
            counter.fetch_add(1, Relaxed);
            async { Ok(Started::Ignored) }
        });
        let copy = spec.clone().transient().significant(true);
        let settings = |it: &ChildSpec| (it.restart_type(), it.is_significant());
        assert_eq!(settings(&spec), (Restart::Permanent, false));
        assert_eq!(settings(&copy), (Restart::Transient, true));

        let scope = Scope::new("t");
        for spec in [spec, copy] {
            let link = Arc::new(NoParent(scope.clone()));
            let node = scope.root().child_or_insert(spec.id());
            let started = spec.start_fn()(StartContext::new(node, link, 0, None)).await;
            assert!(matches!(started, Ok(Started::Ignored)));
        }
        assert_eq!(starts.load(Relaxed), 2);
    }
}
