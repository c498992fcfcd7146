//! A name that stands for many actors.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use perennial_lifecycle::{ActorPath, ChildSpec, EventKind, ExitReason, Node, Scope};
use perennial_registry::{
    CallError, Gate, GateRefused, Group, Name, Refusal, Registry, Route, SenderKey, WhenDown,
};
use perennial_supervisor::{ChildTemplate, DynamicSupervisor};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;

use crate::support::*;

async fn clerks() -> (Fixture, Group<Msg>) {
    let it = Fixture::start(["a", "b", "c"].map(member)).await;
    let group = it.registry.group(&CLERKS).unwrap();
    (it, group)
}

fn paths(group: &Group<Msg>) -> Vec<String> {
    let members = group.members().into_iter();
    members.map(|it| it.path().id().to_owned()).collect()
}

async fn who(group: &Group<Msg>, route: Route) -> String {
    let answer = group.call(route, Msg::Who, SECOND).await;
    answer.unwrap().0
}

/// Returns how much work each member has done.
async fn work(group: &Group<Msg>) -> BTreeMap<String, u64> {
    let mut work = BTreeMap::new();
    for _ in 0..group.len() {
        let answer = group.call(Route::RoundRobin, Msg::Who, SECOND).await;
        work.extend([answer.unwrap()]);
    }
    work
}

#[tokio::test(start_paused = true)]
async fn reg_16_members_join_and_leave_with_their_lives() {
    let (it, group) = clerks().await;
    assert_eq!(paths(&group), ["a", "b", "c"]);
    it.stop("b").await;
    assert_eq!(paths(&group), ["a", "c"]);
    it.restart("b").await;
    assert_eq!(group.len(), 3);
    it.crash("a").await;
    assert_eq!(group.len(), 3);
    // One that was asked to stop takes no more: what comes behind that would be lost.
    let node = it.supervisor.node().child("c").unwrap();
    let run = node.current().unwrap();
    run.stop(ExitReason::failed("asked"));
    assert_eq!(group.len(), 2);
    assert_eq!(paths(&group), ["a", "b"]);
    run.ended().await;
    within("the restart", node.running()).await;
    let listed = it.registry.groups();
    assert_eq!(listed, [(CLERKS.to_actor_name(), 3)]);
}

/// Takes other messages than a clerk.
struct Typist;

impl Actor for Typist {
    type Msg = u8;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<u8>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn reg_16_a_group_that_has_no_place_any_more_takes_other_messages() {
    let typists = Name::<u8>::new("clerks");
    let it = Fixture::start([member("a")]).await;
    let typist = || ChildSpec::worker("t", || (Typist, ())).group(typists.to_actor_name());
    // Its place is there, and may be occupied again.
    it.stop("a").await;
    it.supervisor.start_child(typist()).await.unwrap_err();
    assert!(it.registry.group(&typists).is_err());
    it.supervisor.delete_child("a").await.unwrap();
    it.supervisor.start_child(typist()).await.unwrap();
    let group = it.registry.group(&typists).unwrap();
    group.cast(Route::RoundRobin, 1).unwrap();
    assert!(it.registry.group(&CLERKS).is_err());

    it.supervisor.terminate_child("t").await.unwrap();
    it.supervisor.delete_child("t").await.unwrap();
    // Whoever has it goes on with it.
    assert!(it.registry.group(&CLERKS).is_err());
    drop(group);
    it.registry.group(&CLERKS).unwrap();
    it.supervisor.start_child(member("a")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn reg_17_in_turn_each_member_has_as_much() {
    let (it, group) = clerks().await;
    for _ in 0..30 {
        group.cast(Route::RoundRobin, Msg::Work).unwrap();
    }
    let even = |each: u64| BTreeMap::from(["a", "b", "c"].map(|id| (id.to_owned(), each)));
    assert_eq!(work(&group).await, even(10));
    // While one is away the others share its turns evenly.
    it.stop("b").await;
    for _ in 0..20 {
        group.cast(Route::RoundRobin, Msg::Work).unwrap();
    }
    let done = work(&group).await;
    assert!((19..=21).contains(&done["a"]), "{done:?}");
    assert_eq!(done["a"] + done["c"], 40);
}

#[tokio::test(start_paused = true)]
async fn reg_17_the_least_queued_member_is_spared_what_waits_at_others() {
    let (_it, group) = clerks().await;
    // Two hang, and have messages behind that.
    for key in [0_u64, 1] {
        let busy = group.members()[usize::try_from(key).unwrap()].clone();
        let cell: ActorRef<Msg> = busy.incarnation().actor_ref().unwrap();
        cell.cast(Msg::Hang).unwrap();
    }
    let_others_run().await;
    for _ in 0..50 {
        let free = who(&group, Route::LeastQueued).await;
        assert_eq!(free, "c");
    }
}

#[tokio::test(start_paused = true)]
async fn reg_18_a_key_stays_with_its_member_while_others_come_and_go() {
    let (it, group) = clerks().await;
    let owner = async |key: u32| who(&group, Route::key(&key)).await;
    let mut before = BTreeMap::new();
    for key in 0..60 {
        before.insert(key, owner(key).await);
    }
    it.crash("a").await;
    it.stop("b").await;
    for (key, was) in &before {
        let is = owner(*key).await;
        assert!(
            is != "b" && (is == *was || was == "b"),
            "{key}: {was}, {is}"
        );
    }
    it.restart("b").await;
    for (key, was) in &before {
        assert_eq!(owner(*key).await, *was);
    }
}

#[tokio::test(start_paused = true)]
async fn reg_19_a_broadcast_reaches_every_member_once() {
    let (it, group) = clerks().await;
    let mut made_for = Vec::new();
    let make = |member: &perennial_registry::Member| {
        made_for.push(member.path().id().to_owned());
        Msg::Work
    };
    let sent = group.broadcast_with(make).unwrap();
    assert_eq!((sent.delivered, sent.missed), (3, 0));
    assert_eq!(made_for, ["a", "b", "c"]);
    assert!(work(&group).await.values().all(|count| *count == 1));
    for id in ["a", "b", "c"] {
        it.stop(id).await;
    }
    let sent = group.broadcast_with(|_| Msg::Work).unwrap();
    assert_eq!((sent.delivered, sent.missed), (0, 0));
}

/// Takes a message that is `Clone`.
struct Listener;

const LISTENERS: Name<&'static str> = Name::new("listeners");

impl Actor for Listener {
    type Msg = &'static str;
    type State = ();
    type Arguments = tokio::sync::mpsc::Sender<&'static str>;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        _: Self::Arguments,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn reg_19_a_message_that_is_clone_is_broadcast_as_it_is() {
    let (told, _heard) = tokio::sync::mpsc::channel(1);
    let listener = |id: &str| {
        let told = told.clone();
        ChildSpec::worker(id, move || (Listener, told.clone())).group(LISTENERS.to_actor_name())
    };
    let it = Fixture::start([listener("a"), listener("b")]).await;
    let group = it.registry.group(&LISTENERS).unwrap();
    assert_eq!(group.broadcast(&"news").unwrap().delivered, 2);
    let_others_run().await;
    for member in group.members() {
        assert_eq!(member.incarnation().handled(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn reg_20_a_group_without_members_waits_or_fails_as_the_policy_says() {
    let it = Fixture::start([]).await;
    let group = it.registry.group(&CLERKS).unwrap();
    let refused = group.cast(Route::RoundRobin, Msg::Work).unwrap_err();
    assert!(matches!(refused.refusal, Refusal::NoMember { .. }));
    assert!(refused.refusal.is_retryable());
    let begin = Instant::now();
    let failing = group.clone().when_down(WhenDown::Fail);
    let error = failing.call(Route::LeastQueued, Msg::Who, SECOND).await;
    let no_member = |error: CallError<_>| matches!(error.refusal(), Some(Refusal::NoMember { .. }));
    assert!(no_member(error.unwrap_err()));
    assert_eq!(begin.elapsed(), Duration::ZERO);
    let error = group.call(Route::LeastQueued, Msg::Who, SECOND).await;
    assert!(no_member(error.unwrap_err()));
    assert_eq!(begin.elapsed(), SECOND);
    // One that joins is found by those who wait.
    let waiting = {
        let group = group.clone();
        tokio::spawn(async move { who(&group, Route::key("k")).await })
    };
    let_others_run().await;
    it.supervisor.start_child(member("late")).await.unwrap();
    assert_eq!(within("the call", waiting).await.unwrap(), "late");
}

#[tokio::test(start_paused = true)]
async fn a_gate_stands_before_a_group_too() {
    struct Shut;
    impl Gate for Shut {
        fn admit(&self) -> Result<(), GateRefused> {
            Err(GateRefused {
                retry_after: Some(SECOND),
            })
        }
    }
    let (it, group) = clerks().await;
    it.registry.set_gate(CLERKS.as_actor_name(), Box::new(Shut));
    let refused = group.cast(Route::RoundRobin, Msg::Work).unwrap_err();
    assert_eq!(refused.refusal.retry_after(), Some(SECOND));
    let refused = group.broadcast_with(|_| Msg::Work).unwrap_err();
    assert_eq!(refused.retry_after(), Some(SECOND));
    it.registry.clear_gate(CLERKS.as_actor_name());
    assert_eq!(work(&group).await["a"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_gate_before_a_group_is_given_the_key_too() {
    /// Admits only who gives a key.
    struct Strangers;
    impl Gate for Strangers {
        fn admit(&self) -> Result<(), GateRefused> {
            Err(GateRefused {
                retry_after: Some(SECOND),
            })
        }
        fn admit_for(&self, _: SenderKey) -> Result<(), GateRefused> {
            Ok(())
        }
    }
    let (it, group) = clerks().await;
    it.registry
        .set_gate(CLERKS.as_actor_name(), Box::new(Strangers));
    group.cast(Route::RoundRobin, Msg::Work).unwrap_err();
    let ada = it.registry.group(&CLERKS.for_key("ada")).unwrap();
    for ada in [ada, group.for_key("ada")] {
        ada.cast(Route::RoundRobin, Msg::Work).unwrap();
        assert_eq!(ada.broadcast_with(|_| Msg::Work).unwrap().delivered, 3);
        ada.call(Route::RoundRobin, Msg::Who, SECOND).await.unwrap();
    }
}

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
async fn one_that_takes_other_messages_than_the_members_does_not_start() {
    let (it, group) = clerks().await;
    let other = ChildSpec::worker("other", || (Other, ()));
    let other = other.group(CLERKS.to_actor_name());
    let error = it.supervisor.start_child(other).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("of the group `clerks` take "), "{text}");
    let stray = ChildSpec::worker("stray", || (Other, ()));
    it.supervisor.start_child(stray).await.unwrap();
    let stray = it.supervisor.node().child("stray").unwrap();
    group.join(&stray).unwrap_err();
    assert_eq!(paths(&group), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn reg_16_members_that_nobody_has_looked_for_are_forgotten() {
    let it = Fixture::start([]).await;
    let spec = member("x").temporary();
    it.supervisor.start_child(spec).await.unwrap();
    let place = Arc::downgrade(&it.supervisor.node().child("x").unwrap());
    it.stop("x").await;
    it.registry.sweep();
    assert!(place.upgrade().is_none());
    // The group is gone with it, and may come back with others.
    let other = ChildSpec::worker("other", || (Other, ()));
    let other = other.group(CLERKS.to_actor_name());
    it.supervisor.start_child(other).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn reg_16_a_tree_that_is_gone_leaves_no_member_behind() {
    for looks in [false, true] {
        let it = Fixture::start([member("x")]).await;
        let group = it.registry.group(&CLERKS).unwrap();
        if looks {
            assert_eq!(group.len(), 1);
        }
        let place = Arc::downgrade(&it.supervisor.node().child("x").unwrap());
        it.supervisor.stop(ExitReason::Shutdown).await;
        drop((it, group));
        // What it holds of itself goes with its task.
        tokio::time::sleep(SECOND).await;
        assert!(place.upgrade().is_none(), "looks: {looks}");
    }
}

#[tokio::test(start_paused = true)]
async fn reg_16_a_tree_that_outlives_its_registry_leaves_no_member_behind() {
    let spec = || member("x").name(CLERK.to_actor_name());
    // The word of the group may be the name of its member.
    for spec in [spec(), spec().name(CLERKS.to_actor_name())] {
        let scope = Scope::new("t");
        let registry = Registry::new(&scope);
        let supervisor = generous().child(spec).build().unwrap();
        let supervisor = supervisor.start_in(&scope).await.unwrap();
        let group = registry.group(&CLERKS).unwrap();
        let place = Arc::downgrade(&supervisor.node().child("x").unwrap());
        drop(registry);
        // Who has the group goes on with it.
        let node = place.upgrade().unwrap();
        node.current().unwrap().stop(ExitReason::failed("asked"));
        within("the restart", async {
            while node.incarnations() < 2 || !node.is_occupied() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(group.len(), 1);
        drop((group, node));
        supervisor.stop(ExitReason::Shutdown).await;
        drop((supervisor, scope));
        // What it holds of itself goes with its task.
        tokio::time::sleep(SECOND).await;
        assert!(place.upgrade().is_none());
    }
}

/// Uses the registry when it is dropped, as a guard does that frees something.
#[derive(Debug, thiserror::Error)]
#[error("nosy")]
struct Nosy {
    registry: Registry,
    dropped: mpsc::Sender<bool>,
}

impl Drop for Nosy {
    fn drop(&mut self) {
        let registry = self.registry.clone();
        let (tell, told) = mpsc::channel();
        // Elsewhere, since here it would wait for ever where something is locked.
        std::thread::spawn(move || {
            drop(registry.watch(&CLERK));
            let group = registry.group(&CLERKS).unwrap();
            group.leave(&Node::new(ActorPath::root("t")));
            tell.send((group.len(), registry.groups()))
        });
        let is_free = told.recv_timeout(5 * SECOND).is_ok();
        let sent = self.dropped.send(is_free);
        assert!(sent.is_ok() || std::thread::panicking());
    }
}

impl Gate for Nosy {
    fn admit(&self) -> Result<(), GateRefused> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_is_replaced_or_taken_away_is_dropped_where_it_may_use_the_registry() {
    let it = Fixture::start([named("a")]).await;
    let (dropped, told) = mpsc::channel();
    let gate = || {
        let (registry, dropped) = (it.registry.clone(), dropped.clone());
        Box::new(Nosy { registry, dropped })
    };
    let name = CLERK.to_actor_name();
    it.registry.set_gate(&name, gate());
    it.registry.set_gate(&name, gate());
    it.registry.clear_gate(&name);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [true, true]);
}

#[tokio::test(start_paused = true)]
async fn what_a_run_that_is_forgotten_holds_is_dropped_where_it_may_use_the_registry() {
    #[derive(Clone, Copy, Debug)]
    enum By {
        Look,
        Joining,
        Leaving,
        Sweep,
        Watch,
    }
    for by in [By::Look, By::Joining, By::Leaving, By::Sweep, By::Watch] {
        let it = Fixture::start([]).await;
        let group = it.registry.group(&CLERKS).unwrap();
        let start = async |id: &str| {
            let mut spec = clerk(id).temporary();
            match by {
                By::Watch => spec = spec.name(CLERK.to_actor_name()),
                _ => spec = spec.group(CLERKS.to_actor_name()),
            }
            it.supervisor.start_child(spec).await.unwrap();
            it.supervisor.node().child(id).unwrap()
        };
        if let By::Watch = by {
            drop(it.registry.watch(&CLERK).unwrap());
        }
        let node = start("x").await;
        assert_eq!(group.len(), usize::from(!matches!(by, By::Watch)));
        let (dropped, told) = mpsc::channel();
        let registry = it.registry.clone();
        let reason = ExitReason::failed(Nosy { registry, dropped });
        let run = node.current().unwrap();
        run.stop(reason);
        run.ended().await;
        drop(run);
        it.supervisor.count_children().await.unwrap();
        // The tree forgets why it has ended; the group and the watch still hold the run.
        for _ in 0..5_000 {
            let started = EventKind::Started { incarnation: 1 };
            it.scope.events().emit(node.path(), started);
        }
        let node = Some(node).filter(|_| matches!(by, By::Leaving));
        tokio::time::sleep(SECOND).await;
        assert!(told.try_recv().is_err(), "{by:?}: too early");
        match by {
            By::Look => {
                start("y").await;
                assert_eq!(group.len(), 1);
            }
            By::Joining | By::Watch => {
                for number in 0..20 {
                    start(&format!("y{number}")).await;
                    it.stop(&format!("y{number}")).await;
                }
            }
            By::Leaving => {
                // Its place goes with it.
                group.leave(&node.unwrap());
                assert!(group.is_empty());
            }
            By::Sweep => {
                it.registry.sweep();
            }
        }
        let is_free = within("the drop", async {
            loop {
                match told.try_recv() {
                    Ok(is_free) => return is_free,
                    Err(_) => tokio::time::sleep(SECOND).await,
                }
            }
        });
        assert!(is_free.await, "{by:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_that_leaves_a_group_takes_no_other_of_its_path_along() {
    let it = Fixture::start([member("x").temporary()]).await;
    let group = it.registry.group(&CLERKS).unwrap();
    let old = it.supervisor.node().child("x").unwrap();
    it.stop("x").await;
    it.supervisor.start_child(member("x")).await.unwrap();
    group.leave(&old);
    assert_eq!(paths(&group), ["x"]);
    group.leave(&it.supervisor.node().child("x").unwrap());
    assert!(group.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_place_joins_and_leaves_a_group_at_run_time() {
    let it = Fixture::start([clerk("x")]).await;
    let group = it.registry.group(&CLERKS).unwrap();
    let node = it.supervisor.node().child("x").unwrap();
    group.join(&node).unwrap();
    group.join(&node).unwrap();
    assert_eq!(paths(&group), ["x"]);
    it.crash("x").await;
    assert_eq!(paths(&group), ["x"]);
    group.leave(&node);
    assert!(group.is_empty());
    it.crash("x").await;
    assert!(group.is_empty());
}

#[tokio::test(start_paused = true)]
async fn reg_16_dynamic_children_are_members_by_their_template() {
    let it = Fixture::start([]).await;
    let template = ChildTemplate::worker("clerk", |id: &String| (Clerk, id.clone()));
    let template = template.group(CLERKS.to_actor_name()).temporary();
    let builder = DynamicSupervisor::builder(template);
    let scope = perennial_lifecycle::Scope::new("d");
    let registry = perennial_registry::Registry::new(&scope);
    let dynamic = builder.build().unwrap().start_in(&scope).await.unwrap();
    let group = registry.group(&CLERKS).unwrap();
    for round in 0..100 {
        let child = dynamic.start_child(format!("c{round}")).await.unwrap();
        assert_eq!(group.len(), 1);
        assert_eq!(who(&group, Route::RoundRobin).await, format!("c{round}"));
        dynamic.terminate_child(&child).await.unwrap();
        assert_eq!(group.len(), 0);
    }
    drop(group);
    assert_eq!(registry.sweep(), 1);
    drop(it);
}
