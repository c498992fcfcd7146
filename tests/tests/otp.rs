//! The supervisor does what the one of Erlang/OTP did, step by step.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Test runners ask for the list of tests first.
    if std::env::args().any(|argument| argument == "--list") {
        println!("replay: test");
        return ExitCode::SUCCESS;
    }
    // Thousands of actors panic on purpose; their messages are compared, not printed.
    perennial_lifecycle::install_panic_hook();
    match perennial_tests::otp::replay_all() {
        Ok(outcome) => {
            println!("{outcome}");
            if outcome.is_success() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("otp: {error}");
            ExitCode::FAILURE
        }
    }
}
