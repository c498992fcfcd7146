use perennial_breaker::{
    Breaker, BreakerEvent, BreakerState, OpenCause, Outcome, Permit, Trip, Window,
};
use tokio::time::{advance, sleep};

use crate::{SECOND, breaker, fail, succeed};

fn slow_rate(min_calls: u32) -> Trip {
    Trip::SlowRate {
        slower_than: SECOND,
        ratio: 0.5,
        window: Window::Calls(10),
        min_calls,
    }
}

async fn call_for(breaker: &Breaker, seconds: u32) {
    let operation = async {
        sleep(SECOND * seconds).await;
        Ok::<_, ()>(())
    };
    breaker.call(operation).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn brk_11_slow_calls_open_though_they_end_well() {
    let breaker = breaker(slow_rate(4));
    let mut events = breaker.events();
    call_for(&breaker, 1).await;
    call_for(&breaker, 1).await;
    call_for(&breaker, 2).await;
    assert_eq!(breaker.state(), BreakerState::Closed);
    call_for(&breaker, 2).await;
    assert_eq!(breaker.state(), BreakerState::Open);
    assert_eq!((breaker.status().slow, breaker.status().successes), (2, 4));
    let opened = events.try_recv().unwrap();
    assert!(
        matches!(
            opened,
            BreakerEvent::Opened {
                cause: OpenCause::SlowCalls,
                ..
            }
        ),
        "{opened:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn brk_11_a_slow_probe_counts_as_one_that_failed_and_a_quick_one_closes() {
    let breaker = breaker(slow_rate(1));
    breaker.trip();
    advance(SECOND * 30).await;
    call_for(&breaker, 2).await;
    assert_eq!(breaker.state(), BreakerState::Open);
    advance(SECOND * 30).await;
    call_for(&breaker, 1).await;
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn brk_11_the_callers_own_time_of_the_operation_goes_before_that_since_admission() {
    let breaker = breaker(slow_rate(1));
    let permit = breaker.try_acquire().unwrap();
    advance(SECOND * 10).await;
    permit.record_timed(Outcome::Success, SECOND);
    assert_eq!(breaker.state(), BreakerState::Closed);
    let permit = breaker.try_acquire().unwrap();
    permit.record_timed(Outcome::Success, SECOND * 2);
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn brk_11_a_caller_who_measures_himself_is_believed_and_nobody_else_measures() {
    let breaker = breaker(slow_rate(2));
    for ends in [Permit::success, Permit::failure] {
        let permit = breaker.try_acquire_untimed().unwrap();
        advance(SECOND * 10).await;
        ends(permit);
    }
    for _ in 0..3 {
        let permit = breaker.try_acquire_untimed().unwrap();
        advance(SECOND * 10).await;
        permit.record_timed(Outcome::Success, SECOND);
    }
    assert_eq!(breaker.status().slow, 0);
    // Three of six are half: those that were ended without a time are not among them.
    for state in [
        BreakerState::Closed,
        BreakerState::Closed,
        BreakerState::Open,
    ] {
        let permit = breaker.try_acquire_untimed().unwrap();
        permit.record_timed(Outcome::Success, SECOND * 2);
        assert_eq!(breaker.state(), state);
    }
    assert_eq!(breaker.status().slow, 3);
}

#[tokio::test(start_paused = true)]
async fn brk_11_a_call_that_is_cancelled_is_not_judged_however_long_it_ran() {
    let breaker = breaker(slow_rate(1));
    let permit = breaker.try_acquire().unwrap();
    advance(SECOND * 10).await;
    drop(permit);
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert_eq!(breaker.status().slow, 0);
}

#[tokio::test(start_paused = true)]
async fn brk_11_any_of_several_conditions_opens_and_each_hears_of_every_result() {
    let any = || {
        breaker(Trip::AnyOf(vec![
            Trip::Consecutive(3),
            Trip::FailureRate {
                ratio: 0.5,
                window: Window::Calls(10),
                min_calls: 10,
            },
            slow_rate(2),
        ]))
    };
    let in_a_row = any();
    fail(&in_a_row, 3);
    assert_eq!(in_a_row.state(), BreakerState::Open);

    let by_share = any();
    for _ in 0..5 {
        fail(&by_share, 1);
        assert_eq!(by_share.state(), BreakerState::Closed);
        succeed(&by_share, 1);
    }
    assert_eq!(by_share.state(), BreakerState::Open);

    let by_slowness = any();
    call_for(&by_slowness, 2).await;
    call_for(&by_slowness, 2).await;
    assert_eq!(by_slowness.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn brk_11_a_failure_counts_for_exactly_its_time_whatever_ends_well_meanwhile() {
    let within = Trip::Failures {
        count: 3,
        within: SECOND,
    };
    let nanosecond = std::time::Duration::from_nanos(1);
    for (wait, expected) in [
        (SECOND, BreakerState::Closed),
        (SECOND - nanosecond, BreakerState::Open),
    ] {
        let breaker = breaker(within.clone());
        fail(&breaker, 1);
        succeed(&breaker, 100);
        advance(wait).await;
        fail(&breaker, 2);
        assert_eq!(breaker.state(), expected, "{wait:?}");
    }
}

#[test]
fn brk_11_a_share_of_the_last_calls_is_of_those_of_all_threads() {
    for _ in 0..20 {
        let breaker = breaker(Trip::FailureRate {
            ratio: 0.5,
            window: Window::Calls(1_000),
            min_calls: 10,
        });
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| succeed(&breaker, 100));
            }
        });
        std::thread::scope(|scope| {
            for times in [100, 100, 100, 99] {
                let breaker = &breaker;
                scope.spawn(move || fail(breaker, times));
            }
        });
        // 399 of 799.
        assert_eq!(breaker.state(), BreakerState::Closed);
        succeed(&breaker, 1);
        fail(&breaker, 1);
        assert_eq!(breaker.state(), BreakerState::Closed, "400 of 801");
        fail(&breaker, 1);
        assert_eq!(breaker.state(), BreakerState::Open, "401 of 802");
    }
}

#[test]
fn brk_11_without_a_condition_only_a_command_opens() {
    let breaker = breaker(Trip::Never);
    fail(&breaker, 1_000);
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert_eq!(breaker.trip(), BreakerState::Open);
}
