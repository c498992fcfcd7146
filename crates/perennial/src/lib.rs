//! Actor supervision trees that come back.
//!
//! A host binary starts one tree. The tree runs the host's actors beside what every service needs: names
//! that survive restarts, rate limits, circuit breakers, pools of worker actors, a live configuration,
//! monitors for memory, performance and health, and a debug actor that shows all of it.
//!
//! ```
//! use perennial::{ChildSpec, Name, Tree};
//! use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
//! use std::time::Duration;
//!
//! enum BillingMsg {
//!     Charge(u64),
//!     Total(RpcReplyPort<u64>),
//! }
//! const BILLING: Name<BillingMsg> = Name::new("billing");
//!
//! struct Billing;
//! impl Actor for Billing {
//!     type Msg = BillingMsg;
//!     type State = u64;
//!     type Arguments = ();
//!
//!     async fn pre_start(&self, _: ActorRef<BillingMsg>, _: ()) -> Result<u64, ActorProcessingErr> {
//!         Ok(0)
//!     }
//!     async fn handle(&self, _: ActorRef<BillingMsg>, message: BillingMsg, total: &mut u64) -> Result<(), ActorProcessingErr> {
//!         match message {
//!             BillingMsg::Charge(amount) => *total += amount,
//!             BillingMsg::Total(reply) => reply.send(*total)?,
//!         }
//!         Ok(())
//!     }
//! }
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let tree = Tree::builder("production")
//!         .child(ChildSpec::worker("billing", || (Billing, ())).transient())
//!         .start()
//!         .await?;
//!
//!     tree.cast(BILLING, BillingMsg::Charge(40))?;
//!     tree.cast(BILLING, BillingMsg::Charge(2))?;
//!     let total = tree.call(BILLING, BillingMsg::Total, Duration::from_secs(2)).await?;
//!     assert_eq!(total, 42);
//!
//!     println!("{}", tree.debug().snapshot().await?.render());
//!     tree.shutdown().await;
//!     Ok(())
//! }
//! ```
//!
//! # Guarantees
//!
//! - Kill any actor of the tree, the root included: the tree heals, every name resolves again, and no
//!   quota, breaker state, setting or acknowledged write is lost.
//! - Two trees in one process never meet, but where an actor of one calls the other.
//! - Dropping the last handle to a tree stops it in order.
//!
//! # What it does not do
//!
//! It does not spread over machines, and it cannot pre-empt a handler that does not yield.
//!
//! The page `docs/semantics.md` of the repository lists the guarantees with the test that proves each.

mod builder;
mod drain;
mod error;
mod keeper;
mod report;
mod settings;
mod tree;
mod wiring;

pub use builder::TreeBuilder;
pub use error::{StartTreeError, UpdateProtectedError};
pub use report::{CutOff, ShutdownReport};
pub use settings::{
    ConfigSettings, DatabaseSettings, NoHost, Settings, SettingsError, SettingsErrors,
    SupervisionSettings,
};
pub use tree::Tree;

pub use perennial_breaker::{
    Breaker, BreakerConfig, BreakerState, BreakerStatus, CircuitOpen, OpenTime, Outcome, Trip,
};
pub use perennial_config::{ConfigChange, ConfigKey, ConfigServer, Schema, UpdateError};
pub use perennial_debug::{Debugger, Snapshot};
pub use perennial_guard::{Bulkhead, Guard, GuardError, GuardStatus, Retry, Spend};
pub use perennial_lifecycle::{
    ActorName, ActorPath, AtRestart, Backoff, ChildKind, ChildSpec, ChildState, DeadLetter,
    DeadLetters, DeadReason, Down, Ended, Event, EventKind, Events, Exit, ExitReason, Mail,
    Mailbox, Missed, Monitor, Node, Quarantine, Restart, Scope, Shutdown, StartContext, StartError,
    Started, Watchdog, Watching, install_panic_hook,
};
pub use perennial_monitor::{
    Check, CheckReport, CleanupStrategy, HealthAggregator, HealthCheck, MemoryManager, Overall,
    PerformanceMonitor, Pressure,
};
pub use perennial_pool::{
    Checkout, CheckoutError, ObjectPool, Pool, PoolConfig, PoolName, PoolStatus, Worker,
    WorkerError, WorkerRef,
};
pub use perennial_rate_limit::{Algorithm, Decision, Quota, RateGate};
pub use perennial_registry::{
    Address, CallError, CastError, Group, Name, NameEvent, NameWatch, Refusal, Registry, Route,
    WhenDown,
};
pub use perennial_supervisor::{
    AutoShutdown, ChildTemplate, DynamicChild, DynamicSupervisor, PartitionedSupervisor,
    RestartIntensity, Strategy, Supervisor, SupervisorSpec,
};
pub use perennial_workers::{AnalyzerWorker, DatabaseWorker};

// All that is not named above, for hosts that need more than the usual.
pub use perennial_breaker as breaker;
pub use perennial_config as config;
pub use perennial_debug as debug;
pub use perennial_guard as guard;
pub use perennial_lifecycle as lifecycle;
pub use perennial_monitor as monitor;
pub use perennial_pool as pool;
pub use perennial_rate_limit as rate_limit;
pub use perennial_registry as registry;
pub use perennial_supervisor as supervisor;
pub use perennial_workers as workers;

/// The pool that the tree's own configuration is stored through; every tree has it.
pub const DATABASE: PoolName<DatabaseWorker> = PoolName::new("database");

/// The usual name of a pool of analyzers.
pub const ANALYZER: PoolName<AnalyzerWorker> = PoolName::new("analyzer");
