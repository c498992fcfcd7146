//! A tree with a pool and a config server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use perennial_lifecycle::{EventKind, Incarnation, Node, Scope};
use perennial_pool::{Pool, PoolConfig};
use perennial_supervisor::{RestartIntensity, Supervisor};
use perennial_workers::DatabaseWorker;

use crate::{ConfigKey, ConfigServer, ConfigServerBuilder, Schema};

pub(crate) const LIMIT: ConfigKey<u32> = ConfigKey::new("billing.limit");
pub(crate) const CURRENCY: ConfigKey<String> = ConfigKey::new("billing.currency");
pub(crate) const LEVEL: ConfigKey<u32> = ConfigKey::new("log.level");

/// Many restarts are what these tests are about.
pub(crate) const OFTEN: RestartIntensity = RestartIntensity::new(100_000, Duration::from_secs(1));

pub(crate) fn schema() -> Schema {
    Schema::builder()
        .entry(LIMIT, 10, |n| {
            if *n < 1000 {
                Ok(())
            } else {
                Err("must be below 1000".to_owned())
            }
        })
        .value(CURRENCY, "EUR".to_owned())
        .value(LEVEL, 3)
        .build()
        .unwrap()
}

pub(crate) fn database(worker: DatabaseWorker) -> Pool<DatabaseWorker> {
    Pool::new("database", worker, PoolConfig::new(4).max_overflow(4)).unwrap()
}

pub(crate) fn memory() -> Pool<DatabaseWorker> {
    database(DatabaseWorker::in_memory("test"))
}

/// A tree with a pool and a config server.
pub(crate) struct Tree {
    pub(crate) config: ConfigServer,
    pub(crate) pool: Pool<DatabaseWorker>,
    pub(crate) scope: Scope,
    pub(crate) _supervisor: Supervisor,
}

impl Tree {
    pub(crate) async fn start(pool: Pool<DatabaseWorker>) -> Self {
        Self::start_with(ConfigServer::builder(schema(), pool.clone()), pool).await
    }

    pub(crate) async fn start_with(
        config: ConfigServerBuilder,
        pool: Pool<DatabaseWorker>,
    ) -> Self {
        let config = config.build();
        let scope = Scope::new("test");
        let supervisor = Supervisor::builder()
            .intensity(OFTEN)
            .child(pool.child_spec())
            .child(config.child_spec())
            .build()
            .unwrap()
            .start_in(&scope)
            .await
            .unwrap();
        Self {
            config,
            pool,
            scope,
            _supervisor: supervisor,
        }
    }

    pub(crate) fn server(&self) -> Arc<Node> {
        self.scope.root().child(ConfigServer::ID).unwrap()
    }

    /// Waits for the successor of a run that is ending.
    pub(crate) async fn after(&self, run: &Incarnation) {
        run.ended().await;
        self.server().running().await;
    }

    pub(crate) async fn kill(&self) {
        let run = self.server().running().await;
        run.kill();
        self.after(&run).await;
    }

    /// What the database holds, past everything else.
    pub(crate) async fn stored(&self) -> BTreeMap<String, String> {
        let db = self.pool.checkout().await.unwrap();
        db.query("SELECT path, value FROM perennial_config", |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .await
        .unwrap()
        .into_iter()
        .collect()
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        let events = self.scope.events().recent();
        let note = |kind| match kind {
            EventKind::Noted {
                source: "config",
                text,
            } => Some(text.to_string()),
            _ => None,
        };
        events
            .into_iter()
            .filter_map(|event| note(event.kind))
            .collect()
    }
}
