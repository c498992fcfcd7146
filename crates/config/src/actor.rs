//! The single writer: what it acknowledges is in the database and in the cell, in this order.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use perennial_lifecycle::{Exit, ExitReason, after};
use perennial_pool::{Checkout, CheckoutError, Pool};
use perennial_workers::{DatabaseError, DatabaseWorker};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::time::{Instant, sleep};

use crate::cell::Cell;
use crate::event::Events;
use crate::machine::Snapshot;
use crate::schema::Typed;
use crate::store::{self, Write};
use crate::{ConfigChange, Schema, StoreError, UpdateError};

pub(crate) struct ConfigActor;

pub(crate) struct ConfigArguments {
    pub(crate) schema: Schema,
    pub(crate) cell: Arc<Cell>,
    pub(crate) pool: Pool<DatabaseWorker>,
    /// How long to wait for a worker that reads what is stored.
    pub(crate) start_timeout: Duration,
    pub(crate) events: Events,
}

pub(crate) enum ConfigMsg {
    Update(Box<Update>),
}

pub(crate) struct Update {
    /// Place of the setting in the schema.
    pub(crate) index: usize,
    pub(crate) value: Typed,
    pub(crate) user: Arc<str>,
    /// Comes with the message, so that a caller who leaves does not take it away from a write.
    pub(crate) db: Checkout<DatabaseWorker>,
    pub(crate) reply: RpcReplyPort<Result<ConfigChange, UpdateError>>,
}

/// How long to wait before a pool is asked again that has refused at once.
const PAUSE: Duration = Duration::from_millis(50);

/// Borrows a worker for a start.
///
/// A pool that is drained, that is being restarted, or whose queue is full refuses at once, which is no reason to fail:
/// starts that fail one after the other are soon too many, and end the tree.
async fn borrow(
    pool: &Pool<DatabaseWorker>,
    within: Duration,
) -> Result<Checkout<DatabaseWorker>, CheckoutError> {
    let until = after(within);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match pool.checkout_within(left).await {
            Err(_) if left > PAUSE => sleep(PAUSE).await,
            result => return result,
        }
    }
}

/// A start that nobody needs any more.
#[derive(Debug, thiserror::Error)]
#[error("the tree is stopping")]
struct Stopping;

/// The worker died during a write, so what is stored is not known; the restart reads it.
#[derive(Debug, thiserror::Error)]
#[error("the outcome of a write is not known")]
struct OutcomeUnknown;

impl Actor for ConfigActor {
    type Msg = ConfigMsg;
    type State = ConfigArguments;
    type Arguments = ConfigArguments;

    async fn pre_start(
        &self,
        _: ActorRef<ConfigMsg>,
        it: ConfigArguments,
    ) -> Result<ConfigArguments, ActorProcessingErr> {
        // An incarnation before may have left a write under way: read after it.
        let settled = it.cell.store.lock().await;
        let db = tokio::select! {
            db = borrow(&it.pool, it.start_timeout) => db.map_err(StoreError::from)?,
            // Its supervisor, which stops the rest, waits for this start.
            () = it.events.scope.stopping() => return Err(Stopping.into()),
        };
        let (rows, version) = store::load(&db).await.map_err(StoreError::from)?;
        drop((db, settled));
        let stored = rows.len();
        let (mut new, skipped) = Snapshot::defaults(&it.schema).with(&it.schema, rows);
        new.version = new.version.max(version).max(it.cell.load().version);
        it.events.loaded(stored, new.version);
        for row in &skipped {
            it.events.skipped(row);
        }
        // What was stored and not published any more is published now.
        for change in it.cell.publish(&it.schema, new) {
            it.events.changed(&change);
        }
        Ok(it)
    }

    async fn handle(
        &self,
        _: ActorRef<ConfigMsg>,
        ConfigMsg::Update(update): ConfigMsg,
        it: &mut ConfigArguments,
    ) -> Result<(), ActorProcessingErr> {
        let Update {
            index,
            value,
            user,
            db,
            reply,
        } = *update;
        if reply.is_closed() {
            return Ok(());
        }
        let entry = &it.schema.entries()[index];
        let known = Snapshot::clone(&it.cell.load());
        let write = Write {
            path: entry.path.to_string(),
            json: value.json.to_string(),
            user: user.to_string(),
            at: SystemTime::now(),
            default: entry.default.json.to_string(),
            known: known.version,
        };
        let settled = Arc::clone(&it.cell.store).lock_owned().await;
        let written = store::write(&db, write, settled).await;
        drop(db);
        // From here to the reply nothing waits, so a kill comes before or after all of it.
        let (rows, settled) = match written {
            Ok(written) => written,
            Err(error) => {
                let unknown = matches!(error, DatabaseError::Worker { .. });
                // Fails when the caller has gone.
                drop(reply.send(Err(error.into())));
                if unknown {
                    return Err(Exit(ExitReason::failed(OutcomeUnknown)).into());
                }
                return Ok(());
            }
        };
        drop(settled);
        let (new, skipped) = known.with(&it.schema, rows);
        for row in &skipped {
            it.events.skipped(row);
        }
        let version = new.version;
        let is_held = new.values[index].set.is_some();
        let changes = it.cell.publish(&it.schema, new);
        for change in &changes {
            it.events.changed(change);
        }
        let ours = changes.into_iter().find(|change| change.version == version);
        match ours {
            // Fails when the caller has gone.
            Some(change) if is_held => drop(reply.send(Ok(change))),
            // It was stored, and refused when it was read back: the schema's reading is not stable. The default holds.
            _ => drop(reply.send(Err(UpdateError::Invalid {
                path: Arc::clone(&entry.path),
                reason: "the value is refused when it is read back".to_owned(),
            }))),
        }
        Ok(())
    }
}
