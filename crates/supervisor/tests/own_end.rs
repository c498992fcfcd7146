//! Handlers that ask a supervisor for their own end.

#![allow(clippy::unwrap_used, reason = "this is a test, its helpers included")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use perennial_lifecycle::{ChildSpec, ExitReason};
use perennial_supervisor::{
    ChildTemplate, DynamicChild, DynamicSupervisor, OwnEnd, RestartChildError, Supervisor,
    TerminateChildError,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Does in its handler what it is given.
struct Asker;

type Work = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>;

impl Actor for Asker {
    type Msg = Work;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Work>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Work>,
        work: Work,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        work().await;
        Ok(())
    }
}

/// Has the child of this id ask, and returns the answer.
async fn asked_by<T: Send + 'static>(
    supervisor: &Supervisor,
    id: &str,
    ask: impl Future<Output = T> + Send + 'static,
) -> T {
    let path = format!("{}/{id}", supervisor.path());
    let node = supervisor.node().find(&path).unwrap();
    let asker = node.current().unwrap().actor_ref::<Work>().unwrap();
    let (tell, told) = oneshot::channel();
    let work = move || ask.map(|answer| drop(tell.send(answer))).boxed();
    asker.cast(Box::new(work)).unwrap();
    told.await.unwrap()
}

async fn supervisor() -> Supervisor {
    let below = Supervisor::builder().child(ChildSpec::worker("deep", || (Asker, ())));
    let builder = Supervisor::builder()
        .child(ChildSpec::worker("first", || (Asker, ())))
        .child(ChildSpec::worker("second", || (Asker, ())))
        .child(below.build().unwrap().into_child("below"));
    builder.build().unwrap().start("top").await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn sup_31_a_handler_that_would_wait_for_its_own_end_is_told_so_at_once() {
    let began = Instant::now();
    let top = supervisor().await;
    let it = top.clone();
    let own = asked_by(&top, "first", async move {
        (
            it.terminate_child("first").await,
            it.bounce_child("first").await,
        )
    });
    let (terminate, bounce) = own.await;
    let first = top.path().child("first");
    let is_own = |it: &OwnEnd| it.caller == first && it.target == first;
    assert!(matches!(terminate, Err(TerminateChildError::OwnEnd(end)) if is_own(&end)));
    assert!(matches!(bounce, Err(RestartChildError::OwnEnd(end)) if is_own(&end)));

    let it = top.clone();
    let above = async move { it.terminate_child("below").await };
    let refused = asked_by(&top, "below/deep", above).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "top/below/deep would wait in its handler for its own end, with that of top/below; ask from a task of its own"
    );
    assert_eq!(top.count_children().await.unwrap().active, 3);
    assert_eq!(began.elapsed(), Duration::ZERO);
    top.stop(ExitReason::Shutdown).await;
}

#[tokio::test(start_paused = true)]
async fn sup_31_a_handler_may_ask_for_the_end_of_others_and_a_task_of_its_own_for_its_own() {
    let top = supervisor().await;
    let it = top.clone();
    let other = async move { it.terminate_child("second").await };
    asked_by(&top, "first", other).await.unwrap();

    let it = top.clone();
    let (tell, told) = oneshot::channel();
    let task = async move {
        tokio::spawn(async move { tell.send(it.terminate_child("first").await) });
    };
    asked_by(&top, "first", task).await;
    told.await.unwrap().unwrap();
    assert_eq!(top.count_children().await.unwrap().active, 1);
    top.stop(ExitReason::Shutdown).await;
}

#[tokio::test(start_paused = true)]
async fn sup_31_a_handler_may_ask_for_the_end_of_one_at_its_path_in_another_tree() {
    let (top, other) = (supervisor().await, supervisor().await);
    let it = other.clone();
    let ask = async move {
        it.bounce_child("first").await.unwrap();
        it.terminate_child("first").await
    };
    asked_by(&top, "first", ask).await.unwrap();
    assert_eq!(top.count_children().await.unwrap().active, 3);
    assert_eq!(other.count_children().await.unwrap().active, 2);

    let template = ChildTemplate::worker("asker", |(): &()| (Asker, ()));
    let builder = DynamicSupervisor::builder(template);
    let other = builder.build().unwrap().start("top").await.unwrap();
    let child = other.start_child_named("first", ()).await.unwrap();
    let ask = async move { other.terminate_child(&child).await };
    asked_by(&top, "first", ask).await.unwrap();
    top.stop(ExitReason::Shutdown).await;
}

#[tokio::test(start_paused = true)]
async fn sup_31_a_handler_that_asks_a_supervisor_above_it_to_stop_does_not_wait() {
    let began = Instant::now();
    for asker in ["first", "below/deep"] {
        let top = supervisor().await;
        let it = top.clone();
        asked_by(
            &top,
            asker,
            async move { it.stop(ExitReason::Shutdown).await },
        )
        .await;
        assert!(matches!(top.ended().await, ExitReason::Shutdown));
    }
    // One that is not above is waited for.
    let top = supervisor().await;
    let below = Supervisor::at(&top.node().child("below").unwrap()).unwrap();
    let run = below.incarnation().unwrap();
    let ask = async move {
        below.stop(ExitReason::Shutdown).await;
        run.has_ended()
    };
    assert!(asked_by(&top, "first", ask).await);
    top.stop(ExitReason::Shutdown).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn sup_31_a_dynamic_child_is_told_so_too() {
    let template = ChildTemplate::worker("asker", |(): &()| (Asker, ()));
    let builder = DynamicSupervisor::builder(template);
    let pool = builder.build().unwrap().start("pool").await.unwrap();
    let child = pool.start_child_named("one", ()).await.unwrap();
    let asker = child.incarnation().actor_ref::<Work>().unwrap();
    let (tell, told) = oneshot::channel();
    let it = pool.clone();
    let work = async move {
        let answers = (
            it.terminate_child(&child).await,
            it.terminate_child_named("one").await,
        );
        drop(tell.send(answers));
    };
    asker.cast(Box::new(move || work.boxed())).unwrap();
    let (by_run, by_id) = told.await.unwrap();
    assert!(matches!(by_run, Err(TerminateChildError::OwnEnd(_))));
    assert!(matches!(by_id, Err(TerminateChildError::OwnEnd(_))));

    // A run that is over needs nothing, and its successor may say so.
    let before = pool.which_children().await.unwrap().remove(0).node;
    let child = DynamicChild::new(Arc::clone(&before), before.current().unwrap());
    child.incarnation().kill();
    child.incarnation().ended().await;
    pool.count_children().await.unwrap();
    let successor = before.current().unwrap().actor_ref::<Work>().unwrap();
    let (tell, told) = oneshot::channel();
    let it = pool.clone();
    let work = async move { drop(tell.send(it.terminate_child(&child).await)) };
    successor.cast(Box::new(move || work.boxed())).unwrap();
    assert_eq!(told.await.unwrap(), Ok(()));
    assert!(before.current().is_some());
    pool.stop(ExitReason::Shutdown).await;
}
