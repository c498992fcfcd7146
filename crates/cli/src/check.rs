//! `perennial config check`.

use perennial::Settings;

use crate::args::CheckArgs;
use crate::run::HostSettings;

/// Checks a file, prints what is wrong with it, and returns the exit code.
#[must_use]
pub fn main(args: &CheckArgs) -> u8 {
    match Settings::<HostSettings>::load(&args.file) {
        Ok(_) => {
            println!("{}: good", args.file.display());
            0
        }
        Err(errors) => {
            eprintln!("{errors}");
            1
        }
    }
}
