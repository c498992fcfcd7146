//! Supervisors do what a simple model of OTP's rules says, whatever is done to them.
//!
//! Scripts are made at random: a tree of supervisors and children, and steps that end children, call
//! supervisors, and let time go by. After each step the order of everything that happened, all answers, and
//! the state of the tree are compared with the model in `rules.rs`, `calls.rs` and `child.rs`. A script that fails is
//! printed in its shortest form. `PROPTEST_CASES` sets how many are tried.
//!
//! Several things in one step reach the supervisors before these do anything: each is kept busy meanwhile by a
//! start function that waits. So calls and ends meet a supervisor that is about to retry a restart.
//!
//! Left out: a supervisor that is killed, whose children end beside whatever comes next (SUP-8, DYN-11), and
//! starts beside the queue (DYN-14 and later); these have tests of their own.
#![allow(clippy::unwrap_used, reason = "this is a test, its helpers included")]

mod calls;
mod child;
mod expected;
mod observe;
mod print;
mod restarting;
mod rules;
mod run;
mod script;
mod seen;
mod stage;
mod steps;
mod world;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::script::Script;

/// How many scripts are tried unless `PROPTEST_CASES` says otherwise.
const CASES: u32 = 2000;

fn check(scripts: impl Strategy<Value = Script>) {
    let mut config = Config {
        // A failure is told by its script; files would have to be cleared away.
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    let mut runner = TestRunner::new(config);
    let test = |script: Script| run::run(&script).map_err(TestCaseError::fail);
    if let Err(error) = runner.run(&scripts, test) {
        panic!("{error}");
    }
}

#[test]
fn static_supervisors_follow_the_rules() {
    check(steps::flat());
}

#[test]
fn dynamic_supervisors_follow_the_rules() {
    check(steps::dynamic());
}

#[test]
fn nested_supervisors_follow_the_rules() {
    check(steps::nested());
}
