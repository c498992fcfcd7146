use proptest::prelude::*;

use super::*;
use crate::Trip;
use crate::counters::Totals;
use crate::model::{Subject, check, configs, ops};
use crate::tally::Met;

struct Bare {
    machine: Machine,
    now: Nanos,
    met: u64,
}

/// The result of a call of the first generation that took no time.
fn settle(verdict: Verdict) -> Input {
    Input::Settle(0, verdict, Timing::Took(0))
}

impl Bare {
    fn step(&mut self, input: Input) -> Answer {
        let now = self.now;
        let step = self.machine.step(input, &|| now);
        let met = step
            .moves
            .iter()
            .filter(|it| it.from == it.to && matches!(it.cause, Cause::TripCondition(_)));
        self.met += met.count() as u64;
        step.answer
    }
}

impl Subject for Bare {
    type Call = (Generation, Nanos);

    fn acquire(&mut self) -> Result<Self::Call, (BreakerState, Option<Duration>)> {
        match self.step(Input::Acquire) {
            Answer::Refused {
                state, retry_after, ..
            } => Err((state, retry_after)),
            answer => {
                assert_eq!(answer, Answer::Admitted);
                Ok((self.machine.generation(), self.now))
            }
        }
    }

    fn settle(&mut self, (generation, started): Self::Call, verdict: Verdict) {
        self.step(Input::Settle(generation, verdict, Timing::Since(started)));
    }

    fn report(&mut self, verdict: Verdict) {
        self.step(Input::Report(verdict));
    }

    fn configure(&mut self, config: BreakerConfig) {
        self.step(Input::Configure(Box::new(config), Some(0)));
    }

    async fn advance(&mut self, by: Duration) {
        self.now += nanos(by);
    }

    fn command(&mut self, command: Command) -> BreakerState {
        self.step(Input::Command(command));
        self.machine.state()
    }

    fn state(&mut self) -> BreakerState {
        self.step(Input::Tick);
        self.machine.state()
    }

    fn transitions(&mut self) -> u64 {
        self.machine.transitions()
    }

    fn met(&mut self) -> u64 {
        self.met
    }

    fn totals(&mut self) -> Option<Totals> {
        None
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn machine_agrees_with_the_model(config in configs(), ops in ops()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bare = Bare { machine: Machine::new(config.clone(), 0), now: 0, met: 0 };
        runtime.block_on(check(bare, config, ops))?;
    }
}

fn machine(trip: Trip) -> Machine {
    Machine::new(BreakerConfig::builder().trip(trip).build().unwrap(), 0)
}

#[test]
fn opens_at_exactly_the_threshold() {
    let mut machine = machine(Trip::Consecutive(3));
    for expected in [
        BreakerState::Closed,
        BreakerState::Closed,
        BreakerState::Open,
    ] {
        machine.step(settle(Verdict::Failure), &|| 0);
        assert_eq!(machine.state(), expected);
    }
}

#[test]
fn a_share_that_binary_fractions_miss_opens_exactly_there() {
    // 0.55 * 100.0 is a little more than 55.
    let mut machine = machine(Trip::FailureRate {
        ratio: 0.55,
        window: crate::Window::Calls(100),
        min_calls: 100,
    });
    for _ in 0..45 {
        machine.step(settle(Verdict::Success), &|| 0);
    }
    for _ in 0..54 {
        machine.step(settle(Verdict::Failure), &|| 0);
    }
    assert_eq!(machine.state(), BreakerState::Closed);
    machine.step(settle(Verdict::Failure), &|| 0);
    assert_eq!(machine.state(), BreakerState::Open);
}

#[test]
fn a_move_names_its_states_its_cause_and_the_open_time() {
    let mut machine = machine(Trip::Consecutive(1));
    let open_for = Duration::from_secs(30);
    let opened = machine.step(settle(Verdict::Failure), &|| 0).moves;
    let cause = Cause::TripCondition(Met::Failures);
    let expected = Move {
        from: BreakerState::Closed,
        to: BreakerState::Open,
        cause,
        open_for: Some(open_for),
    };
    assert_eq!(opened, [expected]);

    // The trip comes upon an open time that is over: both moves are told.
    let both = machine
        .step(Input::Command(Command::Trip), &|| 30_000_000_000)
        .moves;
    let states: Vec<_> = both
        .iter()
        .map(|moved| (moved.from, moved.to, moved.cause))
        .collect();
    assert_eq!(
        states,
        [
            (
                BreakerState::Open,
                BreakerState::HalfOpen,
                Cause::OpenTimeOver
            ),
            (BreakerState::HalfOpen, BreakerState::Open, Cause::Command),
        ]
    );
}
