use std::time::Duration;

use ractor::Actor;
use tokio::time::{Instant, advance};

use super::*;
use crate::{Breaker, BreakerConfig, BreakerEvent, BreakerState};

const OPEN_TIME: Duration = Duration::from_secs(30);

fn cell() -> Arc<Cell> {
    Arc::new(Cell::new(
        "service".into(),
        BreakerConfig::default(),
        crate::cell::Place::Alone,
    ))
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_open_time_is_announced_though_nobody_calls() {
    let cell = cell();
    let (actor, ended) = Actor::spawn(None, BreakerActor, Arc::clone(&cell))
        .await
        .unwrap();
    let mut events = cell.events();
    for _ in 0..2 {
        let opened = Instant::now();
        cell.command(crate::machine::Command::Trip);
        assert!(matches!(
            events.recv().await.unwrap(),
            BreakerEvent::Opened { .. }
        ));
        assert!(matches!(
            events.recv().await.unwrap(),
            BreakerEvent::HalfOpened { .. }
        ));
        // Timers are exact to the millisecond.
        assert!(
            opened.elapsed() - OPEN_TIME <= Duration::from_millis(1),
            "{:?}",
            opened.elapsed()
        );
    }
    actor.stop(None);
    ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn killing_the_actor_loses_no_state_and_stops_no_call() {
    let cell = cell();
    let (actor, ended) = Actor::spawn(None, BreakerActor, Arc::clone(&cell))
        .await
        .unwrap();
    let mut events = cell.events();
    let opened = Instant::now();
    cell.command(crate::machine::Command::Trip);
    assert!(matches!(
        events.recv().await.unwrap(),
        BreakerEvent::Opened { .. }
    ));
    actor.kill();
    ended.await.unwrap();

    advance(OPEN_TIME / 3).await;
    assert_eq!(cell.status().retry_after, Some(OPEN_TIME / 3 * 2));
    assert!(cell.acquire().is_err());

    // The next incarnation rings when the first would have.
    let (actor, ended) = Actor::spawn(None, BreakerActor, Arc::clone(&cell))
        .await
        .unwrap();
    assert!(matches!(
        events.recv().await.unwrap(),
        BreakerEvent::HalfOpened { .. }
    ));
    assert!(opened.elapsed() - OPEN_TIME <= Duration::from_millis(1));
    actor.kill();
    ended.await.unwrap();

    let probe = cell.acquire().unwrap();
    cell.settle(probe, crate::machine::Verdict::Success, probe.timing());
    assert_eq!(cell.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_open_time_that_ended_while_no_actor_lived_is_announced_by_the_next() {
    let cell = cell();
    cell.command(crate::machine::Command::Trip);
    advance(OPEN_TIME * 2).await;
    let mut events = cell.events();
    let (actor, ended) = Actor::spawn(None, BreakerActor, Arc::clone(&cell))
        .await
        .unwrap();
    assert!(matches!(
        events.recv().await.unwrap(),
        BreakerEvent::HalfOpened { .. }
    ));
    actor.stop(None);
    ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_dead_actor_goes_on_running() {
    let cell = cell();
    let before = Arc::strong_count(&cell);
    let (actor, ended) = Actor::spawn(None, BreakerActor, Arc::clone(&cell))
        .await
        .unwrap();
    cell.command(crate::machine::Command::Trip);
    actor.kill();
    ended.await.unwrap();
    // The aborted tasks are dropped at the runtime's next turns.
    let metrics = tokio::runtime::Handle::current().metrics();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(metrics.num_alive_tasks(), 0);
    assert_eq!(Arc::strong_count(&cell), before);
}

#[test]
fn the_child_spec_is_named_like_the_service() {
    let spec = Breaker::new("billing", BreakerConfig::default()).child_spec();
    assert_eq!(&**spec.id(), "billing");
}

#[tokio::test(start_paused = true)]
async fn brk_9_a_kill_at_any_moment_loses_no_state_and_stops_no_call() {
    for turns in 0..60 {
        let cell = cell();
        let (actor, ended) = Actor::spawn(None, BreakerActor, Arc::clone(&cell))
            .await
            .unwrap();
        let running = cell.acquire().unwrap();
        let mut events = cell.events();
        let opened = Instant::now();
        cell.command(crate::machine::Command::Trip);
        for _ in 0..turns {
            tokio::task::yield_now().await;
            assert_eq!(cell.state(), BreakerState::Open);
        }
        actor.kill();
        // Also while it is on its way out.
        assert!(cell.acquire().is_err());
        ended.await.unwrap();
        cell.settle(running, crate::machine::Verdict::Success, running.timing());
        assert_eq!(cell.status().retry_after, Some(OPEN_TIME));

        let (actor, ended) = Actor::spawn(None, BreakerActor, Arc::clone(&cell))
            .await
            .unwrap();
        assert!(matches!(
            events.recv().await.unwrap(),
            BreakerEvent::Opened { .. }
        ));
        assert!(matches!(
            events.recv().await.unwrap(),
            BreakerEvent::HalfOpened { .. }
        ));
        let late = opened.elapsed() - OPEN_TIME;
        assert!(late <= Duration::from_millis(1), "{turns}: {late:?}");
        let probe = cell.acquire().unwrap();
        assert!(cell.acquire().is_err());
        cell.settle(probe, crate::machine::Verdict::Success, probe.timing());
        let status = cell.status();
        assert_eq!(status.state, BreakerState::Closed);
        assert_eq!((status.successes, status.late, status.refused), (2, 1, 2));
        actor.kill();
        ended.await.unwrap();
    }
}
