use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use ractor::Actor;
use serde::{Deserialize, Serialize};

use crate::{
    ActorName, Backoff, Quarantine, RestartIntensity, StartContext, StartError, Started, Watchdog,
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
#[derive(Clone)]
#[must_use]
pub struct ChildSpec {
    id: Arc<str>,
    restart: Restart,
    significant: bool,
    shutdown: Shutdown,
    kind: ChildKind,
    name: Option<ActorName>,
    start: Arc<StartFn>,
    /// What few children have, so that the others do not carry it.
    care: Option<Arc<Care>>,
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
        Self::from_fn(id, ChildKind::Worker, move |context| {
            // The factory runs inside the future, where the supervisor catches a panic of it.
            let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&factory));
            async move {
                let (actor, arguments) =
                    made.map_err(|payload| StartError::from_panic(&*payload))?;
                Ok(Started::from(context.spawn(actor, arguments).await?))
            }
        })
    }

    /// Describes a child by its start function, for starts that may refuse or take several steps.
    pub fn from_fn<F, Fut>(id: impl Into<Arc<str>>, kind: ChildKind, start: F) -> Self
    where
        F: Fn(StartContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Started, StartError>> + Send + 'static,
    {
        Self {
            id: id.into(),
            restart: Restart::Permanent,
            significant: false,
            shutdown: match kind {
                ChildKind::Worker => Shutdown::Within(Duration::from_secs(5)),
                ChildKind::Supervisor => Shutdown::Infinity,
            },
            kind,
            name: None,
            care: None,
            start: Arc::new(move |context| Box::pin(start(context))),
        }
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
        self.restart = restart;
        self
    }

    /// Sets how the child is stopped.
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Says whether the child's own end may end its supervisor, see the supervisor's auto shutdown.
    pub fn significant(mut self, significant: bool) -> Self {
        self.significant = significant;
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
        set(Arc::make_mut(self.care.get_or_insert_default()));
        self
    }

    /// Enters the child under this name in the tree's directory.
    pub fn name(mut self, name: ActorName) -> Self {
        self.name = Some(name);
        self
    }

    /// Enters the child under `name` unless it has a name already.
    pub fn name_if_none(mut self, name: impl FnOnce(&str) -> ActorName) -> Self {
        if self.name.is_none() {
            self.name = Some(name(&self.id));
        }
        self
    }

    /// Returns the id, unique among the children of one supervisor.
    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Returns when the child is restarted.
    #[must_use]
    pub fn restart_type(&self) -> Restart {
        self.restart
    }

    /// Returns how the child is stopped.
    #[must_use]
    pub fn shutdown_type(&self) -> Shutdown {
        self.shutdown
    }

    /// Returns whether the child is a supervisor.
    #[must_use]
    pub fn kind(&self) -> ChildKind {
        self.kind
    }

    /// Says whether the child is significant.
    #[must_use]
    pub fn is_significant(&self) -> bool {
        self.significant
    }

    /// Returns the name in the directory.
    #[must_use]
    pub fn actor_name(&self) -> Option<&ActorName> {
        self.name.as_ref()
    }

    /// Returns what it waits before each restart.
    #[must_use]
    pub fn backoff_setting(&self) -> Option<Backoff> {
        self.care.as_ref()?.backoff
    }

    /// Returns its own restart budget.
    #[must_use]
    pub fn budget_setting(&self) -> Option<RestartIntensity> {
        self.care.as_ref()?.budget
    }

    /// Returns how it is parked when it ends too often.
    #[must_use]
    pub fn quarantine_setting(&self) -> Option<Quarantine> {
        self.care.as_ref()?.quarantine
    }

    /// Returns who watches its handlers.
    #[must_use]
    pub fn watchdog_setting(&self) -> Option<Watchdog> {
        self.care.as_ref()?.watchdog
    }

    /// Takes over what the supervisor is to do beyond OTP's rules from another spec: a template's.
    pub fn cared_for_as(mut self, other: &Self) -> Self {
        self.care.clone_from(&other.care);
        self
    }

    /// Returns the start function.
    #[must_use]
    pub fn start_fn(&self) -> &Arc<StartFn> {
        &self.start
    }

    /// Checks what the types leave open.
    ///
    /// # Errors
    ///
    /// [`ChildSpecError`] names the child and the field.
    pub fn validate(&self) -> Result<(), ChildSpecError> {
        if self.id.is_empty() || self.id.contains('/') {
            return Err(ChildSpecError::Id {
                id: self.id.to_string(),
            });
        }
        if self.significant && self.restart == Restart::Permanent {
            return Err(ChildSpecError::SignificantPermanent {
                id: self.id.to_string(),
            });
        }
        self.care
            .as_ref()
            .map_or(Ok(()), |care| care.validate(self))
    }
}

impl Care {
    fn validate(&self, spec: &ChildSpec) -> Result<(), ChildSpecError> {
        let id = &*spec.id;
        let setting = |field, wrong| {
            Err(ChildSpecError::Setting {
                id: id.to_owned(),
                field,
                wrong,
            })
        };
        if spec.restart == Restart::Temporary {
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
            .field("id", &self.id)
            .field("restart", &self.restart)
            .field("significant", &self.significant)
            .field("shutdown", &self.shutdown)
            .field("kind", &self.kind)
            .field("name", &self.name)
            .field("care", &self.care)
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
