//! The `perennial` binary.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use perennial_cli::args::{Args, Command, ConfigCommand};
use perennial_cli::say::complain;
use perennial_cli::{analyze, check, run};
use tracing_subscriber::EnvFilter;

/// The environment variable that says what is logged.
const LOG: &str = "PERENNIAL_LOG";

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(help_or_error) => {
            // Who closed the other end does not read it.
            help_or_error.print().unwrap_or_default();
            // clap's own 2 is what `analyze` says of files that failed.
            return ExitCode::from(u8::from(help_or_error.use_stderr()));
        }
    };
    let default = match args.command {
        Command::Run(_) => "info",
        // The table and the progress bar say what there is to say.
        _ => "off",
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter(default))
        .with_writer(std::io::stderr)
        .with_ansi(colours())
        // They would be told on the very stderr that cannot be written to, with a panic.
        .log_internal_errors(false)
        .init();
    perennial::install_panic_hook();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format_args!("perennial: cannot start the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = match args.command {
        Command::Analyze(args) => runtime.block_on(analyze::main(args)),
        Command::Run(args) => runtime.block_on(run::main(args)),
        Command::Config(args) => match args.command {
            ConfigCommand::Check(args) => check::main(&args),
        },
    };
    // A handler that never yields must not keep the process alive.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    code
}

/// Says what is logged: what the environment says, if that is understood.
fn filter(default: &str) -> EnvFilter {
    EnvFilter::try_from_env(LOG).unwrap_or_else(|error| {
        if std::env::var_os(LOG).is_some() {
            complain(format_args!(
                "perennial: {LOG} is not understood, and `{default}` is logged: {error}"
            ));
        }
        EnvFilter::new(default)
    })
}

/// Says whether the log may use colours: on a terminal, unless <https://no-color.org> says otherwise.
fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty())
}
