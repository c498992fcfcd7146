//! Many actors' lives: a supervisor starts its children in order, restarts those that end, gives up when
//! they end too often, and stops them in reverse order.
//!
//! The rules are those of Erlang/OTP's `supervisor`, and so are the words.
//!
//! ```
//! # use ractor::{Actor, ActorProcessingErr, ActorRef};
//! # struct Cache;
//! # impl Actor for Cache {
//! #     type Msg = ();
//! #     type State = ();
//! #     type Arguments = ();
//! #     async fn pre_start(&self, _: ActorRef<()>, _: ()) -> Result<(), ActorProcessingErr> { Ok(()) }
//! # }
//! use perennial_lifecycle::{ChildSpec, ExitReason};
//! use perennial_supervisor::{RestartIntensity, Strategy, Supervisor};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let supervisor = Supervisor::builder()
//!     .strategy(Strategy::OneForOne)
//!     .intensity(RestartIntensity::new(3, Duration::from_secs(5)))
//!     .child(ChildSpec::worker("cache", || (Cache, ())))
//!     .build()?
//!     .start("shop")
//!     .await?;
//!
//! assert_eq!(supervisor.count_children().await?.active, 1);
//! supervisor.stop(ExitReason::Shutdown).await;
//! # Ok(())
//! # }
//! ```
//!
//! A [`Supervisor`] knows its children from the start; those of a [`DynamicSupervisor`] come and go, all from
//! one template. A [`PartitionedSupervisor`] divides them among dynamic supervisors side by side, by a key.
//!
//! # Guarantees
//!
//! - One queue: ends of children, calls, the parent's stop and retries are handled in order of arrival.
//! - The end of a child and its restart cost the same whatever the number of siblings.
//! - A failed restart counts against the intensity and is tried again behind what waits already.
//!
//! # What it does not do
//!
//! It knows no names and no pools. A start that takes long holds up its siblings, as in OTP,
//! unless a dynamic supervisor is told to start its children beside its queue.

mod actor;
mod child;
mod children;
mod config;
mod dynamic;
mod error;
mod event;
mod handle;
mod intensity;
mod left_behind;
mod message;
mod open_start;
mod partition;
mod pause;
mod recovery;
mod root;
mod schedule;
mod watchdog;

pub use config::{AutoShutdown, Strategy, SupervisorBuilder, SupervisorSpec};
pub use dynamic::{
    ChildTemplate, DynamicChild, DynamicSpec, DynamicSupervisor, DynamicSupervisorBuilder,
};
pub use error::{
    DeleteChildError, FailedToStartChild, OwnEnd, RestartChildError, ResumeChildError, RootTaken,
    StartChildError, SupervisorDown, SupervisorSpecError, TerminateChildError,
};
pub use handle::{ChildCount, ChildInfo, ChildStatus, StartedChild, Supervisor};
pub use partition::{
    PartitionedChildInfo, PartitionedSpec, PartitionedSupervisor, PartitionedSupervisorBuilder,
};
pub use perennial_lifecycle::RestartIntensity;
