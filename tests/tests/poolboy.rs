//! The pool does what poolboy did, step by step.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Test runners ask for the list of tests first.
    if std::env::args().any(|argument| argument == "--list") {
        println!("replay: test");
        return ExitCode::SUCCESS;
    }
    // Transactions and workers panic on purpose; what comes of it is compared, not printed.
    std::panic::set_hook(Box::new(|_| {}));
    match perennial_tests::poolboy::replay_all() {
        Ok(outcome) => {
            println!("{outcome}");
            if outcome.is_success() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("poolboy: {error}");
            ExitCode::FAILURE
        }
    }
}
