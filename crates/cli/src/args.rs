//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueHint};

/// The reference host of the Perennial supervision tree.
///
/// Starts the whole tree (registry, rate gate, breakers, worker pools, live configuration, monitors, debug
/// actor) and does real work on it.
#[derive(Debug, Parser)]
#[command(
    name = "perennial",
    version,
    after_help = "Examples:\n  perennial analyze .                     analyze this directory into perennial.db\n  perennial analyze src --json | jq .     the same as one JSON document\n  perennial analyze . --chaos 7 --tree    kill random actors meanwhile, then show the tree\n  perennial run --config perennial.toml   run the configured host actors until Ctrl-C\n  perennial config check perennial.toml   list everything that is wrong with a file\n\nEnvironment:\n  PERENNIAL_LOG   what to log on stderr, such as `info` or `perennial_supervisor=debug`"
)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Analyze source files: lines, definitions and complexity, stored in SQLite.
    Analyze(AnalyzeArgs),
    /// Run the tree and the configured host actors until SIGINT or SIGTERM.
    Run(RunArgs),
    /// Look at configuration files.
    Config(ConfigArgs),
}

/// Arguments of `perennial analyze`.
#[derive(Clone, Debug, Parser)]
#[command(
    after_help = "Examples:\n  perennial analyze .                        files below this directory, honouring .gitignore\n  perennial analyze lib test --db ex.db      two directories into a database of your choice\n  perennial analyze . --workers 2 --quiet    two analyzers, no progress bar\n  perennial analyze . --rate 200             at most 200 files a second\n  perennial analyze . --chaos 42             kill random actors meanwhile: the result is the same\n\nA second run analyzes only what changed and removes what is gone.\n\nExit codes: 0 all analyzed, 2 some files failed, 1 could not run, 130 stopped by Ctrl-C, 143 by SIGTERM, 129 by\nSIGHUP (as `run` takes it). What was analyzed is kept then; a second signal gives up what is in flight."
)]
pub struct AnalyzeArgs {
    /// Files and directories to analyze.
    #[arg(required = true, value_hint = ValueHint::AnyPath)]
    pub paths: Vec<PathBuf>,
    /// The SQLite database to write.
    #[arg(long, default_value = "perennial.db", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub db: PathBuf,
    /// How many files are parsed at the same time [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Files larger than this are reported as failed.
    #[arg(long, value_name = "BYTES", default_value_t = 4 * 1024 * 1024)]
    pub max_bytes: u64,
    /// How many files a second may be sent to the analysis actor [default: no limit].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// Settings of the tree, see `perennial config check --help`.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Print the result as one JSON document instead of tables.
    #[arg(long)]
    pub json: bool,
    /// Print the tree as the debug actor sees it at the end.
    #[arg(long)]
    pub tree: bool,
    /// Show no progress bar.
    #[arg(long, short)]
    pub quiet: bool,
    /// Kill a random actor of the tree a few times a second while it works.
    #[arg(long, value_name = "SEED")]
    pub chaos: Option<u64>,
}

/// Arguments of `perennial run`.
#[derive(Clone, Debug, Parser)]
#[command(
    after_help = "Examples:\n  perennial run                            the tree with its defaults\n  perennial run --config perennial.toml    with settings and host actors\n\nHost actors are configured in the file:\n  [host.actors.reporter]\n  kind = \"report\"        # logs a summary of the tree\n  every = \"10s\"\n\n  [host.actors.sources]\n  kind = \"analyze\"       # keeps the analysis of some paths up to date\n  paths = [\"src\"]\n  every = \"1m\"\n\nExit codes: 0 stopped in order, 1 could not run or gave up, 3 stopped, and something was cut off: messages that\nnobody handled, or actors that had to be killed. What it was is on stderr. A second signal does not wait for messages.\nOn Linux the end of its terminal or session (SIGHUP) is such a signal too, unless it was started by `nohup`."
)]
pub struct RunArgs {
    /// Settings of the tree and its host actors.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
}

/// Arguments of `perennial config`.
#[derive(Clone, Debug, Parser)]
#[command(
    after_help = "Examples:\n  perennial config check perennial.toml    list everything that is wrong with the file\n\nSee `perennial config check --help` for what a file looks like."
)]
pub struct ConfigArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What to do with a configuration file.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// List everything that is wrong with a file, with line, key and what was expected.
    Check(CheckArgs),
}

/// Arguments of `perennial config check`.
#[derive(Clone, Debug, Parser)]
#[command(
    after_help = "Examples:\n  perennial config check perennial.toml\n\nA small file:\n  [database]\n  path = \"app.db\"\n\n  [pools.database]\n  size = 10\n  max_overflow = 5\n\n  [breakers.analyzer]\n  open_time = \"10s\"\n\n  [quotas.analysis]\n  limit = 500\n  period = \"1s\"\n\nExit codes: 0 the file is good, 1 it is not."
)]
pub struct CheckArgs {
    /// The file.
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
}
