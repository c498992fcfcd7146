//! The ups and downs of a name.

use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt as _;
use perennial_lifecycle::{Backoff, ExitReason, Scope};
use perennial_registry::{Gate, GateRefused, Name, NameEvent, NameWatch, Registry};
use tokio::sync::mpsc;

use crate::support::*;

/// Waits for the next item, as a short text.
pub(crate) async fn next(watch: &mut NameWatch) -> String {
    match within("an event", watch.next()).await {
        Some(Ok(event)) => event.to_string(),
        Some(Err(missed)) => missed.to_string(),
        None => "the end".to_owned(),
    }
}

async fn nothing(watch: &mut NameWatch) {
    let next = tokio::time::timeout(SECOND, watch.next()).await;
    assert!(next.is_err(), "{next:?}");
}

#[tokio::test(start_paused = true)]
async fn reg_14_each_run_of_a_name_gives_one_up_and_one_down_in_order() {
    let it = Fixture::start([named("a")]).await;
    let mut watch = it.registry.watch(&CLERK).unwrap();
    assert_eq!(watch.name(), CLERK.as_actor_name());
    // It begins with the run that is up.
    assert_eq!(next(&mut watch).await, "t/a is up (epoch 1)");
    nothing(&mut watch).await;
    it.crash("a").await;
    let down = "t/a is down (epoch 1): failed: told to";
    assert_eq!(next(&mut watch).await, down);
    assert_eq!(next(&mut watch).await, "t/a is up (epoch 2)");
    it.stop("a").await;
    assert_eq!(next(&mut watch).await, "t/a is down (epoch 2): shutdown");
    nothing(&mut watch).await;
    // Watched while it is down: the next run comes first.
    let mut late = it.registry.watch(&CLERK).unwrap();
    it.restart("a").await;
    for watch in [&mut watch, &mut late] {
        assert_eq!(next(watch).await, "t/a is up (epoch 3)");
        nothing(watch).await;
    }
}

#[tokio::test(start_paused = true)]
async fn reg_14_runs_that_came_and_went_between_two_looks_are_not_missed() {
    let it = Fixture::start([named("a")]).await;
    let mut watch = it.registry.watch(&CLERK).unwrap();
    for _ in 0..10 {
        it.crash("a").await;
    }
    for epoch in 1..=10 {
        let up = format!("t/a is up (epoch {epoch})");
        assert_eq!(next(&mut watch).await, up);
        let down = format!("t/a is down (epoch {epoch}): failed: told to");
        assert_eq!(next(&mut watch).await, down);
    }
    assert_eq!(next(&mut watch).await, "t/a is up (epoch 11)");
    nothing(&mut watch).await;
}

#[tokio::test(start_paused = true)]
async fn reg_14_a_name_is_watched_to_whatever_place_it_moves() {
    let it = Fixture::start([]).await;
    // Nobody has had the name yet.
    let mut watch = it.registry.watch(&CLERK).unwrap();
    nothing(&mut watch).await;
    for id in ["a", "b", "c"] {
        it.supervisor.start_child(named(id)).await.unwrap();
        it.crash(id).await;
        it.stop(id).await;
    }
    // A place that the name has left behind counts no more, nor do starts that fail.
    it.supervisor.start_child(clerk("d")).await.unwrap();
    it.crash("d").await;
    let mut heard = Vec::new();
    for _ in 0..12 {
        heard.push(next(&mut watch).await);
    }
    let expected: Vec<_> = [("a", 1), ("b", 3), ("c", 5)]
        .into_iter()
        .flat_map(|(id, epoch)| {
            let after = epoch + 1;
            [
                format!("t/{id} is up (epoch {epoch})"),
                format!("t/{id} is down (epoch {epoch}): failed: told to"),
                format!("t/{id} is up (epoch {after})"),
                format!("t/{id} is down (epoch {after}): shutdown"),
            ]
        })
        .collect();
    assert_eq!(heard, expected);
    nothing(&mut watch).await;
}

#[tokio::test(start_paused = true)]
async fn reg_15_a_watcher_that_is_too_slow_is_told_how_many_runs_it_missed() {
    let it = Fixture::start([named("a")]).await;
    let mut watch = it.registry.watch(&CLERK).unwrap();
    assert_eq!(next(&mut watch).await, "t/a is up (epoch 1)");
    for _ in 0..100 {
        it.crash("a").await;
    }
    // The run whose up was given has its down, whatever was missed behind it.
    let down = "t/a is down (epoch 1): failed: told to";
    assert_eq!(next(&mut watch).await, down);
    // Of the hundred behind it the last 16 are remembered.
    assert_eq!(next(&mut watch).await, "missed runs: 84");
    assert_eq!(next(&mut watch).await, "t/a is up (epoch 86)");
}

#[tokio::test(start_paused = true)]
async fn reg_14_a_down_comes_when_the_name_no_longer_leads_to_the_run() {
    let it = Fixture::start([named("a").backoff(Backoff::constant(SECOND))]).await;
    let mut watch = it.registry.watch(&CLERK).unwrap();
    let held = it.registry.resolve(&CLERK).unwrap();
    for _ in 0..20 {
        let Some(Ok(NameEvent::Up(up))) = watch.next().await else {
            panic!("it is up");
        };
        assert_eq!(held.present().unwrap().epoch, up.epoch);
        held.cast(Msg::Fail).unwrap();
        let Some(Ok(down @ NameEvent::Down { .. })) = watch.next().await else {
            panic!("it is down");
        };
        assert_eq!(down.epoch(), up.epoch);
        assert!(held.present().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_with_the_registry_and_is_a_stream() {
    let it = Fixture::start([named("a")]).await;
    let watch = it.registry.watch(&CLERK).unwrap();
    let (told, mut heard) = mpsc::channel(1);
    let reader = tokio::spawn(async move {
        let mut stream = pin!(watch.into_stream());
        while let Some(event) = stream.next().await {
            told.send(event.unwrap().to_string()).await.unwrap();
        }
    });
    let first = within("the first", heard.recv()).await;
    assert_eq!(first.as_deref(), Some("t/a is up (epoch 1)"));
    it.supervisor.stop(ExitReason::Shutdown).await;
    let last = within("the last", heard.recv()).await;
    let down = "t/a is down (epoch 1): shutdown";
    assert_eq!(last.as_deref(), Some(down));
    drop(it);
    within("the end", reader).await.unwrap();
}

struct Open;

impl Gate for Open {
    fn admit(&self) -> Result<(), GateRefused> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn reg_21_a_name_that_was_watched_leaves_nothing_of_its_actor_behind() {
    // A name with a gate is kept for whoever comes next.
    for is_gated in [false, true] {
        let it = Fixture::start([named("a").temporary()]).await;
        if is_gated {
            it.registry.set_gate(CLERK.as_actor_name(), Box::new(Open));
        }
        let mut watch = it.registry.watch(&CLERK).unwrap();
        let place = Arc::downgrade(&it.supervisor.node().child("a").unwrap());
        it.stop("a").await;
        assert_eq!(next(&mut watch).await, "t/a is up (epoch 1)");
        assert_eq!(next(&mut watch).await, "t/a is down (epoch 1): shutdown");
        it.registry.sweep();
        assert!(place.upgrade().is_some(), "somebody watches");
        drop(watch);
        it.registry.sweep();
        assert!(place.upgrade().is_none(), "gated: {is_gated}");

        it.supervisor.start_child(named("b")).await.unwrap();
        let mut watch = it.registry.watch(&CLERK).unwrap();
        assert_eq!(next(&mut watch).await, "t/b is up (epoch 2)");
    }
}

#[tokio::test(start_paused = true)]
async fn reg_14_a_watch_that_outlives_the_registry_ends_with_the_run_that_is_up() {
    for is_watched in [false, true] {
        let scope = Scope::new("t");
        let registry = Registry::new(&scope);
        let supervisor = generous().child(named("a")).build().unwrap();
        let supervisor = supervisor.start_in(&scope).await.unwrap();
        let held = registry.resolve(&CLERK).unwrap();
        let before = is_watched.then(|| held.watch());
        drop(registry);
        let late = held.watch();
        let place = Arc::downgrade(&supervisor.node().child("a").unwrap());
        supervisor.stop(ExitReason::Shutdown).await;
        for mut watch in before.into_iter().chain([late]) {
            assert_eq!(next(&mut watch).await, "t/a is up (epoch 1)");
            assert_eq!(next(&mut watch).await, "t/a is down (epoch 1): shutdown");
            assert_eq!(next(&mut watch).await, "the end");
        }
        drop((supervisor, scope, held));
        tokio::time::sleep(SECOND).await;
        assert!(place.upgrade().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn reg_14_a_watch_ends_with_its_tree() {
    let it = Fixture::start([named("a")]).await;
    let mut watch = it.registry.watch(&CLERK).unwrap();
    let mut unknown = it.registry.watch(&Name::<Msg>::new("nobody")).unwrap();
    let waits = tokio::spawn(async move { next(&mut unknown).await });
    it.supervisor.stop(ExitReason::Shutdown).await;
    assert!(!waits.is_finished());
    it.scope.give_up();
    assert_eq!(waits.await.unwrap(), "the end");
    assert_eq!(next(&mut watch).await, "t/a is up (epoch 1)");
    assert_eq!(next(&mut watch).await, "t/a is down (epoch 1): shutdown");
    assert_eq!(next(&mut watch).await, "the end");
}
