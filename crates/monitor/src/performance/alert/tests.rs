use proptest::prelude::*;

use super::*;
use crate::performance::{AlertRuleBuilder, Comparison, LatencyStats, ServiceMatch, WindowStats};

const NOW: Duration = Duration::from_secs(3);

fn service() -> Arc<str> {
    Arc::from("database")
}

fn book(rule: &AlertRule) -> AlertBook {
    AlertBook::new(vec![rule.clone()])
}

fn stats(count: u64, p95_us: f64) -> WindowStats {
    WindowStats {
        window: Window::Minute,
        count,
        errors: count / 2,
        error_rate: Some(0.5),
        throughput: 2.5,
        latency: Some(LatencyStats {
            min_us: 1.0,
            avg_us: 2.0,
            max_us: 6.0,
            p50_us: 3.0,
            p95_us,
            p99_us: 5.0,
        }),
    }
}

fn rule(build: impl FnOnce(AlertRuleBuilder) -> AlertRuleBuilder) -> AlertRule {
    let rule = AlertRule::builder("slow", Metric::LatencyP95, Comparison::Above, 100.0);
    build(rule).build().unwrap()
}

#[test]
fn an_alert_is_raised_once_and_cleared_once() {
    let rule = rule(|rule| rule.hysteresis(0.2));
    let mut book = book(&rule);
    let mut judge = |value| match book.judge(&rule, &service(), value, NOW) {
        Some(AlertEvent::Raised(alert)) => format!("raised at {}", alert.value),
        Some(AlertEvent::Cleared(_)) => "cleared".to_owned(),
        None => String::new(),
    };
    assert_eq!(judge(Some(100.0)), "");
    assert_eq!(judge(Some(100.5)), "raised at 100.5");
    assert_eq!(judge(Some(900.0)), "");
    assert_eq!(judge(Some(99.0)), "", "within the hysteresis");
    assert_eq!(judge(Some(101.0)), "");
    assert_eq!(judge(Some(80.0)), "cleared");
    assert_eq!(judge(Some(80.0)), "");
    assert_eq!(judge(Some(101.0)), "raised at 101");
    assert_eq!(judge(None), "cleared", "nothing is left to judge");
    assert_eq!(judge(None), "");
}

#[test]
fn a_rule_below_its_threshold_clears_above_it() {
    let rule = AlertRule::low_throughput();
    assert!(rule.crossed(0.9) && !rule.crossed(1.0));
    assert!(rule.cleared(1.1) && !rule.cleared(1.05));
}

#[test]
fn a_rule_clears_at_the_highest_share_that_there_is() {
    let rule = AlertRule::builder("too_good", Metric::ErrorRate, Comparison::Below, 0.95);
    let rule = rule.build().unwrap();
    assert!(rule.crossed(0.9) && !rule.cleared(0.99));
    assert!(rule.cleared(1.0), "none can come back farther");
}

#[test]
fn a_rule_reads_its_own_metric_when_there_is_enough_to_read() {
    let latency = rule(|rule| rule);
    assert_eq!(latency.value(&stats(10, 7.0), false), Some(7.0));
    assert_eq!(latency.value(&stats(9, 7.0), true), None);
    let errors = AlertRule::high_error_rate();
    assert_eq!(errors.value(&stats(10, 7.0), false), Some(0.5));
    let throughput = AlertRule::low_throughput();
    assert_eq!(throughput.value(&stats(0, 7.0), true), Some(2.5));
    assert_eq!(throughput.value(&stats(10, 7.0), false), None);
}

#[test]
fn a_service_is_matched_by_its_whole_name() {
    let exact = ServiceMatch::Exact("svc".to_owned());
    assert!(exact.matches("svc"));
    assert!(!exact.matches("sv") && !exact.matches("svc2"));
    assert!(ServiceMatch::All.matches("anything"));
}

#[test]
fn changing_a_rule_clears_what_it_raised_and_keeps_the_others() {
    let (slow, kept) = (rule(|rule| rule), AlertRule::high_error_rate());
    let mut book = AlertBook::new(vec![slow.clone(), kept.clone()]);
    for rule in [&slow, &kept] {
        let raised = book.judge(rule, &service(), Some(1_000.0), NOW);
        assert!(matches!(raised, Some(AlertEvent::Raised(_))));
    }
    // Critical before warning.
    let listed: Vec<_> = book
        .list(|_| true)
        .into_iter()
        .map(|alert| alert.rule)
        .collect();
    assert_eq!(listed, ["high_error_rate", "slow"]);

    let slower = rule(|rule| rule.hysteresis(0.5));
    let cleared = book.set_rules(vec![slower, kept]);
    assert!(matches!(&cleared[..], [AlertEvent::Cleared(alert)] if alert.rule == "slow"));
    assert_eq!(book.list(|_| true).len(), 1);
    let stale = book.judge(&slow, &service(), Some(1_000.0), NOW);
    assert_eq!(stale, None, "the old rule is no longer in force");
    assert_eq!(book.forget("other"), []);
    assert_eq!(book.forget("database").len(), 1);
}

#[test]
fn a_rule_that_cannot_work_is_refused() {
    let build = |threshold, hysteresis| {
        AlertRule::builder("r", Metric::ErrorRate, Comparison::Above, threshold)
            .hysteresis(hysteresis)
            .build()
            .is_ok()
    };
    assert!(build(0.0, 0.0));
    assert!(!build(f64::NAN, 0.1) && !build(-1.0, 0.1));
    assert!(build(0.5, 0.1) && !build(1.0, 0.1), "no share is above 1");
    assert!(!build(0.5, 1.0) && !build(0.5, -0.1) && !build(0.5, f64::NAN));
    let unnamed = AlertRule::builder("", Metric::ErrorRate, Comparison::Above, 0.5);
    assert!(unnamed.build().is_err());
}

proptest! {
    #[test]
    fn raised_and_cleared_take_turns(
        values in proptest::collection::vec(proptest::option::of(0.0f64..200.0), 0..40),
    ) {
        let rule = rule(|rule| rule);
        let mut book = book(&rule);
        let mut raised = false;
        for value in values {
            let event = book.judge(&rule, &service(), value, NOW);
            let expected = match (raised, value) {
                (false, Some(value)) => value > 100.0,
                (false, None) => false,
                (true, Some(value)) => value > 90.0,
                (true, None) => false,
            };
            prop_assert_eq!(event.is_some(), expected != raised);
            raised = expected;
            prop_assert_eq!(book.list(|_| true).len(), usize::from(raised));
        }
    }
}
