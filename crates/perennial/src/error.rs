use std::sync::Arc;

use perennial_breaker::DuplicateBreaker;
use perennial_config::UpdateError;
use perennial_guard::{GuardConfigError, GuardError};
use perennial_lifecycle::{ActorName, StartError};
use perennial_pool::{DuplicatePool, PoolConfigError};
use perennial_rate_limit::RateGateConfigError;
use perennial_supervisor::SupervisorSpecError;

use crate::SettingsErrors;

/// A tree that could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartTreeError {
    /// The name of the tree, its namespace, is empty: nothing would say whose its paths are.
    #[error("a tree must have a name: its namespace is empty")]
    NoName,
    /// The settings file is bad; every error is listed.
    #[error(transparent)]
    Settings(#[from] SettingsErrors),
    /// The settings name a pool that the host does not have.
    #[error("pools.{name}: the host has no pool of this name, it has {}", known.join(", "))]
    UnknownPool {
        /// The name.
        name: String,
        /// The names of the pools that the host has, in order.
        known: Vec<String>,
    },
    /// Two pools have one name.
    #[error(transparent)]
    DuplicatePool(#[from] DuplicatePool),
    /// The pool `database` is not one of `DatabaseWorker`, which the configuration is stored through.
    #[error("pool `database` must lend `DatabaseWorker`s")]
    DatabasePool,
    /// The pool `database`, which the configuration is stored through, could never lend a worker.
    #[error("pool `database`: size and max_overflow must not both be zero")]
    EmptyDatabasePool,
    /// A pool's settings are bad.
    #[error(transparent)]
    Pool(#[from] PoolConfigError),
    /// The settings of the rate gate are bad.
    #[error("rate_gate: {0}")]
    RateGate(#[source] RateGateConfigError),
    /// Two breakers have one name.
    #[error(transparent)]
    Breaker(#[from] DuplicateBreaker),
    /// The code gives two quotas for one actor's name; a quota in the settings goes before that in the code.
    #[error("`{name}`: two quotas for one name")]
    DuplicateQuota {
        /// The name.
        name: ActorName,
    },
    /// The code gives a quota for a name of another tree.
    #[error("`{name}`: a quota for a name of {namespace}, which is another tree")]
    QuotaOfOtherTree {
        /// The name.
        name: ActorName,
        /// The namespace in the name.
        namespace: Arc<str>,
    },
    /// Two strategies that free memory have one name.
    #[error("clean-up `{name}`: two strategies of one name")]
    DuplicateCleanup {
        /// The name.
        name: String,
    },
    /// The health of a service that the tree does not have cannot depend on another one.
    #[error("health: there is no service `{service}` that could depend on `{dependency}`, only {}", known.join(", "))]
    UnknownService {
        /// What was named.
        service: String,
        /// What it was to depend on.
        dependency: String,
        /// The services of the tree, in order.
        known: Vec<String>,
    },
    /// A child spec is bad.
    #[error(transparent)]
    Spec(#[from] SupervisorSpecError),
    /// A guard of the tree's own cannot be built.
    #[error(transparent)]
    Guard(#[from] GuardConfigError),
    /// An actor did not start; what had started was stopped again.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// An update of the configuration that was refused or failed.
pub type UpdateProtectedError = GuardError<UpdateError>;
