//! The settings of a whole tree, from one TOML file.

mod error;
mod locate;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use perennial_breaker::BreakerConfig;
use perennial_monitor::{HealthConfig, MemoryConfig, PerformanceConfig};
use perennial_pool::PoolConfig;
use perennial_rate_limit::{Quota, RateGateConfig};
use perennial_supervisor::{RestartIntensity, Strategy};
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use error::{SettingsError, SettingsErrors};

/// In bytes: more than anybody writes, and little enough to be held.
const LARGEST: u64 = 1 << 20;

/// The settings of a tree. `H` is the host's own section, `[host]`.
///
/// Everything has a default, so an empty file is a good one. A key that is not known is an error. Where there is no section
/// `[host]`, it is `H::default()`.
///
/// ```
/// use perennial::Settings;
///
/// let settings: Settings = Settings::parse("perennial.toml", r#"
///     [database]
///     path = "app.db"
///
///     [pools.database]
///     size = 10
///     max_overflow = 5
///
///     [breakers.geocoder]
///     open_time = "10s"
///
///     [quotas.billing]          # before every cast and call to the actor `billing`
///     limit = 100
///     period = "1s"
/// "#)?;
/// assert_eq!(settings.pools["database"].size(), 10);
///
/// let errors = Settings::<perennial::NoHost>::parse("perennial.toml", "[pools.db]\nsize = \"ten\"\nsise = 3\n").unwrap_err();
/// let places: Vec<_> = errors.iter().map(|error| (error.line(), error.key())).collect();
/// assert_eq!(places, [(2, "pools.db.size"), (3, "pools.db.sise")]);
/// # Ok::<(), perennial::SettingsErrors>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, bound = "H: DeserializeOwned + Default")]
#[non_exhaustive]
pub struct Settings<H = NoHost> {
    /// The database behind the pool `database`.
    pub database: DatabaseSettings,
    /// How often the tree's own supervisors restart something before they give up.
    pub supervision: SupervisionSettings,
    /// Sizes of pools by name.
    pub pools: BTreeMap<String, PoolConfig>,
    /// Breakers by service.
    pub breakers: BTreeMap<String, BreakerConfig>,
    /// Quotas before the host's actors, by name.
    pub quotas: BTreeMap<String, Quota>,
    /// The store of all quotas.
    pub rate_gate: RateGateConfig,
    /// The live configuration.
    pub config: ConfigSettings,
    /// The memory manager.
    pub memory: MemoryConfig,
    /// The performance monitor.
    pub performance: PerformanceConfig,
    /// The health aggregator.
    pub health: HealthConfig,
    /// The host's own settings.
    pub host: H,
}

/// A host without settings of its own: a `[host]` section is refused.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoHost {}

/// Where the pool `database` stores its data.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DatabaseSettings {
    /// The SQLite file. Default: in memory, gone with the process.
    pub path: Option<PathBuf>,
}

/// Restart intensity of the tree's own supervisors, and the strategy of the host's.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SupervisionSettings {
    /// Restarts that are too many. Default: 10.
    pub max_restarts: u32,
    /// Within this time. Default: 10 s.
    #[serde(with = "humantime_serde")]
    pub within: Duration,
    /// Strategy among the host's own actors. Default: one for one.
    pub host_strategy: Strategy,
    /// How long `Tree::shutdown` waits before it kills what is left. Default: 30 s.
    #[serde(with = "humantime_serde")]
    pub shutdown_deadline: Duration,
    /// How long `Tree::shutdown` waits before that until what was sent is handled; zero does not wait. Default: what the
    /// host says, else 5 s.
    #[serde(with = "humantime_serde")]
    pub drain_deadline: Option<Duration>,
}

impl Default for SupervisionSettings {
    fn default() -> Self {
        Self {
            max_restarts: 10,
            within: Duration::from_secs(10),
            host_strategy: Strategy::OneForOne,
            shutdown_deadline: Duration::from_secs(30),
            drain_deadline: None,
        }
    }
}

impl SupervisionSettings {
    pub(crate) fn intensity(&self) -> RestartIntensity {
        RestartIntensity::new(self.max_restarts, self.within)
    }
}

/// The limits of `update_protected`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ConfigSettings {
    /// How many updates each user may make. Default: 100 a minute.
    pub update_quota: Quota,
    /// How long one update may take. Default: 5 s.
    #[serde(with = "humantime_serde")]
    pub update_deadline: Duration,
}

impl Default for ConfigSettings {
    fn default() -> Self {
        Self {
            update_quota: Quota::per_minute(100),
            update_deadline: Duration::from_secs(5),
        }
    }
}

impl<H: Default> Default for Settings<H> {
    fn default() -> Self {
        Self {
            database: DatabaseSettings::default(),
            supervision: SupervisionSettings::default(),
            pools: BTreeMap::new(),
            breakers: BTreeMap::new(),
            quotas: BTreeMap::new(),
            rate_gate: RateGateConfig::default(),
            config: ConfigSettings::default(),
            memory: MemoryConfig::default(),
            performance: PerformanceConfig::default(),
            health: HealthConfig::default(),
            host: H::default(),
        }
    }
}

impl<H: DeserializeOwned + Default> Settings<H> {
    /// Reads a file of at most 1 MiB.
    ///
    /// # Errors
    ///
    /// [`SettingsErrors`] lists everything that is wrong with the file, up to a hundred things, each with line and key.
    pub fn load(file: impl AsRef<Path>) -> Result<Self, SettingsErrors> {
        let file = file.as_ref();
        let text = read(file).map_err(|error| SettingsErrors::unreadable(file, &error))?;
        Self::parse(file, &text)
    }

    /// Reads a text; `file` is what the errors name.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn parse(file: impl AsRef<Path>, text: &str) -> Result<Self, SettingsErrors> {
        locate::parse(file.as_ref(), text)
    }
}

/// Reads a text, which may be one that never ends.
fn read(file: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut start = File::open(file)?.take(LARGEST + 1);
    if start.read_to_end(&mut bytes)? as u64 > LARGEST {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(io::Error::other)
}

impl<H> Settings<H> {
    /// Lists what the types leave open: the keys on the way to it, and what is wrong.
    fn problems(&self) -> Vec<(Vec<String>, String)> {
        let mut problems = Vec::new();
        let mut note = |path: &[&str], message: &str| {
            let path = path.iter().map(|&key| key.to_owned()).collect();
            problems.push((path, message.to_owned()));
        };
        for (name, pool) in &self.pools {
            if let Err(error) = pool.validate(name) {
                note(&["pools", name, &error.field.to_string()], error.expected);
            }
        }
        if let Some(pool) = self.pools.get(crate::DATABASE.as_str())
            && pool.size() == 0
            && pool.overflow() == 0
        {
            note(
                &["pools", "database", "size"],
                "must not be zero, or max_overflow neither: the live settings are stored through this pool",
            );
        }
        // To SQLite both mean a database of its own for each worker, which is gone with the worker.
        if let Some(path) = self.database.path.as_deref()
            && ["", ":memory:"].map(Path::new).contains(&path)
        {
            note(
                &["database", "path"],
                "must name a file; without it the database is in memory",
            );
        }
        for name in self.breakers.keys() {
            if name.is_empty() || name.contains('/') {
                note(
                    &["breakers", name],
                    "its name must not be empty or contain `/`",
                );
            }
        }
        for (section, key, time) in [
            ("supervision", "within", self.supervision.within),
            ("config", "update_deadline", self.config.update_deadline),
        ] {
            if time.is_zero() {
                note(&[section, key], "must be longer than zero");
            }
        }
        if let Err(error) = self.rate_gate.validate() {
            note(&["rate_gate", "sweep_interval"], &error.to_string());
        }
        problems
    }

    /// Takes the host's section out.
    pub fn split(self) -> (Settings<()>, H) {
        let Self {
            database,
            supervision,
            pools,
            breakers,
            quotas,
            rate_gate,
            config,
            memory,
            performance,
            health,
            host,
        } = self;
        let rest = Settings {
            database,
            supervision,
            pools,
            breakers,
            quotas,
            rate_gate,
            config,
            memory,
            performance,
            health,
            host: (),
        };
        (rest, host)
    }
}

impl fmt::Display for DatabaseSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}", path.display()),
            None => f.write_str("memory"),
        }
    }
}
