use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::sync::Arc;

use perennial_lifecycle::{ChildKind, ChildSpec, Scope, StartError, Started};

use super::actor::DynamicActor;
use super::handle::DynamicSupervisor;
use super::template::{ChildTemplate, Template};
use crate::config::check_child;
use crate::root::start_root;
use crate::{AutoShutdown, RestartIntensity, SupervisorSpecError};

/// Collects the settings of a dynamic supervisor; see [`DynamicSupervisor::builder`].
#[must_use]
pub struct DynamicSupervisorBuilder<Args> {
    settings: Settings,
    arguments: PhantomData<fn(Args)>,
}

/// What the actor needs to know.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) template: Template,
    pub(crate) intensity: RestartIntensity,
    /// Says how many restarts there may be, where that changes.
    pub(crate) max_restarts: Option<Arc<dyn Fn() -> u32 + Send + Sync>>,
    pub(crate) auto_shutdown: AutoShutdown,
    pub(crate) max_children: Option<NonZeroU32>,
    pub(crate) concurrent: bool,
}

impl Settings {
    fn describe(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        f.debug_struct(name)
            .field("template", self.template.spec())
            .field("intensity", &self.intensity)
            .field("auto_shutdown", &self.auto_shutdown)
            .field("max_children", &self.max_children)
            .field("concurrent_starts", &self.concurrent)
            .finish()
    }
}

impl<Args: Send + Sync + 'static> DynamicSupervisorBuilder<Args> {
    pub(super) fn new(template: ChildTemplate<Args>) -> Self {
        Self {
            settings: Settings {
                template: template.erase(),
                intensity: RestartIntensity::default(),
                max_restarts: None,
                auto_shutdown: AutoShutdown::default(),
                max_children: None,
                concurrent: false,
            },
            arguments: PhantomData,
        }
    }

    /// Sets the restart intensity, which all children share. Default: 1 restart within 5 s.
    pub fn intensity(mut self, intensity: RestartIntensity) -> Self {
        self.settings.intensity = intensity;
        self
    }

    /// Asks at each restart how many there may be within the intensity's period, instead of its own number: for a number
    /// of children that changes.
    ///
    /// It is asked in the supervisor's own task, and must not wait.
    pub fn max_restarts_by(mut self, max: impl Fn() -> u32 + Send + Sync + 'static) -> Self {
        self.settings.max_restarts = Some(Arc::new(max));
        self
    }

    /// Sets what the end of significant children does. Default: nothing.
    pub fn auto_shutdown(mut self, auto_shutdown: AutoShutdown) -> Self {
        self.settings.auto_shutdown = auto_shutdown;
        self
    }

    /// Sets how many children there may be at a time. Default: any number.
    ///
    /// One that is being terminated counts until its actor has ended.
    pub fn max_children(mut self, limit: NonZeroU32) -> Self {
        self.settings.max_children = Some(limit);
        self
    }

    /// Starts, restarts and terminates children beside the supervisor's queue instead of in it. Default: off.
    ///
    /// Children that are slow to start then hold up neither each other nor the calls that follow; on the
    /// other hand children that crash one after the other need not come back in that order. A child with the id of one
    /// that is being terminated starts once that one has ended, which has as long for it as its spec says.
    pub fn concurrent_starts(mut self, concurrent: bool) -> Self {
        self.settings.concurrent = concurrent;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// [`SupervisorSpecError`] names the template and the field.
    pub fn build(self) -> Result<DynamicSpec<Args>, SupervisorSpecError> {
        if self.settings.intensity.period().is_zero() {
            return Err(SupervisorSpecError::ZeroPeriod);
        }
        check_child(self.settings.template.spec(), self.settings.auto_shutdown)?;
        Ok(DynamicSpec {
            settings: self.settings,
            arguments: PhantomData,
        })
    }
}

impl<Args> Clone for DynamicSupervisorBuilder<Args> {
    fn clone(&self) -> Self {
        Self {
            settings: self.settings.clone(),
            arguments: PhantomData,
        }
    }
}

impl<Args> fmt::Debug for DynamicSupervisorBuilder<Args> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.describe(f, "DynamicSupervisorBuilder")
    }
}

/// Checked settings of a dynamic supervisor, ready to be started any number of times.
pub struct DynamicSpec<Args> {
    settings: Settings,
    arguments: PhantomData<fn(Args)>,
}

impl<Args: Send + Sync + 'static> DynamicSpec<Args> {
    /// Starts the supervisor, without any child, as the root of a new tree.
    ///
    /// # Errors
    ///
    /// [`StartError`] when the actor could not be started.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a supervisor that nobody took over is asked to stop.
    pub async fn start(self, namespace: &str) -> Result<DynamicSupervisor<Args>, StartError> {
        self.start_in(&Scope::new(namespace)).await
    }

    /// Starts the supervisor as the root of the tree that `scope` describes.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and [`RootTaken`](crate::RootTaken) where a root runs, or is being started, that nobody
    /// has asked to stop.
    ///
    /// # Cancel safety
    ///
    /// As [`start`](Self::start).
    pub async fn start_in(self, scope: &Scope) -> Result<DynamicSupervisor<Args>, StartError> {
        start_root(scope, async |context| {
            DynamicActor::spawn(self.settings, context).await
        })
        .await?;
        Ok(DynamicSupervisor::new(Arc::clone(scope.root())))
    }

    /// Makes the spec of a nested supervisor; [`DynamicSupervisor::at`] finds its handle.
    ///
    /// Restarted by its own supervisor it is empty again: dynamic children are lost.
    pub fn into_child(self, id: impl Into<Arc<str>>) -> ChildSpec {
        ChildSpec::from_fn(id, ChildKind::Supervisor, move |context| {
            let settings = self.settings.clone();
            async move {
                let child = DynamicActor::spawn(settings, context).await?;
                Ok(Started::from(child))
            }
        })
    }
}

impl<Args> Clone for DynamicSpec<Args> {
    fn clone(&self) -> Self {
        Self {
            settings: self.settings.clone(),
            arguments: PhantomData,
        }
    }
}

impl<Args> fmt::Debug for DynamicSpec<Args> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.describe(f, "DynamicSpec")
    }
}
