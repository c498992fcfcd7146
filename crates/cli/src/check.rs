//! `perennial config check`.

use std::io::Write as _;
use std::process::ExitCode;

use perennial::Settings;

use crate::args::CheckArgs;
use crate::run::HostSettings;
use crate::say::complain;

/// Checks a file, prints what is wrong with it, and returns the exit code.
pub fn main(args: &CheckArgs) -> ExitCode {
    match Settings::<HostSettings>::load(&args.file) {
        Ok(_) => {
            // Who does not read it goes by the exit code.
            writeln!(std::io::stdout(), "{}: good", args.file.display()).unwrap_or_default();
            ExitCode::SUCCESS
        }
        Err(errors) => {
            complain(errors);
            ExitCode::FAILURE
        }
    }
}
