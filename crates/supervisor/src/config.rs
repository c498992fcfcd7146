use std::collections::HashSet;
use std::sync::Arc;

use perennial_lifecycle::{ChildKind, ChildSpec, RestartIntensity, Scope, StartError, Started};
use serde::{Deserialize, Serialize};

use crate::actor::SupervisorActor;
use crate::root::start_root;
use crate::{Supervisor, SupervisorSpecError};

/// Which children share the fate of one that must be restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Only the child itself.
    #[default]
    OneForOne,
    /// All children.
    OneForAll,
    /// The child and those started after it.
    RestForOne,
}

/// Whether the end of significant children ends the supervisor (Erlang's EEP 56).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoShutdown {
    /// It does not.
    #[default]
    Never,
    /// The end of any significant child does.
    AnySignificant,
    /// The end of the last significant child does.
    AllSignificant,
}

/// Collects the settings of a supervisor; see [`Supervisor::builder`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct SupervisorBuilder {
    strategy: Strategy,
    intensity: RestartIntensity,
    auto_shutdown: AutoShutdown,
    children: Vec<ChildSpec>,
}

impl SupervisorBuilder {
    /// Sets the strategy. Default: one for one.
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Sets the restart intensity. Default: 1 restart within 5 s.
    pub fn intensity(mut self, intensity: RestartIntensity) -> Self {
        self.intensity = intensity;
        self
    }

    /// Sets what the end of significant children does. Default: nothing.
    pub fn auto_shutdown(mut self, auto_shutdown: AutoShutdown) -> Self {
        self.auto_shutdown = auto_shutdown;
        self
    }

    /// Adds a child behind those added before.
    pub fn child(mut self, spec: ChildSpec) -> Self {
        self.children.push(spec);
        self
    }

    /// Adds children in order.
    pub fn children(mut self, specs: impl IntoIterator<Item = ChildSpec>) -> Self {
        self.children.extend(specs);
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// [`SupervisorSpecError`] names the child and the field.
    pub fn build(self) -> Result<SupervisorSpec, SupervisorSpecError> {
        if self.intensity.period().is_zero() {
            return Err(SupervisorSpecError::ZeroPeriod);
        }
        let mut ids = HashSet::new();
        for child in &self.children {
            check_child(child, self.auto_shutdown)?;
            if !ids.insert(Arc::clone(child.id())) {
                return Err(SupervisorSpecError::DuplicateChild {
                    id: child.id().to_string(),
                });
            }
        }
        Ok(SupervisorSpec {
            strategy: self.strategy,
            intensity: self.intensity,
            auto_shutdown: self.auto_shutdown,
            children: self.children.into(),
        })
    }
}

/// Checks a child spec by itself and against its supervisor's settings.
pub(crate) fn check_child(
    child: &ChildSpec,
    auto_shutdown: AutoShutdown,
) -> Result<(), SupervisorSpecError> {
    if child.is_significant() && auto_shutdown == AutoShutdown::Never {
        return Err(SupervisorSpecError::SignificantWithoutAutoShutdown {
            id: child.id().to_string(),
        });
    }
    Ok(child.validate()?)
}

/// Checked settings of a supervisor, ready to be started any number of times.
#[derive(Clone, Debug)]
pub struct SupervisorSpec {
    pub(crate) strategy: Strategy,
    pub(crate) intensity: RestartIntensity,
    pub(crate) auto_shutdown: AutoShutdown,
    pub(crate) children: Arc<[ChildSpec]>,
}

impl SupervisorSpec {
    /// Starts the supervisor as the root of a new tree.
    ///
    /// # Errors
    ///
    /// [`StartError`] when a child did not start; those started before it were stopped again.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a tree that nobody took over is asked to stop.
    pub async fn start(self, namespace: &str) -> Result<Supervisor, StartError> {
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
    pub async fn start_in(self, scope: &Scope) -> Result<Supervisor, StartError> {
        start_root(scope, async |context| {
            SupervisorActor::spawn(self, context).await
        })
        .await?;
        Ok(Supervisor::new(scope.root().clone()))
    }

    /// Makes the spec of a nested supervisor.
    pub fn into_child(self, id: impl Into<Arc<str>>) -> ChildSpec {
        ChildSpec::from_fn(id, ChildKind::Supervisor, move |context| {
            let spec = self.clone();
            async move {
                let child = SupervisorActor::spawn(spec, context).await?;
                Ok(Started::from(child))
            }
        })
    }
}
