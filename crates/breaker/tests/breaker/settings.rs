use std::time::Duration;

use perennial_breaker::{
    AfterOpen, Breaker, BreakerConfig, BreakerEvent, BreakerState, Breakers, OpenTime, Outcome,
    Trip,
};
use tokio::time::advance;

use crate::{SECOND, breaker, fail, succeed};

/// The first open times of a breaker with jitter, each after a close.
fn open_times(name: &str, share: f64, seed: Option<u64>) -> Vec<Duration> {
    let mut config = BreakerConfig::builder()
        .trip(Trip::Consecutive(1))
        .open_time(OpenTime::Constant(SECOND))
        .open_time_jitter(share);
    if let Some(seed) = seed {
        config = config.seed(seed);
    }
    let breaker = Breaker::new(name, config.build().unwrap());
    let mut events = breaker.events();
    let mut times = Vec::new();
    for _ in 0..30 {
        fail(&breaker, 1);
        breaker.reset();
        while let Ok(event) = events.try_recv() {
            if let BreakerEvent::Opened { open_for, .. } = event {
                times.push(open_for);
            }
        }
    }
    times
}

#[test]
fn brk_12_jitter_takes_away_no_more_than_its_share() {
    let times = open_times("a", 0.25, None);
    assert_eq!(times.len(), 30);
    assert!(
        times
            .iter()
            .all(|time| (SECOND * 3 / 4..=SECOND).contains(time)),
        "{times:?}"
    );
    assert!(times.iter().any(|time| *time != times[0]), "{times:?}");
    assert!(open_times("a", 0.0, None).iter().all(|it| *it == SECOND));
}

#[test]
fn brk_12_jitter_with_a_seed_is_repeatable_and_differs_between_breakers() {
    assert_eq!(open_times("a", 1.0, Some(7)), open_times("a", 1.0, Some(7)));
    assert_ne!(open_times("a", 1.0, Some(7)), open_times("b", 1.0, Some(7)));
    assert_ne!(open_times("a", 1.0, Some(7)), open_times("a", 1.0, Some(8)));
}

#[tokio::test(start_paused = true)]
async fn brk_12_what_jitter_left_of_an_open_time_is_what_a_refusal_says() {
    let config = BreakerConfig::builder()
        .trip(Trip::Consecutive(1))
        .open_time_jitter(0.9);
    let breaker = Breaker::new("shaken", config.build().unwrap());
    fail(&breaker, 1);
    let wait = breaker.try_acquire().unwrap_err().retry_after.unwrap();
    advance(wait - Duration::from_nanos(1)).await;
    assert!(breaker.try_acquire().is_err());
    advance(Duration::from_nanos(1)).await;
    succeed(&breaker, 1);
}

#[test]
fn brk_13_metrics_only_admits_all_and_says_each_time_when_it_would_have_opened() {
    let breaker = breaker(Trip::Consecutive(3));
    assert_eq!(breaker.metrics_only(), BreakerState::MetricsOnly);
    let mut events = breaker.events();
    fail(&breaker, 8);
    let mut met = 0;
    while let Ok(event) = events.try_recv() {
        assert!(
            matches!(
                event,
                BreakerEvent::ConditionMet {
                    state: BreakerState::MetricsOnly,
                    ..
                }
            ),
            "{event:?}"
        );
        met += 1;
    }
    assert_eq!(met, 2);
    assert_eq!(breaker.state(), BreakerState::MetricsOnly);
    assert_eq!(breaker.status().failures, 8);

    // What was measured does not count against it when it decides again.
    breaker.reset();
    fail(&breaker, 2);
    assert_eq!(breaker.state(), BreakerState::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn brk_14_other_settings_close_the_breaker_and_hold_from_then_on() {
    let breaker = breaker(Trip::Consecutive(1));
    let early = breaker.try_acquire().unwrap();
    fail(&breaker, 1);
    let slower = BreakerConfig::builder()
        .trip(Trip::Consecutive(2))
        .open_time(OpenTime::Constant(SECOND));
    let slower = slower.build().unwrap();
    assert_eq!(breaker.reconfigure(slower.clone()), BreakerState::Closed);
    assert_eq!(breaker.config(), slower);
    // It was admitted under the old settings.
    early.failure();
    fail(&breaker, 1);
    assert_eq!(breaker.state(), BreakerState::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.status().retry_after, Some(SECOND));
}

#[test]
fn brk_14_other_settings_leave_what_an_operator_ordered() {
    let breaker = breaker(Trip::Consecutive(1));
    type Order = fn(&Breaker) -> BreakerState;
    let orders: [Order; 4] = [
        Breaker::force_open,
        Breaker::force_closed,
        Breaker::disable,
        Breaker::metrics_only,
    ];
    for order in orders {
        let ordered = order(&breaker);
        assert_eq!(breaker.reconfigure(BreakerConfig::default()), ordered);
    }
    // In metrics only the new condition is the one that is looked at.
    let mut events = breaker.events();
    fail(&breaker, 4);
    assert!(events.try_recv().is_err());
    fail(&breaker, 1);
    assert!(events.try_recv().is_ok());
}

#[tokio::test(start_paused = true)]
async fn brk_17_a_breaker_without_probes_lets_all_in_when_the_open_time_is_over() {
    let config = BreakerConfig::builder()
        .trip(Trip::Consecutive(1))
        .after_open(AfterOpen::Closed);
    let breaker = Breaker::new("healing", config.build().unwrap());
    let mut events = breaker.events();
    fail(&breaker, 1);
    advance(SECOND * 30 - Duration::from_nanos(1)).await;
    assert_eq!(breaker.look(), BreakerState::Open);
    advance(Duration::from_nanos(1)).await;
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert_eq!(breaker.status().state, BreakerState::Closed);
    let permits: Vec<_> = (0..100).map(|_| breaker.try_acquire().unwrap()).collect();
    assert!(matches!(
        events.try_recv().unwrap(),
        BreakerEvent::Opened { .. }
    ));
    let closed = events.try_recv().unwrap();
    assert_eq!(
        (closed.from(), closed.to()),
        (BreakerState::Open, BreakerState::Closed)
    );
    drop(permits);
}

#[tokio::test(start_paused = true)]
async fn brk_18_a_report_without_a_permit_is_judged_but_is_no_probe() {
    let breaker = breaker(Trip::Consecutive(2));
    let mut events = breaker.events();
    for _ in 0..2 {
        breaker.report(Outcome::Failure);
    }
    assert_eq!(breaker.state(), BreakerState::Open);
    assert!(matches!(events.try_recv(), Ok(BreakerEvent::Opened { .. })));

    // While it is open it is told, and prolongs nothing.
    advance(SECOND * 10).await;
    breaker.report(Outcome::Failure);
    assert_eq!(breaker.status().retry_after, Some(SECOND * 20));
    assert!(matches!(
        events.try_recv(),
        Ok(BreakerEvent::ConditionMet {
            state: BreakerState::Open,
            ..
        })
    ));

    advance(SECOND * 20).await;
    breaker.report(Outcome::Success);
    breaker.report(Outcome::Failure);
    breaker.report(Outcome::Ignored);
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    let probe = breaker.try_acquire().unwrap();
    assert!(breaker.try_acquire().is_err());
    probe.success();

    let status = breaker.status();
    assert_eq!((status.reported, status.failures), (6, 4));
    assert_eq!((status.successes, status.cancelled), (2, 1));
    breaker.disable();
    breaker.report(Outcome::Failure);
    assert_eq!(breaker.status().reported, 6);
}

#[test]
fn brk_19_refusals_on_purpose_take_their_share_and_say_so() {
    let config = |share| {
        let config = BreakerConfig::builder().injected_refusals(share).seed(7);
        config.build().unwrap()
    };
    let breaker = Breaker::new("injected", config(0.25));
    let mut refused = 0;
    for _ in 0..1_000 {
        match breaker.try_acquire() {
            Ok(permit) => permit.success(),
            Err(refusal) => {
                assert!(refusal.injected && refusal.is_retryable());
                refused += 1;
            }
        }
    }
    assert!((200..300).contains(&refused), "{refused}");
    let status = breaker.status();
    assert_eq!((status.injected, status.refused), (refused, refused));

    breaker.reconfigure(config(1.0));
    let refusal = breaker.try_acquire().unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "circuit of `injected` is closed, and refuses some calls on purpose"
    );
    // Forced closed is forced closed.
    breaker.force_closed();
    succeed(&breaker, 100);
    breaker.reset();
    fail_by_report(&breaker);
    assert!(!breaker.try_acquire().unwrap_err().injected);
}

fn fail_by_report(breaker: &Breaker) {
    for _ in 0..5 {
        breaker.report(Outcome::Failure);
    }
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[test]
fn brk_20_a_breaker_that_was_removed_frees_its_name_and_is_heard_of_no_more() {
    let breakers = Breakers::new();
    let mut events = breakers.events();
    breakers
        .register("a", BreakerConfig::default())
        .unwrap()
        .trip();
    let removed = breakers.remove("a").unwrap();
    assert!(breakers.remove("a").is_none() && breakers.get("a").is_none());
    let successor = breakers.register("a", BreakerConfig::default()).unwrap();

    removed.reset();
    assert_eq!(removed.trip(), BreakerState::Open);
    assert_eq!(successor.state(), BreakerState::Closed);
    let told: Vec<_> = std::iter::from_fn(|| events.try_recv().ok())
        .map(|event| event.to_string())
        .collect();
    assert_eq!(
        told,
        [
            "registered",
            "closed -> open",
            "removed while open",
            "registered"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn brk_23_a_permit_that_is_renewed_is_of_the_state_that_it_finds_and_counts_once() {
    let breaker = breaker(Trip::Consecutive(1));
    let (early, late) = (breaker.try_acquire().unwrap(), breaker.try_acquire_owned());
    assert!(early.is_current());
    early.renew().unwrap().success();
    fail(&breaker, 1);
    let late = late.unwrap();
    assert!(!late.is_current());
    let refused = late.renew().unwrap_err();
    assert_eq!(refused.retry_after, Some(SECOND * 30));
    let status = breaker.status();
    assert_eq!((status.successes, status.failures), (1, 1));
    assert_eq!((status.refused, status.cancelled, status.late), (1, 0, 0));

    // It becomes the probe, keeps its place however often it asks, and closes.
    breaker.reset();
    let waiting = breaker.try_acquire().unwrap();
    fail(&breaker, 1);
    advance(SECOND * 30).await;
    let probe = waiting.renew().unwrap().renew().unwrap();
    assert!(breaker.try_acquire().is_err());
    probe.success();
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert_eq!(breaker.status().successes, 2);
}
