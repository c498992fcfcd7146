//! Names, places and trees.

use std::sync::Arc;

use perennial_lifecycle::{
    ActorName, Backoff, ChildSpec, ChildState, ExitReason, Node, Quarantine, RestartIntensity,
};
use perennial_registry::{Gate, GateRefused, Name, Refusal};
use perennial_supervisor::Supervisor;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn reg_12_resolving_gives_the_present_run_and_an_epoch_that_never_comes_twice() {
    let it = Fixture::start([named("a")]).await;
    let held = it.registry.resolve(&CLERK).unwrap();
    let mut epochs = Vec::new();
    let mut see = async |path: &str| {
        let up = within("the run", it.registry.wait_for(&CLERK)).await;
        let up = up.unwrap();
        assert_eq!(up.path.as_str(), path);
        let present = held.present().unwrap();
        assert_eq!(present.epoch, up.epoch);
        // Asked twice, since an address keeps what it meets.
        for same in [held.incarnation().unwrap(), held.incarnation().unwrap()] {
            assert!(Arc::ptr_eq(&same, &present.incarnation));
        }
        epochs.push(up.epoch);
    };
    see("t/a").await;
    it.crash("a").await;
    see("t/a").await;
    // Another place, which counts its own runs from one.
    it.stop("a").await;
    assert!(held.present().is_none() && held.incarnation().is_none());
    it.supervisor.start_child(named("b")).await.unwrap();
    see("t/b").await;
    it.crash("b").await;
    see("t/b").await;
    // The same place made anew.
    it.stop("b").await;
    it.supervisor.delete_child("b").await.unwrap();
    it.supervisor.start_child(named("b")).await.unwrap();
    see("t/b").await;
    assert_eq!(epochs, [1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn reg_12_an_epoch_does_not_come_again_when_its_name_was_forgotten() {
    let it = Fixture::start([named("a").temporary()]).await;
    it.crash_for_good("a").await;
    assert_eq!(it.registry.sweep(), 1);
    it.supervisor.start_child(named("b")).await.unwrap();
    let up = it.registry.wait_for(&CLERK).await.unwrap();
    assert_eq!(up.epoch, 2);
}

#[tokio::test(start_paused = true)]
async fn reg_12_an_epoch_does_not_come_again_when_a_gate_kept_its_name_for_a_while() {
    struct Open;

    impl Gate for Open {
        fn admit(&self) -> Result<(), GateRefused> {
            Ok(())
        }
    }

    let it = Fixture::start([named("a").temporary()]).await;
    let name = CLERK.to_actor_name();
    it.registry.set_gate(&name, Box::new(Open));
    it.crash_for_good("a").await;
    assert_eq!(it.registry.sweep(), 0);
    it.registry.clear_gate(&name);
    assert_eq!(it.registry.sweep(), 1);
    it.supervisor.start_child(named("b")).await.unwrap();
    let up = it.registry.wait_for(&CLERK).await.unwrap();
    assert_eq!(up.epoch, 2);
}

#[tokio::test(start_paused = true)]
async fn reg_13_a_name_of_one_tree_leads_nowhere_in_another() {
    let it = Fixture::start([named("a")]).await;
    let ours: Name<Msg> = Name::in_namespace("t", ActorName::HOST, "clerk");
    assert_eq!(ours.to_string(), "t/clerk");
    it.registry.cast(ours.clone(), Msg::Work).unwrap();
    let theirs: Name<Msg> = Name::in_namespace("other", ActorName::HOST, "clerk");
    let refused = it.registry.cast(theirs.clone(), Msg::Work).unwrap_err();
    let text = "`clerk` is a name of other, not of t";
    assert_eq!(refused.to_string(), text);
    assert!(matches!(refused.message, Msg::Work));
    assert!(!refused.refusal.is_retryable());
    for error in [
        it.registry.resolve(&theirs).map(drop).unwrap_err(),
        it.registry.wait_for(&theirs).await.map(drop).unwrap_err(),
        it.registry.watch(&theirs).map(drop).unwrap_err(),
        it.registry.group(&theirs).map(drop).unwrap_err(),
    ] {
        assert_eq!(error.0, refused.refusal);
    }
}

#[tokio::test(start_paused = true)]
async fn reg_7_a_name_of_the_wrong_type_is_a_typed_error_wherever_it_is_resolved() {
    let it = Fixture::start([named("a"), member("b")]).await;
    let wrong: Name<u8> = Name::of_kind(ActorName::HOST, "clerk");
    let wrongs: Name<u8> = Name::of_kind(ActorName::HOST, "clerks");
    for error in [
        it.registry.resolve(&wrong).map(drop).unwrap_err(),
        it.registry.monitor(&wrong).map(drop).unwrap_err(),
        it.registry.wait_for(&wrong).await.map(drop).unwrap_err(),
        it.registry.watch(&wrong).map(drop).unwrap_err(),
        it.registry.group(&wrongs).map(drop).unwrap_err(),
    ] {
        let wrong_type = matches!(error.0, Refusal::WrongType { given: "u8", .. });
        assert!(wrong_type, "{error}");
    }
}

/// Takes another type of message than the clerk.
struct Other;

impl Actor for Other {
    type Msg = u8;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<u8>, _: ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_held_address_hands_the_message_back_when_the_name_has_got_an_actor_of_another_type() {
    let it = Fixture::start([named("a")]).await;
    let held = it.registry.resolve(&CLERK).unwrap();
    let group = it.registry.group(&CLERKS).unwrap();
    it.stop("a").await;
    let other = ChildSpec::worker("b", || (Other, ()));
    let other = other.name(CLERK.to_actor_name());
    let other = other.group(CLERKS.to_actor_name());
    it.supervisor.start_child(other).await.unwrap();
    let refusals = [
        held.cast(Msg::Work).unwrap_err(),
        held.send(Msg::Work, SECOND).await.unwrap_err(),
        group
            .cast(perennial_registry::Route::RoundRobin, Msg::Work)
            .unwrap_err(),
    ];
    for refused in refusals {
        assert!(matches!(refused.message, Msg::Work));
        let wrong_type = matches!(refused.refusal, Refusal::WrongType { takes: "u8", .. });
        assert!(wrong_type, "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_by_name_no_longer_reaches_a_run_whose_place_the_name_has_left() {
    let it = Fixture::start([named("a")]).await;
    // By the second it is remembered whom the first has met.
    it.registry.cast(CLERK, Msg::Work).unwrap();
    it.registry.cast(CLERK, Msg::Work).unwrap();
    let run = it.registry.wait_for(&CLERK).await.unwrap().incarnation;
    // As a new supervisor does, while a child of the old one has not ended yet.
    let anew = Node::new(run.node().path().clone());
    let directory = it.scope.directory().unwrap();
    let name = CLERK.to_actor_name();
    directory.bind(&name, &anew, run.message_type()).unwrap();
    assert!(run.is_present());
    let refused = it.registry.cast(CLERK, Msg::Work).unwrap_err();
    assert!(
        matches!(refused.refusal, Refusal::NotRunning { .. }),
        "{refused}"
    );
}

#[tokio::test(start_paused = true)]
async fn reg_2_of_two_that_start_at_once_one_has_the_name_and_the_other_is_told_who() {
    let slow = || ChildSpec::worker("slow", || (Slow, ())).name(CLERK.to_actor_name());
    let below = |id: &str| generous().build().unwrap().into_child(id);
    let it = Fixture::start([below("a"), below("b")]).await;
    let handle = |id: &str| {
        let node = it.supervisor.node().child(id).unwrap();
        Supervisor::at(&node).unwrap()
    };
    let (a, b) = (handle("a"), handle("b"));
    let (first, second) = tokio::join!(a.start_child(slow()), b.start_child(slow()));
    first.unwrap();
    let text = second.unwrap_err().to_string();
    assert!(text.contains("`clerk` is held by t/a/slow"), "{text}");
    let held = it.registry.resolve(&CLERK).unwrap();
    assert_eq!(held.present().unwrap().path.as_str(), "t/a/slow");
    // Once its holder is gone it is free.
    a.terminate_child("slow").await.unwrap();
    b.start_child(slow()).await.unwrap();
    assert_eq!(held.present().unwrap().path.as_str(), "t/b/slow");
}

#[tokio::test(start_paused = true)]
async fn reg_2_an_actor_that_waits_for_its_restart_keeps_its_name() {
    let hour = Backoff::constant(3_600 * SECOND);
    let parked = named("a").budget(RestartIntensity::new(0, SECOND));
    for (a, expected) in [
        (named("a").backoff(hour), ChildState::Restarting),
        (
            parked.quarantine(Quarantine::new(hour)),
            ChildState::Quarantined,
        ),
    ] {
        let it = Fixture::start([a]).await;
        let node = it.supervisor.node().child("a").unwrap();
        node.current().unwrap().kill();
        tokio::time::sleep(SECOND).await;
        assert_eq!(node.state(), expected);
        let refused = it.supervisor.start_child(named("b")).await.unwrap_err();
        assert!(refused.to_string().contains("is held by t/a"), "{refused}");
        it.supervisor.resume_child("a").await.unwrap();
        let called = it.registry.call(CLERK, Msg::Who, SECOND).await;
        assert_eq!(called.unwrap().0, "a");
    }
}

#[tokio::test(start_paused = true)]
async fn reg_2_an_actor_whose_end_its_supervisor_has_not_heard_of_keeps_its_name() {
    let nested = |id: &str| generous().build().unwrap().into_child(id);
    let it = Fixture::start([nested("one"), nested("other")]).await;
    let handle = |id: &str| Supervisor::at(&it.supervisor.node().child(id).unwrap()).unwrap();
    let (one, other) = (handle("one"), handle("other"));
    one.start_child(named("a")).await.unwrap();
    let node = one.node().child("a").unwrap();
    // It is at this start, and hears of nothing else.
    let slow = ChildSpec::worker("slow", || (Slow, ()));
    let starting = tokio::spawn(async move { one.start_child(slow).await });
    let_others_run().await;
    let run = node.current().unwrap();
    run.kill();
    run.ended().await;
    assert_eq!(node.state(), ChildState::Stopped);
    let refused = other.start_child(named("b")).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("is held by t/one/a"), "{text}");
    starting.await.unwrap().unwrap();
    let called = it.registry.call(CLERK, Msg::Who, SECOND).await;
    assert_eq!(called.unwrap().0, "a");
}

#[tokio::test(start_paused = true)]
async fn reg_2_an_actor_that_was_terminated_does_not_keep_its_name() {
    let hour = Backoff::constant(3_600 * SECOND);
    for waits in [false, true] {
        let it = Fixture::start([named("a").backoff(hour)]).await;
        if waits {
            let run = it.supervisor.node().child("a").unwrap().current().unwrap();
            run.kill();
            tokio::time::sleep(SECOND).await;
        }
        it.stop("a").await;
        it.supervisor.start_child(named("b")).await.unwrap();
        let refused = it.supervisor.restart_child("a").await.unwrap_err();
        assert!(refused.to_string().contains("is held by t/b"), "{refused}");
        it.stop("b").await;
        it.restart("a").await;
        let called = it.registry.call(CLERK, Msg::Who, SECOND).await;
        assert_eq!(called.unwrap().0, "a");
    }
}

#[tokio::test(start_paused = true)]
async fn reg_2_an_actor_that_is_not_restarted_does_not_keep_its_name() {
    // Ended in order, and never to be restarted.
    for a in [named("a").transient(), named("a").temporary()] {
        let it = Fixture::start([a]).await;
        let run = it.supervisor.node().child("a").unwrap().current().unwrap();
        run.stop(ExitReason::Normal);
        run.ended().await;
        it.supervisor.start_child(named("b")).await.unwrap();
        let called = it.registry.call(CLERK, Msg::Who, SECOND).await;
        assert_eq!(called.unwrap().0, "b");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_was_lost_with_its_supervisor_does_not_keep_the_name() {
    let slow = || ChildSpec::worker("slow", || (Slow, ())).name(CLERK.to_actor_name());
    let lost = generous().build().unwrap().into_child("lost").temporary();
    let it = Fixture::start([lost]).await;
    let node = it.supervisor.node().child("lost").unwrap();
    let lost = Supervisor::at(&node).unwrap();
    let starting = tokio::spawn(async move { lost.start_child(slow()).await });
    let_others_run().await;
    let place = node.child("slow").unwrap();
    assert_eq!(place.state(), ChildState::Starting);
    let refused = it.supervisor.start_child(named("a")).await.unwrap_err();
    assert!(refused.to_string().contains("is held by t/lost/slow"));
    let run = node.current().unwrap();
    run.kill();
    run.ended().await;
    starting.await.unwrap().unwrap_err();
    it.supervisor.start_child(named("b")).await.unwrap();
    let called = it.registry.call(CLERK, Msg::Who, SECOND).await;
    assert_eq!(called.unwrap().0, "b");
}

#[tokio::test(start_paused = true)]
async fn reg_1_the_registry_and_the_tree_survive_each_others_restart() {
    let nested = |spec| generous().child(spec).build().unwrap().into_child("host");
    let it = Fixture::start([nested(named("a"))]).await;
    let mut watch = it.registry.watch(&CLERK).unwrap();
    let group = it.registry.group(&CLERKS).unwrap();
    let held = it.registry.resolve(&CLERK).unwrap();
    let host = it.supervisor.node().child("host").unwrap();
    group.join(&host.child("a").unwrap()).unwrap();
    for epoch in 1..=10 {
        let up = crate::watch::next(&mut watch).await;
        assert_eq!(up, format!("t/host/a is up (epoch {epoch})"));
        // The actor that keeps house is killed, and names are resolved and entered all the same.
        let registry = it.supervisor.node().child("registry").unwrap();
        let keeper = registry.current().unwrap();
        keeper.kill();
        held.call(Msg::Who, SECOND).await.unwrap();
        keeper.ended().await;
        // The supervisor of the named actor is killed, and with it the actor.
        host.running().await.kill();
        let down = crate::watch::next(&mut watch).await;
        assert!(down.starts_with("t/host/a is down"), "{down}");
        let (who, _) = held.call(Msg::Who, SECOND).await.unwrap();
        assert_eq!(who, "a");
        assert_eq!(group.len(), 1);
        within("the registry", registry.running()).await;
    }
    assert_eq!(it.registry.entries().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn reg_4_trees_that_run_side_by_side_never_meet_whatever_the_names() {
    let trees = (0..8).map(|_| Fixture::start([named("a"), member("b")]));
    let trees = futures_util::future::join_all(trees).await;
    for (number, it) in trees.iter().enumerate() {
        for _ in 0..number {
            it.registry.cast(CLERK, Msg::Work).unwrap();
        }
        it.crash("b").await;
    }
    for (number, it) in trees.iter().enumerate() {
        let (_, count) = it.registry.call(CLERK, Msg::Who, SECOND).await.unwrap();
        assert_eq!(count, number as u64);
        assert_eq!(it.registry.group(&CLERKS).unwrap().len(), 1);
        assert_eq!(it.scope.root().path().as_str(), "t");
    }
}

/// Takes a moment to start.
struct Slow;

impl Actor for Slow {
    type Msg = Msg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Msg>, _: ()) -> Result<(), ActorProcessingErr> {
        tokio::time::sleep(SECOND).await;
        Ok(())
    }
}

impl Fixture {
    async fn crash_for_good(&self, id: &str) {
        let node = self.supervisor.node().child(id).unwrap();
        let run = node.current().unwrap();
        run.stop(ExitReason::failed("told to"));
        run.ended().await;
        // Answered behind the notice of the end.
        self.supervisor.count_children().await.unwrap();
    }
}
