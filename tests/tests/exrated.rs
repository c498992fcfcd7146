//! The fixed windows of the rate gate count as those of ExRated did, step by step.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Test runners ask for the list of tests first.
    if std::env::args().any(|argument| argument == "--list") {
        println!("replay: test");
        return ExitCode::SUCCESS;
    }
    match perennial_tests::exrated::replay_all() {
        Ok(outcome) => {
            println!("{outcome}");
            if outcome.is_success() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("exrated: {error}");
            ExitCode::FAILURE
        }
    }
}
