//! A breaker that is set up like one of Erlang's fuses does what the fuse did, step by step.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Test runners ask for the list of tests first.
    if std::env::args().any(|argument| argument == "--list") {
        println!("replay: test");
        return ExitCode::SUCCESS;
    }
    match perennial_tests::fuse::replay_all() {
        Ok(outcome) => {
            println!("{outcome}");
            if outcome.is_success() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("fuse: {error}");
            ExitCode::FAILURE
        }
    }
}
