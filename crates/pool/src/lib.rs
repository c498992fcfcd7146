//! Which worker may I borrow? Checkout and checkin.
//!
//! A pool lends supervised worker actors: `size` of them are started up front, up to `max_overflow` more
//! on demand. What needs no actor to look after it is lent by an [`ObjectPool`], under which deadpool hands objects over to
//! those who wait; this is the only crate that sees it.
//!
//! ```
//! use perennial_lifecycle::ExitReason;
//! use perennial_pool::{Pool, PoolConfig, PoolName, Worker, WorkerError, WorkerRef};
//! use perennial_supervisor::Supervisor;
//! use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
//!
//! // A plain ractor actor ...
//! struct Adder;
//! struct Add(u32, u32, RpcReplyPort<u32>);
//!
//! impl Actor for Adder {
//!     type Msg = Add;
//!     type State = ();
//!     type Arguments = ();
//!     async fn pre_start(&self, _: ActorRef<Add>, _: ()) -> Result<(), ActorProcessingErr> {
//!         Ok(())
//!     }
//!     async fn handle(
//!         &self, _: ActorRef<Add>, Add(a, b, reply): Add, _: &mut (),
//!     ) -> Result<(), ActorProcessingErr> {
//!         reply.send(a + b)?;
//!         Ok(())
//!     }
//! }
//!
//! // ... what its holders work with ...
//! struct Sums(WorkerRef<Add>);
//!
//! impl Sums {
//!     async fn add(&self, a: u32, b: u32) -> Result<u32, WorkerError> {
//!         self.0.call(|reply| Add(a, b, reply)).await
//!     }
//! }
//!
//! // ... and the kind of worker that ties them together.
//! struct AdderWorker;
//!
//! impl Worker for AdderWorker {
//!     type Actor = Adder;
//!     type Client = Sums;
//!     fn actor(&self) -> (Adder, ()) {
//!         (Adder, ())
//!     }
//!     fn client(&self, worker: WorkerRef<Add>) -> Sums {
//!         Sums(worker)
//!     }
//! }
//!
//! const ADDERS: PoolName<AdderWorker> = PoolName::new("adders");
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::new(ADDERS, AdderWorker, PoolConfig::new(2).max_overflow(1))?;
//! let tree = Supervisor::builder().child(pool.child_spec()).build()?.start("demo").await?;
//!
//! let sums = pool.checkout().await?;
//! assert_eq!(sums.add(1, 2).await?, 3);
//! assert_eq!(pool.status().in_use, 1);
//! drop(sums);
//!
//! let sum = pool.transaction(|sums| async move { sums.add(3, 4).await }).await??;
//! assert_eq!(sum, 7);
//!
//! tree.stop(ExitReason::Shutdown).await;
//! assert!(pool.checkout().await.is_err());
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! - A worker is lent to one holder at a time, and comes back on every way out: return, error, panic,
//!   cancellation at any await.
//! - Borrowers are served first come, first served; the strategy only says which idle worker is lent.
//! - A pool outlives its actors. Its workers, its keeper and its supervisor may be killed at any moment:
//!   whoever waits goes on waiting, within its deadline, and is served by their successors. Only when it is started for the
//!   first time must its workers start: later it comes back without those that do not, and starts them when it can.
//! - A worker that dies on loan ends the holder's call with [`WorkerError::Died`]. Its place is free from then
//!   on, while the holder still has what is left of it.
//! - A worker whose holder gave up in the middle of a call is killed and started anew, not lent while it
//!   is busy.
//! - There are never more than `size` and `max_overflow` workers together, those that are still ending
//!   included. Only those that a killed supervisor left behind end beside their successors.
//! - Starts that fail are repeated after a pause that grows, and nobody waits for one that would come too late.
//!
//! # What it does not do
//!
//! It does not look into workers: one that is alive is taken to be in order, unless [`Worker::check`] says
//! otherwise and [`check_after`](PoolConfig::check_after) has it asked. It resets nothing between
//! two holders by itself; what a client leaves in a worker's state, the next one finds, unless the kind of worker sees to
//! that where a [client is made](Worker::client), or where it is dropped. Messages that were cast and
//! not yet handled when a worker is checked in are handled before those of the next holder.

mod actor;
mod borrow;
mod cells;
mod checkout;
mod config;
mod error;
mod event;
mod handle;
mod machine;
mod name;
mod objects;
mod pools;
mod status;
mod view;
mod worker;

pub use checkout::Checkout;
pub use config::{Dismissal, PoolConfig, PoolConfigError, PoolField, PoolStrategy, Timeout};
pub use error::{CheckoutError, WorkerError};
pub use handle::Pool;
pub use name::PoolName;
pub use objects::{Object, ObjectPool, ObjectPoolBuilder, ObjectPoolStats, ObjectPoolStatus};
pub use pools::{DuplicatePool, Pools};
pub use status::{Holder, PoolStats, PoolStatus, PoolWorker, PoolWorkerState};
pub use view::PoolView;
pub use worker::{Worker, WorkerRef};
