use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use perennial_breaker::Outcome;
use perennial_guard::{Guard, GuardError};
use perennial_lifecycle::{ChildKind, ChildSpec, Incarnation, Node, Started};
use perennial_pool::{Checkout, Pool};
use perennial_workers::DatabaseWorker;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::actor::{ConfigActor, ConfigArguments, ConfigMsg, Update};
use crate::cell::Cell;
use crate::event::{self, Events};
use crate::schema::Typed;
use crate::store;
use crate::subscription::{is_below, text};
use crate::{
    ConfigChange, ConfigKey, GetError, HistoryError, Schema, StoreError, Subscription, UnknownPath,
    UpdateError,
};

/// How long is waited for the config server and for a worker when nobody says otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The live configuration of one tree; cheap to clone.
///
/// Reading asks shared memory: no message, no wait, also while the config server restarts. Changing goes
/// through the config server, one change at a time, and into the database before it is acknowledged.
///
/// See the [crate's example](crate).
#[derive(Clone)]
pub struct ConfigServer(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    schema: Schema,
    pub(crate) cell: Arc<Cell>,
    pool: Pool<DatabaseWorker>,
    guard: Guard<Pool<DatabaseWorker>>,
    /// The host brought the guard, which then has a quota.
    has_quota: bool,
    timeout: Duration,
    start_timeout: Duration,
    /// Where the actor lives, once it was started.
    node: ArcSwapOption<Node>,
}

/// One setting, as [`ConfigServer::entries`] lists it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ConfigEntry {
    /// Its path.
    #[serde(serialize_with = "text")]
    pub path: Arc<str>,
    /// Its Rust type, for people.
    pub type_name: &'static str,
    /// Its value now.
    pub value: Value,
    /// Its default.
    pub default: Value,
    /// Who set it; `None`: the default holds.
    pub set: Option<ConfigEntrySet>,
}

/// How a setting got its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConfigEntrySet {
    /// In which version of the configuration.
    pub version: u64,
    /// By whom.
    #[serde(serialize_with = "text")]
    pub user: Arc<str>,
    /// When, by the wall clock.
    pub at: SystemTime,
}

/// Collects the parts of a config server; see [`ConfigServer::builder`].
#[must_use]
pub struct ConfigServerBuilder {
    schema: Schema,
    pool: Pool<DatabaseWorker>,
    guard: Option<Guard<Pool<DatabaseWorker>>>,
    timeout: Duration,
    start_timeout: Duration,
}

impl ConfigServerBuilder {
    /// Sets what [`update_protected`](ConfigServer::update_protected) goes through: a guard with a quota,
    /// a breaker and this pool. Default: the pool alone.
    ///
    /// The quota is spent per user, under the key `("config_update", user)`.
    pub fn guard(mut self, guard: Guard<Pool<DatabaseWorker>>) -> Self {
        self.guard = Some(guard);
        self
    }

    /// Sets how long an update waits for the config server. Default: 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how long the config server waits at its start for a database worker, also while the pool lends none. Default:
    /// 5 s.
    ///
    /// It is started again when that was in vain; soon too often, where this is short.
    pub fn start_timeout(mut self, start_timeout: Duration) -> Self {
        self.start_timeout = start_timeout;
        self
    }

    /// Makes the config server. Until its [`child_spec`](ConfigServer::child_spec) is started every
    /// setting has its default.
    ///
    /// # Panics
    ///
    /// Never: a guard of a pool alone can always be built.
    #[must_use]
    pub fn build(self) -> ConfigServer {
        let has_quota = self.guard.is_some();
        let guard = self.guard.unwrap_or_else(|| {
            let guard = Guard::builder(ConfigServer::ID).pool(self.pool.clone());
            guard.build().expect("nothing to look up")
        });
        ConfigServer(Arc::new(Shared {
            cell: Arc::new(Cell::new(&self.schema)),
            schema: self.schema,
            pool: self.pool,
            guard,
            has_quota,
            timeout: self.timeout,
            start_timeout: self.start_timeout,
            node: ArcSwapOption::empty(),
        }))
    }
}

impl ConfigServer {
    /// The id of the config server among the children of its supervisor.
    pub const ID: &'static str = "config_server";

    /// Begins a config server for these settings, which are stored through this pool.
    pub fn builder(schema: Schema, pool: Pool<DatabaseWorker>) -> ConfigServerBuilder {
        ConfigServerBuilder {
            schema,
            pool,
            guard: None,
            timeout: TIMEOUT,
            start_timeout: TIMEOUT,
        }
    }

    /// Describes the config server's actor. It must be started after the pool.
    ///
    /// At every start it reads all that is stored. When the database cannot be asked, the start fails. A
    /// stored value that the schema no longer takes stays stored, and its default holds. The log and the tree's
    /// events tell which; [`Schema::check`] says why, which may quote the value.
    pub fn child_spec(&self) -> ChildSpec {
        let server = self.clone();
        ChildSpec::from_fn(Self::ID, ChildKind::Worker, move |context| {
            let shared = Arc::clone(&server.0);
            async move {
                shared.node.store(Some(Arc::clone(context.node())));
                let arguments = ConfigArguments {
                    schema: shared.schema.clone(),
                    cell: Arc::clone(&shared.cell),
                    pool: shared.pool.clone(),
                    start_timeout: shared.start_timeout,
                    events: Events {
                        scope: context.scope().clone(),
                        path: context.path().clone(),
                    },
                };
                Ok(Started::from(context.spawn(ConfigActor, arguments).await?))
            }
        })
    }

    /// Returns the value of a setting.
    ///
    /// # Errors
    ///
    /// [`GetError`]: the schema does not declare the key, or declares it with another type. A key that has
    /// worked once always works.
    pub fn get<T: Clone + Send + Sync + 'static>(&self, key: ConfigKey<T>) -> Result<T, GetError> {
        let index = self.0.schema.index(key.path())?;
        let snapshot = self.0.cell.load();
        match snapshot.values[index].value.value.downcast_ref::<T>() {
            Some(value) => Ok(value.clone()),
            None => Err(self.wrong_type::<T>(index)),
        }
    }

    /// Returns the value of a setting without copying it: for large ones.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_shared<T: Send + Sync + 'static>(
        &self,
        key: ConfigKey<T>,
    ) -> Result<Arc<T>, GetError> {
        let index = self.0.schema.index(key.path())?;
        let value: Arc<dyn Any + Send + Sync> =
            Arc::clone(&self.0.cell.load().values[index].value.value);
        value.downcast().map_err(|_| self.wrong_type::<T>(index))
    }

    /// Returns the value of a setting as JSON.
    ///
    /// # Errors
    ///
    /// [`UnknownPath`] names the path that was probably meant.
    pub fn get_value(&self, path: &str) -> Result<Value, UnknownPath> {
        let index = self.0.schema.index(path)?;
        Ok(self.0.cell.load().values[index].value.json.clone())
    }

    /// Returns the version of the configuration: 0 before the first change, and one more with each.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.0.cell.load().version
    }

    /// Returns the settings' declarations.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.0.schema
    }

    /// Lists all settings in order, with the values that hold together at one version.
    #[must_use]
    pub fn entries(&self) -> Vec<ConfigEntry> {
        let snapshot = self.0.cell.load();
        let entries = self.0.schema.entries().iter().zip(&snapshot.values);
        entries
            .map(|(entry, held)| ConfigEntry {
                path: Arc::clone(&entry.path),
                type_name: entry.type_name,
                value: held.value.json.clone(),
                default: entry.default.json.clone(),
                set: held.set.as_ref().map(|(version, user, at)| ConfigEntrySet {
                    version: *version,
                    user: Arc::clone(user),
                    at: *at,
                }),
            })
            .collect()
    }

    /// Receives, from now on, the changes of a setting or of all settings below a path; the empty path
    /// stands for all.
    ///
    /// # Errors
    ///
    /// [`UnknownPath`] when no setting is there.
    pub fn subscribe(&self, path: impl AsRef<str>) -> Result<Subscription, UnknownPath> {
        let path = path.as_ref();
        if !self.0.schema.paths().any(|known| is_below(known, path)) {
            return Err(self.0.schema.unknown(path));
        }
        Ok(Subscription::new(path.into(), self.0.cell.subscribe()))
    }

    /// Changes a setting; nothing limits or protects it but the pool.
    ///
    /// When this returns `Ok` the change is in the database, readable, and published.
    ///
    /// # Errors
    ///
    /// [`UpdateError`]; an invalid value is refused before anything else happens.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the wait. A change that the config server has begun to write is
    /// written and published.
    pub async fn update(
        &self,
        path: impl AsRef<str>,
        value: impl Serialize,
        user: &str,
    ) -> Result<ConfigChange, UpdateError> {
        let (index, value) = self.prepare(path.as_ref(), &value)?;
        let db = self.borrow().await.inspect_err(event::refused)?;
        self.submit(db, index, value, user).await
    }

    /// Changes a setting under the guard: rate limit per user, breaker, pool, deadline.
    ///
    /// An invalid value is refused before that, at no cost to the user's quota. For the breaker every other
    /// [`UpdateError`] is a failure of the service.
    ///
    /// # Errors
    ///
    /// [`GuardError`]: who refused and until when, or `Operation` with the [`UpdateError`].
    ///
    /// # Cancel safety
    ///
    /// As [`update`](Self::update).
    pub async fn update_protected(
        &self,
        path: impl AsRef<str>,
        value: impl Serialize,
        user: &str,
    ) -> Result<ConfigChange, GuardError<UpdateError>> {
        let (index, value) = self
            .prepare(path.as_ref(), &value)
            .map_err(GuardError::Operation)?;
        let submit = |db| self.submit(db, index, value, user);
        let judge = |result: &Result<_, UpdateError>| match result {
            Ok(_) => Outcome::Success,
            Err(UpdateError::UnknownPath(_) | UpdateError::Invalid { .. }) => Outcome::Ignored,
            Err(_) => Outcome::Failure,
        };
        if !self.0.has_quota {
            return self.0.guard.run_with(submit, judge).await;
        }
        let key = ("config_update", user.to_owned());
        self.0.guard.run_keyed(&key, submit, judge).await
    }

    /// Changes a setting through a worker that the caller has borrowed: for a guard of the caller's own.
    ///
    /// The worker is checked in when the change is written.
    ///
    /// # Errors
    ///
    /// [`UpdateError`].
    ///
    /// # Cancel safety
    ///
    /// As [`update`](Self::update).
    pub async fn write_through(
        &self,
        db: Checkout<DatabaseWorker>,
        path: impl AsRef<str>,
        value: impl Serialize,
        user: &str,
    ) -> Result<ConfigChange, UpdateError> {
        let (index, value) = self.prepare(path.as_ref(), &value)?;
        self.submit(db, index, value, user).await
    }

    /// Reads the last changes of a setting from the database, newest first.
    ///
    /// # Errors
    ///
    /// [`HistoryError`]; also when the config server was never started on this database.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only reads.
    pub async fn history(
        &self,
        path: impl AsRef<str>,
        limit: u32,
    ) -> Result<Vec<ConfigChange>, HistoryError> {
        let path = path.as_ref();
        self.0.schema.index(path)?;
        let db = self.0.pool.checkout().await.map_err(StoreError::from)?;
        Ok(store::history(&db, path, limit)
            .await
            .map_err(StoreError::from)?)
    }

    fn prepare(&self, path: &str, value: &impl Serialize) -> Result<(usize, Typed), UpdateError> {
        let check = || {
            let index = self.0.schema.index(path)?;
            let entry = &self.0.schema.entries()[index];
            let json = serde_json::to_value(value).map_err(|error| UpdateError::Invalid {
                path: Arc::clone(&entry.path),
                reason: error.to_string(),
            })?;
            Ok((index, entry.read(&json)?))
        };
        check().inspect_err(event::refused)
    }

    async fn borrow(&self) -> Result<Checkout<DatabaseWorker>, UpdateError> {
        // There is nothing to do with a worker where no server takes it.
        self.run()?;
        Ok(self.0.pool.checkout().await?)
    }

    /// Returns the present run of the actor.
    fn run(&self) -> Result<Arc<Incarnation>, UpdateError> {
        let node = self.0.node.load_full();
        let run = node.and_then(|node| node.current());
        run.ok_or(UpdateError::ServerDown { reason: None })
    }

    /// Hands a checked value to the actor, and waits until it is stored and published.
    async fn submit(
        &self,
        db: Checkout<DatabaseWorker>,
        index: usize,
        value: Typed,
        user: &str,
    ) -> Result<ConfigChange, UpdateError> {
        let began = Instant::now();
        let waiting = self.ask(db, index, value, user);
        let result = match tokio::time::timeout(self.0.timeout, waiting).await {
            Ok(result) => result,
            Err(_) => Err(UpdateError::TimedOut {
                waited: began.elapsed(),
            }),
        };
        event::updated(&result, began.elapsed());
        result
    }

    async fn ask(
        &self,
        db: Checkout<DatabaseWorker>,
        index: usize,
        value: Typed,
        user: &str,
    ) -> Result<ConfigChange, UpdateError> {
        // A server that is down is not waited for: it needs a worker to start, and this caller holds one.
        let current = self.run()?;
        let (reply, mut answer) = oneshot::channel();
        let update = Box::new(Update {
            index,
            value,
            user: user.into(),
            db,
            reply: reply.into(),
        });
        if current.post(ConfigMsg::Update(update)).is_err() {
            return Err(UpdateError::ServerDown { reason: None });
        }
        match current.answer(&mut answer).await {
            Some(result) => result,
            // The actor answers every message that it handles, so it has ended or is about to.
            None => Err(UpdateError::ServerDown {
                reason: Some(current.ended().await),
            }),
        }
    }

    fn wrong_type<T>(&self, index: usize) -> GetError {
        let entry = &self.0.schema.entries()[index];
        GetError::WrongType {
            path: Arc::clone(&entry.path),
            declared: entry.type_name,
            asked: std::any::type_name::<T>(),
        }
    }
}

impl fmt::Debug for ConfigServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigServer")
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ConfigServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigServerBuilder")
            .field("schema", &self.schema)
            .field("timeout", &self.timeout)
            .field("start_timeout", &self.start_timeout)
            .finish_non_exhaustive()
    }
}
