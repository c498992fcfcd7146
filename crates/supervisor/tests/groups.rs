//! Groups whose members wait for their restart: whatever happens, nobody else is down because of that.

#![allow(clippy::unwrap_used, reason = "this is a test, its helpers included")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use perennial_lifecycle::{
    Backoff, ChildKind, ChildSpec, ChildState, ExitReason, Node, Quarantine, StartError,
};
use perennial_supervisor::{RestartIntensity, Supervisor};
use perennial_testkit::{Order, Puppet};
use proptest::prelude::*;
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// What a child has beyond OTP; one that has nothing always starts.
#[derive(Clone, Copy, Debug)]
enum Care {
    Nothing,
    Backoff,
    Quarantine,
    Both,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// From now on it does not start.
    Break(usize),
    Mend(usize),
    Crash(usize),
    Terminate(usize),
    Restart(usize),
    Bounce(usize),
    Resume(usize),
    Wait(u32),
}

struct Member {
    node: Arc<Node>,
    broken: Arc<AtomicBool>,
    care: Care,
    /// Somebody took it down, and its group has not brought it back.
    is_taken_down: bool,
}

/// A member between two steps.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Look {
    run: Option<u64>,
    state: ChildState,
    due: Option<Instant>,
}

impl Member {
    fn look(&self) -> Look {
        Look {
            run: self.node.current().map(|run| run.number()),
            state: self.node.state(),
            due: self.node.due(),
        }
    }
}

fn member(id: &str, care: Care) -> (ChildSpec, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&broken);
    let spec = ChildSpec::from_fn(id, ChildKind::Worker, move |context| {
        let broken = flag.load(SeqCst);
        async move {
            if broken {
                return Err(StartError::new(ExitReason::failed("broken")));
            }
            Ok(context.spawn(Puppet, ()).await?.into())
        }
    });
    let backoff = Backoff::linear(5 * SECOND).cap(15 * SECOND);
    let quarantine = Quarantine::new(Backoff::constant(12 * SECOND)).trial(4 * SECOND);
    let budget = RestartIntensity::new(2, 60 * SECOND);
    let spec = match care {
        Care::Nothing => spec,
        Care::Backoff => spec.backoff(backoff),
        Care::Quarantine => spec.budget(budget).quarantine(quarantine),
        Care::Both => spec.backoff(backoff).budget(budget).quarantine(quarantine),
    };
    (spec, broken)
}

async fn settled(supervisor: &Supervisor) {
    // Time passes only once nobody has anything to do.
    sleep(Duration::from_millis(1)).await;
    supervisor.count_children().await.unwrap();
}

async fn take(step: Step, supervisor: &Supervisor, members: &mut [Member]) {
    match step {
        Step::Break(at) => {
            let broken = !matches!(members[at].care, Care::Nothing);
            members[at].broken.store(broken, SeqCst);
        }
        Step::Mend(at) => members[at].broken.store(false, SeqCst),
        Step::Crash(at) => {
            if let Some(run) = members[at].node.current() {
                let worker = run.actor_ref().unwrap();
                assert!(worker.send_message(Order::Fail("broken")).is_ok());
            }
        }
        Step::Terminate(at) => {
            let id = members[at].node.path().id();
            supervisor.terminate_child(id).await.unwrap();
            members[at].is_taken_down = true;
        }
        // Whether it can be done does not matter here.
        Step::Restart(at) => {
            drop(supervisor.restart_child(members[at].node.path().id()).await);
        }
        Step::Bounce(at) => {
            members[at].is_taken_down = true;
            drop(supervisor.bounce_child(members[at].node.path().id()).await);
        }
        Step::Resume(at) => {
            drop(supervisor.resume_child(members[at].node.path().id()).await);
        }
        Step::Wait(seconds) => sleep(seconds * SECOND).await,
    }
    settled(supervisor).await;
}

async fn play(strategy: perennial_supervisor::Strategy, cares: Vec<Care>, steps: Vec<Step>) {
    let mut builder = Supervisor::builder()
        .strategy(strategy)
        .intensity(RestartIntensity::new(1_000_000, SECOND));
    let mut flags = Vec::new();
    for (at, care) in cares.into_iter().enumerate() {
        let (spec, broken) = member(&at.to_string(), care);
        builder = builder.child(spec);
        flags.push((care, broken));
    }
    let supervisor = builder.build().unwrap().start("t").await.unwrap();
    let member = |(at, (care, broken)): (usize, (Care, Arc<AtomicBool>))| Member {
        node: supervisor.node().child(&at.to_string()).unwrap(),
        broken,
        care,
        is_taken_down: false,
    };
    let mut members: Vec<Member> = flags.into_iter().enumerate().map(member).collect();
    let count = members.len();
    for step in steps {
        let step = match step {
            Step::Break(at) => Step::Break(at % count),
            Step::Mend(at) => Step::Mend(at % count),
            Step::Crash(at) => Step::Crash(at % count),
            Step::Terminate(at) => Step::Terminate(at % count),
            Step::Restart(at) => Step::Restart(at % count),
            Step::Bounce(at) => Step::Bounce(at % count),
            Step::Resume(at) => Step::Resume(at % count),
            Step::Wait(seconds) => Step::Wait(seconds),
        };
        let before: Vec<Look> = members.iter().map(Member::look).collect();
        take(step, &supervisor, &mut members).await;
        let is_delayed = |look: &Look| look.state == ChildState::Restarting;
        let is_parked = |look: &Look| look.state == ChildState::Quarantined;
        let any_delayed = before.iter().any(is_delayed);
        for (at, (member, before)) in members.iter_mut().zip(before).enumerate() {
            let now = member.look();
            let what = format!("{at} at {step:?}: {before:?}, then {now:?}");
            match now.state {
                ChildState::Running => member.is_taken_down = false,
                ChildState::Restarting | ChildState::Quarantined => {
                    assert!(now.due.is_some(), "{what}");
                }
                _ => assert!(member.is_taken_down, "{what}"),
            }
            let own = match step {
                Step::Terminate(it) | Step::Bounce(it) | Step::Resume(it) => it == at,
                Step::Wait(_) => true,
                _ => false,
            };
            if is_parked(&before) && !own {
                assert_eq!(now, before, "left alone by its group, {what}");
            }
            let begins = matches!(step, Step::Wait(_) | Step::Resume(_));
            if begins && !any_delayed && !is_parked(&before) {
                assert_eq!(now, before, "no affair of a probe, {what}");
            }
        }
    }
}

fn a_strategy() -> impl Strategy<Value = perennial_supervisor::Strategy> {
    prop_oneof![
        Just(perennial_supervisor::Strategy::OneForOne),
        Just(perennial_supervisor::Strategy::OneForAll),
        Just(perennial_supervisor::Strategy::RestForOne),
    ]
}

fn a_care() -> impl Strategy<Value = Care> {
    prop_oneof![
        Just(Care::Nothing),
        Just(Care::Backoff),
        Just(Care::Quarantine),
        Just(Care::Both),
    ]
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4_usize).prop_map(Step::Break),
        2 => (0..4_usize).prop_map(Step::Mend),
        6 => (0..4_usize).prop_map(Step::Crash),
        1 => (0..4_usize).prop_map(Step::Terminate),
        1 => (0..4_usize).prop_map(Step::Restart),
        1 => (0..4_usize).prop_map(Step::Bounce),
        1 => (0..4_usize).prop_map(Step::Resume),
        4 => (1..20_u32).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Between two steps each child runs, waits for its restart, or was taken down; who is parked is left alone, and
    /// leaves the others alone.
    #[test]
    fn nobody_is_down_but_who_waits_or_was_taken_down(
        strategy in a_strategy(),
        cares in proptest::collection::vec(a_care(), 1..5),
        steps in proptest::collection::vec(a_step(), 1..40),
    ) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(play(strategy, cares, steps));
    }
}
