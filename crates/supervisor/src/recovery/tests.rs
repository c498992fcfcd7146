use super::*;
use perennial_lifecycle::{Backoff, ChildKind, Quarantine, RestartIntensity, Started};
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

fn spec() -> ChildSpec {
    ChildSpec::from_fn("w", ChildKind::Worker, |_| async { Ok(Started::Ignored) })
}

fn recovery(spec: &ChildSpec) -> Option<Box<Recovery>> {
    Recovery::of(spec, &ActorPath::root("t"))
}

/// All that a child's rules say, over the plain list of what was decided before.
#[derive(Clone, Copy, Debug)]
struct Rules {
    supervisor: (u32, u64),
    budget: Option<(u32, u64)>,
    backoff: Option<(u64, u64)>,
    quarantine: Option<(u64, u64)>,
}

#[derive(Default)]
struct Model {
    /// When restarts were counted by the supervisor, and when by the budget.
    counted: [Vec<u64>; 2],
    delays: u64,
    parked: u64,
    on_trial: bool,
}

impl Model {
    fn decide(&mut self, rules: Rules, now: u64, ran: u64) -> Verdict {
        let [by_supervisor, by_budget] = &mut self.counted;
        let is_up = ran > 0;
        if is_up && rules.backoff.is_some_and(|(_, reset)| ran >= reset) {
            self.delays = 0;
        }
        let freed = |(_, trial)| is_up && ran >= trial;
        if self.on_trial && rules.quarantine.is_some_and(freed) {
            self.on_trial = false;
            self.parked = 0;
        }
        let mut exceeded = false;
        if !self.on_trial {
            let within =
                |list: &[u64], period| list.iter().filter(|at| now - **at <= period).count();
            match rules.budget {
                Some((max, period)) if within(by_budget, period) >= max as usize => {
                    exceeded = true;
                }
                _ => {
                    by_budget.push(now);
                    let (max, period) = rules.supervisor;
                    exceeded = within(by_supervisor, period) >= max as usize;
                    if !exceeded {
                        by_supervisor.push(now);
                    }
                }
            }
        }
        match rules.quarantine {
            Some((time, _)) if exceeded || self.on_trial => {
                self.parked += 1;
                self.on_trial = true;
                if exceeded {
                    by_budget.clear();
                }
                let attempt = u32::try_from(self.parked).unwrap();
                let delay = MS * u32::try_from(time * self.parked).unwrap();
                Verdict::Park { delay, attempt }
            }
            _ if exceeded => Verdict::GiveUp,
            _ => match rules.backoff {
                None => Verdict::Restart,
                Some((first, _)) => {
                    self.delays += 1;
                    let attempt = u32::try_from(self.delays).unwrap();
                    let delay = MS * u32::try_from(first * self.delays).unwrap();
                    Verdict::Delay { delay, attempt }
                }
            },
        }
    }
}

fn rules() -> impl Strategy<Value = Rules> {
    let window = || (0_u32..5, 1_u64..500);
    let time = || prop_oneof![1 => Just(0), 4 => 1_u64..200];
    (
        window(),
        proptest::option::of(window()),
        proptest::option::of((1_u64..900, time())),
        proptest::option::of((1_u64..900, time())),
    )
        .prop_map(|(supervisor, budget, backoff, quarantine)| Rules {
            supervisor,
            budget,
            backoff,
            quarantine,
        })
}

/// How long a child has run; zero for a start that failed.
fn ran() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0), 4 => 0_u64..300]
}

proptest! {
    /// Every decision is that of the rules read over the list of all decisions before.
    #[test]
    fn decisions_agree_with_the_list_of_all_before(
        rules in rules(),
        ends in proptest::collection::vec((0_u64..300, ran()), 1..40),
    ) {
        let linear = |first: u64| Backoff::linear(Duration::from_millis(first));
        let ms = Duration::from_millis;
        let mut spec = spec();
        if let Some((max, period)) = rules.budget {
            spec = spec.budget(RestartIntensity::new(max, ms(period)));
        }
        if let Some((first, reset)) = rules.backoff {
            spec = spec.backoff(linear(first).reset_after(ms(reset)));
        }
        if let Some((time, trial)) = rules.quarantine {
            spec = spec.quarantine(Quarantine::new(linear(time)).trial(ms(trial)));
        }
        let mut recovery = recovery(&spec);
        let (max, period) = rules.supervisor;
        let mut window = RestartWindow::new(RestartIntensity::new(max, ms(period)));
        let mut model = Model::default();
        let mut now = 0;
        for (pause, ran) in ends {
            now += pause;
            let expected = model.decide(rules, now, ran);
            let verdict = decide(recovery.as_deref_mut(), &mut window, Moment::default().after(ms(now)), ms(ran));
            prop_assert_eq!(verdict, expected);
            if verdict == Verdict::GiveUp {
                // The supervisor has ended.
                break;
            }
        }
    }
}

#[test]
fn a_child_that_asks_for_nothing_beyond_otp_carries_nothing() {
    assert!(recovery(&spec()).is_none());
    let watched = spec().watchdog(perennial_lifecycle::Watchdog::report(MS));
    assert!(recovery(&watched).is_none());
}
