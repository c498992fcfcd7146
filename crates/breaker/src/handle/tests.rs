use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::{Instant, advance, sleep, timeout};

use super::*;
use crate::counters::Totals;
use crate::machine::Verdict;
use crate::model::{Subject, check, configs, ops};
use crate::{AfterOpen, CloseCause, OpenCause, OpenTime, Trip, Window};

const OPEN_TIME: Duration = Duration::from_secs(30);

/// Opens after one failure.
fn touchy() -> Breaker {
    Breaker::new(
        "touchy",
        BreakerConfig::builder()
            .trip(Trip::Consecutive(1))
            .build()
            .unwrap(),
    )
}

fn fail(breaker: &Breaker, times: u32) {
    for _ in 0..times {
        breaker.try_acquire().unwrap().failure();
    }
}

async fn open_time_ends() {
    advance(OPEN_TIME).await;
}

struct Clocked {
    breaker: Breaker,
    events: broadcast::Receiver<BreakerEvent>,
    met: u64,
}

impl Subject for Clocked {
    type Call = OwnedPermit;

    fn acquire(&mut self) -> Result<OwnedPermit, (BreakerState, Option<Duration>)> {
        self.breaker
            .try_acquire_owned()
            .map_err(|refusal| (refusal.state, refusal.retry_after))
    }

    fn settle(&mut self, call: OwnedPermit, verdict: Verdict) {
        match verdict {
            Verdict::Success => call.success(),
            Verdict::Failure => call.failure(),
            Verdict::Cancelled => drop(call),
        }
    }

    fn report(&mut self, verdict: Verdict) {
        self.breaker.report(match verdict {
            Verdict::Success => Outcome::Success,
            Verdict::Failure => Outcome::Failure,
            Verdict::Cancelled => Outcome::Ignored,
        });
    }

    fn configure(&mut self, config: BreakerConfig) {
        self.breaker.reconfigure(config);
    }

    async fn advance(&mut self, by: Duration) {
        advance(by).await;
    }

    fn command(&mut self, command: Command) -> BreakerState {
        match command {
            Command::Trip => self.breaker.trip(),
            Command::ForceOpen => self.breaker.force_open(),
            Command::ForceClosed => self.breaker.force_closed(),
            Command::Disable => self.breaker.disable(),
            Command::OnlyMeasure => self.breaker.metrics_only(),
            Command::Reset => self.breaker.reset(),
        }
    }

    fn state(&mut self) -> BreakerState {
        assert_eq!(self.breaker.state(), self.breaker.status().state);
        self.breaker.state()
    }

    fn transitions(&mut self) -> u64 {
        self.breaker.status().transitions
    }

    fn met(&mut self) -> u64 {
        while let Ok(event) = self.events.try_recv() {
            self.met += u64::from(matches!(event, BreakerEvent::ConditionMet { .. }));
        }
        self.met
    }

    fn totals(&mut self) -> Option<Totals> {
        let status = self.breaker.status();
        Some(Totals {
            successes: status.successes,
            failures: status.failures,
            cancelled: status.cancelled,
            refused: status.refused,
            late: status.late,
            slow: status.slow,
            injected: status.injected,
            reported: status.reported,
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn breaker_agrees_with_the_model(config in configs(), ops in ops()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let breaker = Breaker::new("modelled", config.clone());
            let clocked = Clocked { events: breaker.events(), breaker, met: 0 };
            check(clocked, config, ops).await
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_opening_waits_its_whole_open_time() {
    let breaker = touchy();
    fail(&breaker, 1);
    advance(OPEN_TIME - Duration::from_nanos(1)).await;
    let refusal = breaker.try_acquire().unwrap_err();
    assert_eq!(refusal.retry_after, Some(Duration::from_nanos(1)));
    advance(Duration::from_nanos(1)).await;
    breaker.try_acquire().unwrap().success();
}

#[tokio::test(start_paused = true)]
async fn a_later_opening_is_measured_from_itself() {
    let breaker = touchy();
    fail(&breaker, 1);
    open_time_ends().await;
    breaker.try_acquire().unwrap().success();
    advance(OPEN_TIME * 10).await;
    fail(&breaker, 1);
    assert_eq!(breaker.status().retry_after, Some(OPEN_TIME));
    assert!(breaker.try_acquire().is_err());
}

#[tokio::test(start_paused = true)]
async fn the_first_caller_after_the_open_time_is_the_probe_and_the_move_is_told() {
    let breaker = touchy();
    let mut events = breaker.events();
    let watch = breaker.watch();
    fail(&breaker, 1);
    open_time_ends().await;
    let probe = breaker.try_acquire().unwrap();
    assert_eq!(
        breaker.try_acquire().unwrap_err().state,
        BreakerState::HalfOpen
    );
    assert_eq!(*watch.borrow(), BreakerState::HalfOpen);
    probe.success();

    let name: Arc<str> = "touchy".into();
    let expected = [
        BreakerEvent::Opened {
            breaker: Arc::clone(&name),
            from: BreakerState::Closed,
            cause: OpenCause::Failures,
            open_for: OPEN_TIME,
        },
        BreakerEvent::HalfOpened {
            breaker: Arc::clone(&name),
        },
        BreakerEvent::Closed {
            breaker: name,
            from: BreakerState::HalfOpen,
            cause: CloseCause::ProbesSucceeded,
        },
    ];
    for event in expected {
        assert_eq!(events.try_recv().unwrap(), event);
    }
    assert_eq!(breaker.status().transitions, 3);
}

/// Notes where it is woken whether the breaker could be asked, and resets it the first time.
struct Busy(Breaker, Mutex<Vec<bool>>);

impl Wake for Busy {
    fn wake(self: Arc<Self>) {
        let is_free = self.0.0.is_free();
        let is_first = self.1.lock().unwrap().is_empty();
        self.1.lock().unwrap().push(is_free);
        // To ask a breaker whose lock is held here would be to wait for ever.
        if is_free && is_first {
            assert_eq!(self.0.status().state, BreakerState::Open);
            self.0.reset();
        }
    }
}

#[test]
fn brk_25_who_watches_a_breaker_may_use_it_where_he_is_woken_and_all_hear_of_it_in_order() {
    let breakers = crate::Breakers::new();
    let breaker = breakers.register("mail", BreakerConfig::default()).unwrap();
    let (mut of_set, mut own) = (breakers.events(), breaker.events());
    let mut watch = breaker.watch();
    let busy = Arc::new(Busy(breaker.clone(), Mutex::default()));
    {
        let waker = Waker::from(Arc::clone(&busy));
        let mut context = Context::from_waker(&waker);
        let mut watching = pin!(watch.changed());
        let (mut of_sets, mut owns) = (pin!(of_set.recv()), pin!(own.recv()));
        assert!(watching.as_mut().poll(&mut context).is_pending());
        assert!(of_sets.as_mut().poll(&mut context).is_pending());
        assert!(owns.as_mut().poll(&mut context).is_pending());
        breaker.trip();
    }
    assert_eq!(*busy.1.lock().unwrap(), [true; 3]);
    assert_eq!(*watch.borrow(), BreakerState::Closed);
    for mut events in [of_set, own] {
        let told = std::iter::from_fn(|| events.try_recv().ok());
        let states: Vec<_> = told.map(|moved| moved.to()).collect();
        assert_eq!(states, [BreakerState::Open, BreakerState::Closed]);
    }
}

#[tokio::test(start_paused = true)]
async fn half_open_is_seen_by_whoever_looks_without_any_timer() {
    let breaker = touchy();
    fail(&breaker, 1);
    open_time_ends().await;
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert_eq!(breaker.status().state, BreakerState::HalfOpen);
    assert_eq!(breaker.status().retry_after, None);
}

#[tokio::test(start_paused = true)]
async fn operations_run_side_by_side_in_their_callers() {
    let breaker = touchy();
    let started = Instant::now();
    let operation = || {
        breaker.call(async {
            sleep(Duration::from_millis(100)).await;
            Ok::<_, ()>(())
        })
    };
    let (a, b, c, d) = tokio::join!(operation(), operation(), operation(), operation());
    assert!(a.is_ok() && b.is_ok() && c.is_ok() && d.is_ok());
    assert_eq!(started.elapsed(), Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn a_hundred_callers_after_the_open_time_let_exactly_the_permitted_probes_through() {
    let config = BreakerConfig::builder()
        .trip(Trip::Consecutive(1))
        .half_open_permits(3);
    let breaker = Breaker::new("crowded", config.successes_to_close(3).build().unwrap());
    fail(&breaker, 1);
    open_time_ends().await;

    let ran = Arc::new(AtomicUsize::new(0));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (breaker, ran) = (breaker.clone(), Arc::clone(&ran));
        callers.spawn(async move {
            let operation = async {
                ran.fetch_add(1, Ordering::SeqCst);
                sleep(Duration::from_millis(10)).await;
                Ok::<_, ()>(())
            };
            breaker.call(operation).await.is_ok()
        });
    }
    let answers = callers.join_all().await;
    assert_eq!(answers.into_iter().filter(|ok| *ok).count(), 3);
    assert_eq!(ran.load(Ordering::SeqCst), 3);
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert_eq!(breaker.status().refused, 97);
}

#[tokio::test(start_paused = true)]
async fn probes_that_are_dropped_never_wedge_a_half_open_breaker() {
    let breaker = touchy();
    fail(&breaker, 1);
    open_time_ends().await;
    for _ in 0..1_000 {
        drop(breaker.try_acquire().unwrap());
    }
    // One that is dropped in the middle of its operation.
    let stuck = breaker.call(std::future::pending::<Result<(), ()>>());
    assert!(timeout(Duration::from_secs(1), stuck).await.is_err());
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert_eq!(breaker.status().cancelled, 1_001);
    breaker.try_acquire().unwrap().success();
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_late_success_of_a_call_from_before_the_opening_does_not_close() {
    let breaker = touchy();
    let early = breaker.try_acquire().unwrap();
    let other = breaker.try_acquire().unwrap();
    fail(&breaker, 1);
    open_time_ends().await;
    let probe = breaker.try_acquire().unwrap();

    early.success();
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    // Nor does a late one free the probe's place.
    drop(other);
    assert!(breaker.try_acquire().is_err());
    probe.failure();
    assert_eq!(breaker.state(), BreakerState::Open);
    assert_eq!(breaker.status().late, 2);
}

#[tokio::test(start_paused = true)]
async fn a_late_failure_of_an_earlier_probe_does_not_count_against_a_closed_breaker() {
    let config = BreakerConfig::builder()
        .trip(Trip::Consecutive(1))
        .half_open_permits(2);
    let breaker = Breaker::new("late", config.build().unwrap());
    fail(&breaker, 1);
    open_time_ends().await;
    let slow = breaker.try_acquire().unwrap();
    breaker.try_acquire().unwrap().success();
    assert_eq!(breaker.state(), BreakerState::Closed);
    slow.failure();
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn a_success_clears_the_failures_before_it() {
    let breaker = Breaker::new("mixed", BreakerConfig::default());
    for _ in 0..10 {
        fail(&breaker, 4);
        breaker.try_acquire().unwrap().success();
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
    fail(&breaker, 4);
    drop(breaker.try_acquire().unwrap());
    fail(&breaker, 1);
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test]
async fn panics_count_as_failures_and_go_on_unwinding() {
    let breaker = Breaker::new(
        "panicky",
        BreakerConfig::builder()
            .trip(Trip::Consecutive(2))
            .build()
            .unwrap(),
    );
    for _ in 0..2 {
        let breaker = breaker.clone();
        let call = async move {
            let operation = async {
                tokio::task::yield_now().await;
                if true {
                    panic!("broken pipe");
                }
                Ok::<_, ()>(())
            };
            breaker.call(operation).await
        };
        let panic = tokio::spawn(call).await.unwrap_err().into_panic();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"broken pipe"));
    }
    assert_eq!(breaker.state(), BreakerState::Open);
    assert_eq!(
        (breaker.status().failures, breaker.status().cancelled),
        (2, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_classifier_that_panics_says_nothing_of_the_service_and_keeps_no_place() {
    let breaker = touchy();
    fail(&breaker, 1);
    open_time_ends().await;
    let unsure = breaker.clone();
    let call = async move {
        let classify = |_: &u32| -> Outcome { panic!("unknown status") };
        unsure.call_with(classify, async { 299 }).await
    };
    let panic = tokio::spawn(call).await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"unknown status"));
    let status = breaker.status();
    assert_eq!(
        (status.state, status.cancelled),
        (BreakerState::HalfOpen, 1)
    );
    assert!(breaker.try_acquire().is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_unwinding_caller_cancels_a_call_that_did_not_panic_itself() {
    let breaker = touchy();
    let inside = breaker.clone();
    let caller = tokio::spawn(async move {
        let call = inside.call(std::future::pending::<Result<(), ()>>());
        tokio::pin!(call);
        tokio::select! {
            biased;
            _ = &mut call => {}
            () = sleep(Duration::from_secs(1)) => panic!("elsewhere"),
        }
    });
    assert!(caller.await.unwrap_err().is_panic());
    assert_eq!(
        (breaker.status().failures, breaker.status().cancelled),
        (0, 1)
    );
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_inside_the_call_counts_as_a_failure() {
    let breaker = touchy();
    let answer = breaker
        .call(timeout(
            Duration::from_secs(5),
            std::future::pending::<()>(),
        ))
        .await;
    assert!(matches!(answer, Err(CallError::Failed(_))));
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_refused_operation_is_not_run() {
    let breaker = touchy();
    breaker.trip();
    let answer = breaker
        .call(async {
            if true {
                panic!("run")
            } else {
                Ok::<(), ()>(())
            }
        })
        .await;
    let Err(error) = answer else {
        panic!("admitted")
    };
    assert!(error.is_retryable());
    assert_eq!(
        error.to_string(),
        "circuit of `touchy` is open, retry after 30s"
    );
}

#[tokio::test(start_paused = true)]
async fn reset_clears_the_failures_of_a_closed_breaker_and_disowns_running_calls() {
    let breaker = Breaker::new("reset", BreakerConfig::default());
    let mut events = breaker.events();
    let running = breaker.try_acquire().unwrap();
    fail(&breaker, 4);
    assert_eq!(breaker.reset(), BreakerState::Closed);
    assert!(matches!(
        events.try_recv(),
        Ok(BreakerEvent::Closed {
            cause: CloseCause::Reset,
            ..
        })
    ));
    running.failure();
    fail(&breaker, 4);
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert_eq!(breaker.status().transitions, 0);
}

#[tokio::test(start_paused = true)]
async fn neither_a_trip_nor_a_late_failure_prolongs_an_open_time() {
    let breaker = touchy();
    let late = breaker.try_acquire().unwrap();
    breaker.trip();
    advance(OPEN_TIME / 2).await;
    breaker.trip();
    late.failure();
    assert_eq!(breaker.status().retry_after, Some(OPEN_TIME / 2));
}

#[tokio::test(start_paused = true)]
async fn forced_states_hold_until_they_are_reset() {
    let breaker = touchy();
    breaker.force_open();
    advance(OPEN_TIME * 100).await;
    let refusal = breaker.try_acquire().unwrap_err();
    assert_eq!(
        (refusal.state, refusal.retry_after),
        (BreakerState::ForcedOpen, None)
    );
    assert!(!refusal.is_retryable());
    assert_eq!(breaker.trip(), BreakerState::ForcedOpen);

    breaker.force_closed();
    fail(&breaker, 10);
    assert_eq!(breaker.state(), BreakerState::ForcedClosed);
    let counted = breaker.status();

    breaker.disable();
    fail(&breaker, 10);
    drop(breaker.try_acquire().unwrap());
    assert_eq!(breaker.status().failures, counted.failures);
    assert_eq!(breaker.status().cancelled, counted.cancelled);

    breaker.reset();
    fail(&breaker, 1);
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn growing_open_time_starts_over_after_a_close() {
    let open_time = OpenTime::Growing {
        first: Duration::from_secs(1),
        factor: 2.0,
        cap: Duration::from_secs(3),
    };
    let config = BreakerConfig::builder()
        .trip(Trip::Consecutive(1))
        .open_time(open_time)
        .build()
        .unwrap();
    let breaker = Breaker::new("growing", config);
    for seconds in [1, 2, 3, 3] {
        fail(&breaker, 1);
        let left = breaker.status().retry_after.unwrap();
        assert_eq!(left, Duration::from_secs(seconds));
        advance(left).await;
    }
    breaker.try_acquire().unwrap().success();
    fail(&breaker, 1);
    assert_eq!(breaker.status().retry_after, Some(Duration::from_secs(1)));
}

#[tokio::test(start_paused = true)]
async fn status_tells_the_time_of_the_last_failure() {
    let breaker = Breaker::new("status", BreakerConfig::default());
    assert_eq!(breaker.status().since_last_failure, None);
    fail(&breaker, 1);
    advance(Duration::from_secs(7)).await;
    breaker.try_acquire().unwrap().success();
    assert_eq!(
        breaker.status().since_last_failure,
        Some(Duration::from_secs(7))
    );
}

#[test]
fn totals_add_up_after_calls_on_many_threads() {
    let open_time = OpenTime::Constant(Duration::from_nanos(1));
    let config = BreakerConfig::builder()
        .trip(Trip::Consecutive(2))
        .open_time(open_time)
        .build()
        .unwrap();
    let breaker = Breaker::new("hammered", config);
    let admitted = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (breaker, admitted) = (&breaker, &admitted);
            scope.spawn(move || {
                for round in 0..5_000 {
                    let Ok(permit) = breaker.try_acquire() else {
                        continue;
                    };
                    admitted.fetch_add(1, Ordering::Relaxed);
                    match (round + thread) % 3 {
                        0 => permit.success(),
                        1 => permit.failure(),
                        _ => drop(permit),
                    }
                }
            });
        }
    });
    let status = breaker.status();
    assert_eq!(
        status.successes + status.failures + status.cancelled,
        admitted.into_inner() as u64
    );
    assert_eq!(
        status.successes + status.failures + status.cancelled + status.refused,
        20_000
    );
}

#[test]
fn public_types_cross_threads_and_print() {
    fn check<T: fmt::Debug + Send + Sync>() {}
    check::<Breaker>();
    check::<crate::Breakers>();
    check::<BreakerConfig>();
    check::<crate::BreakerConfigBuilder>();
    check::<BreakerEvent>();
    check::<BreakerState>();
    check::<BreakerStatus>();
    check::<CallError<std::io::Error>>();
    check::<CircuitOpen>();
    check::<crate::DuplicateBreaker>();
    check::<crate::BreakerConfigError>();
    check::<OwnedPermit>();
    check::<Permit<'_>>();
    check::<OpenTime>();
    check::<Outcome>();
    check::<Trip>();
    check::<Window>();
    check::<AfterOpen>();
}
