//! The live configuration: typed, validated, versioned, written through to a database, and observed.
//!
//! ```
//! use perennial_config::{ConfigKey, ConfigServer, Schema, UpdateError};
//! use perennial_pool::{Pool, PoolConfig};
//! use perennial_supervisor::Supervisor;
//! use perennial_workers::DatabaseWorker;
//!
//! const MAX_ITEMS: ConfigKey<u32> = ConfigKey::new("billing.max_items");
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let schema = Schema::builder()
//!     .entry(MAX_ITEMS, 100, |n| match n {
//!         1..=1000 => Ok(()),
//!         _ => Err("must be from 1 to 1000".to_owned()),
//!     })
//!     .build()?;
//! let pool = Pool::new("database", DatabaseWorker::in_memory("demo"), PoolConfig::new(2))?;
//! let config = ConfigServer::builder(schema, pool.clone()).build();
//! let tree = Supervisor::builder()
//!     .child(pool.child_spec())
//!     .child(config.child_spec())
//!     .build()?
//!     .start("demo")
//!     .await?;
//!
//! assert_eq!(config.get(MAX_ITEMS)?, 100);
//! let mut billing = config.subscribe("billing")?;
//!
//! config.update(MAX_ITEMS, 250, "alice").await?;
//! assert_eq!(config.get(MAX_ITEMS)?, 250);
//! assert_eq!(billing.changed().await?.new, 250);
//!
//! let refused = config.update(MAX_ITEMS, 0, "bob").await.unwrap_err();
//! assert!(matches!(refused, UpdateError::Invalid { .. }));
//! assert_eq!((config.get(MAX_ITEMS)?, config.version()), (250, 1));
//! # tree.stop(perennial_lifecycle::ExitReason::Shutdown).await;
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! - What was acknowledged is in the database, whatever dies afterwards: the config server, its pool, the
//!   process.
//! - A value that was refused changes nothing.
//! - Readers see values that hold together at one version, and never wait. A version never goes back.
//! - A change is stored, then readable, then published, then acknowledged. When the config server dies
//!   between these, its restart makes up for the rest: after it, what is readable is what is stored.
//! - A subscriber that was too slow is told so.
//!
//! # What it does not do
//!
//! It does not check settings against each other, and it merges nothing: of two changes of one setting the
//! later holds. Values are neither logged nor told to the tree's events, since they may be secrets;
//! subscribers and [`ConfigServer::entries`] see them.

mod actor;
mod cell;
mod error;
mod event;
mod handle;
mod key;
mod machine;
mod nearest;
mod schema;
mod store;
mod subscription;

pub use error::{GetError, HistoryError, StoreError, SubscriptionError, UnknownPath, UpdateError};
pub use handle::{ConfigEntry, ConfigEntrySet, ConfigServer, ConfigServerBuilder};
pub use key::ConfigKey;
pub use schema::{Schema, SchemaBuilder, SchemaError};
pub use subscription::{ConfigChange, Subscription};

#[cfg(test)]
mod tests;
