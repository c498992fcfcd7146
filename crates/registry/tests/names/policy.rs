//! What a message does whose actor is down.

use std::time::{Duration, SystemTime};

use perennial_lifecycle::Backoff;
use perennial_registry::{CallError, Refusal, WhenDown};
use tokio::time::Instant;

use crate::support::*;

fn not_running(refusal: &Refusal) -> (Option<SystemTime>, Option<Instant>) {
    match refusal {
        Refusal::NotRunning {
            since,
            next_attempt,
            ..
        } => (*since, *next_attempt),
        other => panic!("{other}"),
    }
}

fn refusal<M>(error: CallError<M>) -> Refusal {
    match error {
        CallError::Refused(error) => error.refusal,
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn reg_10_a_refusal_says_since_when_and_until_when_the_actor_is_down() {
    let spec = named("a").backoff(Backoff::constant(30 * SECOND));
    let it = Fixture::start([spec]).await;
    let node = it.supervisor.node().child("a").unwrap();
    let run = node.current().unwrap();
    assert_eq!(node.down_since(), None);
    // By the clock of the events, which lags behind the exact one.
    let began = it.scope.events().latest(1)[0].at;
    it.registry.cast(CLERK, Msg::Fail).unwrap();
    run.ended().await;
    it.supervisor.count_children().await.unwrap();
    let due = Instant::now() + 30 * SECOND;

    let refused = it.registry.cast(CLERK, Msg::Work).unwrap_err().refusal;
    let (since, next_attempt) = not_running(&refused);
    assert!(since.unwrap() >= began && since.unwrap() <= SystemTime::now());
    assert_eq!(next_attempt, Some(due));
    assert_eq!(refused.retry_after(), Some(30 * SECOND));
    assert!(refused.is_retryable());
    let text = "`clerk` is not running, next attempt in 30s";
    assert_eq!(refused.to_string(), text);

    tokio::time::sleep_until(due).await;
    within("the restart", node.running()).await;
    assert_eq!(node.down_since(), None);
    it.stop("a").await;
    // Nobody will start it.
    let refused = it.registry.cast(CLERK, Msg::Work).unwrap_err().refusal;
    let (later, next_attempt) = not_running(&refused);
    assert!(later >= since);
    assert_eq!(later, node.last_end().map(|end| end.at));
    assert_eq!(next_attempt, None);
    assert_eq!(refused.retry_after(), None);
}

#[tokio::test(start_paused = true)]
async fn reg_11_a_call_waits_or_fails_as_the_call_the_name_or_the_registry_says() {
    let it = Fixture::start([named("a")]).await;
    let held = it.registry.resolve(&CLERK).unwrap();
    it.stop("a").await;
    let begin = Instant::now();
    let call = async |name| {
        let called = it.registry.call(name, Msg::Who, 10 * SECOND).await;
        not_running(&refusal(called.unwrap_err()));
        Instant::now() - begin
    };
    // In the constant or at the place of the call.
    assert_eq!(call(CLERK.when_down(WhenDown::Fail)).await, Duration::ZERO);
    let brief = CLERK.when_down(WhenDown::WaitAtMost(SECOND));
    assert_eq!(call(brief.clone()).await, SECOND);
    // The name's own choice is kept by the address.
    let address = it.registry.resolve(&brief).unwrap();
    address.send(Msg::Work, 10 * SECOND).await.unwrap_err();
    assert_eq!(begin.elapsed(), 2 * SECOND);
    // Never past the call's own deadline.
    let long = address.when_down(WhenDown::WaitAtMost(3600 * SECOND));
    long.call(Msg::Who, SECOND).await.unwrap_err();
    assert_eq!(begin.elapsed(), 3 * SECOND);
    // Without a choice: to the deadline.
    assert_eq!(call(CLERK).await, 13 * SECOND);
    // What is chosen for the registry holds for addresses that were made before.
    it.registry.set_when_down(WhenDown::Fail);
    assert_eq!(call(CLERK).await, 13 * SECOND);
    held.send(Msg::Work, SECOND).await.unwrap_err();
    assert_eq!(begin.elapsed(), 13 * SECOND);
    assert_eq!(call(CLERK.when_down(WhenDown::Wait)).await, 23 * SECOND);
    // A cast never waits, so it fails at once whatever is chosen.
    let cast = it
        .registry
        .cast(CLERK.when_down(WhenDown::Wait), Msg::Work)
        .unwrap_err();
    assert!(matches!(cast.message, Msg::Work));
}

#[tokio::test(start_paused = true)]
async fn reg_11_who_waits_for_an_actor_reaches_it_at_whatever_place_it_comes_back() {
    let it = Fixture::start([named("a")]).await;
    let held = it.registry.resolve(&CLERK).unwrap();
    it.stop("a").await;
    let registry = it.registry.clone();
    let waiting = tokio::spawn(async move {
        let up = registry.wait_for(&CLERK).await;
        up.unwrap().path.to_string()
    });
    let called = tokio::spawn(async move { held.call(Msg::Who, 60 * SECOND).await });
    let_others_run().await;
    // The name moves: nothing ever runs again where the call waits.
    it.supervisor.start_child(named("b")).await.unwrap();
    let begin = Instant::now();
    let (who, _) = called.await.unwrap().unwrap();
    assert_eq!(who, "b");
    assert_eq!(within("the run", waiting).await.unwrap(), "t/b");
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_time_beyond_all_bounds_is_as_long_as_any() {
    let it = Fixture::start([named("a")]).await;
    let forever = Duration::MAX;
    let name = CLERK.when_down(WhenDown::WaitAtMost(forever));
    let called = it.registry.call(name, Msg::Who, forever).await;
    assert_eq!(called.unwrap().0, "a");
}
