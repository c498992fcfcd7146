//! What supervision costs, beside others and beside what a user writes without a framework.
//!
//! ```sh
//! cargo bench -p perennial-tests --bench supervision --bench memory
//! cargo bench -p perennial-tests --bench supervision --features ractor-supervisor
//! cargo run --release -p perennial-tests --bin performance_page
//! ```
//!
//! Called like this, the contenders take turns, each pass in a process of its own, and the figures are kept for
//! `docs/performance.md`. The second command is the turn of `ractor-supervisor`, against the same yardsticks: it switches
//! on features of ractor for everybody in its build, which make each message dearer. With arguments for criterion (`-- restart`) it is criterion's turn instead, which
//! compares us with our own last run.
//!
//! `PERENNIAL_BENCH_QUICK=1` makes fewer and smaller rounds and keeps nothing. `PERENNIAL_BENCH_PASS=restart-error`
//! (or another name of `pass.rs`) makes only this pass, and prints its figures.

use std::env;
use std::io;
use std::process::{Command, ExitCode, Stdio};

use perennial_tests::figures::{self, Figure};

use crate::pass::{Hook, PASSES, Pass};

mod fleet;
mod hand_written;
#[cfg(not(feature = "ractor-supervisor"))]
mod kameo;
mod linked;
mod ours;
mod pass;
#[cfg(feature = "ractor-supervisor")]
mod ractor_supervisor;
mod regression;
mod worker;

/// Names the only pass to make.
const PASS: &str = "PERENNIAL_BENCH_PASS";
/// Asks for fewer and smaller rounds.
const QUICK: &str = "PERENNIAL_BENCH_QUICK";

fn main() -> ExitCode {
    let result = match env::var(PASS) {
        Ok(name) => make(&name),
        Err(_) if env::args().skip(1).all(|argument| argument == "--bench") => make_all(),
        Err(_) => {
            regression::run();
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn is_quick() -> bool {
    env::var_os(QUICK).is_some()
}

/// Makes one pass here, and prints its figures.
fn make(name: &str) -> io::Result<()> {
    let pass = PASSES.iter().find(|pass| pass.name == name);
    let pass = pass.ok_or_else(|| io::Error::other(format!("no pass is called `{name}`")))?;
    let figures = pass.run(is_quick());
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

/// Makes all passes, each in its own process: a panic hook stands for a whole process, and so does what the
/// allocator keeps.
fn make_all() -> io::Result<()> {
    let mut all = Vec::new();
    for pass in PASSES {
        eprintln!("{}", pass.name);
        let figures = make_apart(pass)?;
        for figure in &figures {
            eprintln!(
                "  {:32} {:>7} {:18} p50 {:>12} ns  p99 {:>12} ns  ({} samples)",
                figure.case,
                figure.children,
                figure.contender,
                figure.p50,
                figure.p99,
                figure.samples
            );
        }
        all.extend(figures);
    }
    if is_quick() {
        return Ok(());
    }
    figures::save(pass::FIGURES, &all)
}

fn make_apart(pass: &Pass) -> io::Result<Vec<Figure>> {
    let mut command = Command::new(env::current_exe()?);
    command.env(PASS, pass.name).env_remove("RUST_BACKTRACE");
    if pass.hook == Hook::Default {
        // It writes each panic there.
        command.stderr(Stdio::null());
    } else {
        command.stderr(Stdio::inherit());
    }
    let output = command.output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("pass `{}` failed", pass.name)));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
