//! Each message that was sent has ended once, as its sender, its handler and the dead letters have seen it, and the books
//! say the same.
//!
//! Small trees of both kinds of actors do random things. `PROPTEST_CASES=100000` tries more of them than a build does.
#![allow(clippy::unwrap_used, reason = "this is a test, its helpers included")]

mod actors;
mod audit;
mod log;
mod script;
mod stage;

use proptest::prelude::*;

use crate::script::{Plan, plan};

/// How many cases are tried when nobody asks for another number.
const CASES: u32 = 10_000;

fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.map_or(CASES, |it| it.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_message_ends_once(plan in plan()) {
        play(plan);
    }
}

/// Plays one plan from its start to its books.
fn play(plan: Plan) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(stage::play(plan));
}
