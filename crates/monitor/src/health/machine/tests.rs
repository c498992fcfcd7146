use proptest::prelude::*;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(1);

fn of(statuses: &[Status]) -> Ended<CheckReport> {
    let check = |(i, status): (usize, &Status)| match status {
        Status::Healthy => Check::healthy(format!("c{i}")),
        Status::Degraded => Check::degraded(format!("c{i}"), "slow"),
        Status::Unhealthy => Check::unhealthy(format!("c{i}"), "gone"),
    };
    Ended::Done(statuses.iter().enumerate().map(check).collect())
}

fn system_of(statuses: &[Status]) -> SystemHealth {
    let one = |status: &Status| service("s".to_owned(), of(&[*status]), TIMEOUT);
    system(statuses.iter().map(one).collect(), Duration::ZERO)
}

use Status::{Degraded, Healthy, Unhealthy};

#[test]
fn the_worst_check_wins_and_the_score_is_the_mean() {
    let health = service(
        "s".to_owned(),
        of(&[Healthy, Degraded, Unhealthy, Healthy]),
        TIMEOUT,
    );
    assert_eq!(health.status, Unhealthy);
    assert_eq!(health.score, 0.625);
    assert_eq!(health.causes, ["c2: gone", "c1: slow"]);
}

#[test]
fn a_check_that_looks_at_nothing_scores_zero() {
    let health = service("s".to_owned(), of(&[]), TIMEOUT);
    assert_eq!((health.status, health.score), (Unhealthy, 0.0));
    assert_eq!(health.causes, ["check: the check looked at nothing"]);
}

#[test]
fn a_system_without_services_is_healthy() {
    let health = system(Vec::new(), Duration::ZERO);
    assert_eq!((health.status, health.score), (Healthy, 1.0));
    assert_eq!(quick([]).status, Healthy);
}

#[test]
fn a_system_is_scored_by_its_services() {
    for (services, status, score) in [
        (&[Healthy, Healthy][..], Healthy, 1.0),
        // 0.9 is above 0.8, but not all are healthy.
        (
            &[Healthy, Healthy, Healthy, Healthy, Degraded],
            Degraded,
            0.9,
        ),
        (&[Healthy, Unhealthy], Degraded, 0.5),
        (&[Healthy, Unhealthy, Unhealthy], Unhealthy, 1.0 / 3.0),
        // 0.5, but none is healthy.
        (&[Degraded, Degraded], Unhealthy, 0.5),
        (&[Unhealthy], Unhealthy, 0.0),
    ] {
        let health = system_of(services);
        assert_eq!(
            (health.status, health.score),
            (status, score),
            "{services:?}"
        );
    }
}

#[test]
fn quick_health_asks_only_who_is_there() {
    let named = |up: &[bool]| {
        let mut i = 0;
        quick(up.iter().map(|up| {
            i += 1;
            (format!("s{i}"), *up)
        }))
    };
    assert_eq!(named(&[true, true]).status, Healthy);
    let some = named(&[true, false]);
    assert_eq!((some.status, some.alive), (Degraded, 1));
    assert_eq!(some.down, ["s2"]);
    assert_eq!(named(&[false, false]).status, Unhealthy);
}

#[test]
fn overall_health_puts_unhealthy_before_critical_before_degraded() {
    for (services, memory, expected) in [
        (Unhealthy, Pressure::Critical, Overall::Unhealthy),
        (Degraded, Pressure::Critical, Overall::Critical),
        (Healthy, Pressure::Critical, Overall::Critical),
        (Degraded, Pressure::Low, Overall::Degraded),
        (Healthy, Pressure::High, Overall::Degraded),
        (Healthy, Pressure::Medium, Overall::Healthy),
        (Healthy, Pressure::Low, Overall::Healthy),
    ] {
        assert_eq!(Overall::of(services, memory), expected);
    }
}

proptest! {
    #[test]
    fn a_worse_service_never_makes_a_better_system(
        statuses in proptest::collection::vec(0usize..3, 1..12),
        which in any::<prop::sample::Index>(),
    ) {
        let statuses: Vec<_> = statuses.into_iter().map(|i| Status::ALL[i]).collect();
        let mut worse = statuses.clone();
        let index = which.index(worse.len());
        worse[index] = Unhealthy;
        let (before, after) = (system_of(&statuses), system_of(&worse));
        prop_assert!(after.score <= before.score);
        prop_assert!(after.status >= before.status);
    }
}
