//! A subscriber of tracing that panics harms nobody. Alone here, since who listens is settled for a whole process.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use perennial::{ChildSpec, Name, Tree};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Panics at each event of ours, as one does that finds nowhere to write to.
struct Angry;

static EVENTS: AtomicUsize = AtomicUsize::new(0);

impl Subscriber for Angry {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("perennial")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        EVENTS.fetch_add(1, SeqCst);
        panic!("nowhere to write {}", event.metadata().name());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

const CLERK: Name<bool> = Name::new("clerk");

/// Fails at what is not true.
struct Clerk;

impl Actor for Clerk {
    type Msg = bool;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<bool>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<bool>,
        is_well: bool,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match is_well {
            true => Ok(()),
            false => Err("as told".into()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn tree_8_a_subscriber_of_tracing_that_panics_harms_nobody() {
    let _angry = tracing::subscriber::set_default(Angry);
    let tree = Tree::builder("t")
        .child(ChildSpec::worker("clerk", || (Clerk, ())))
        .start()
        .await
        .unwrap();
    let root = tree.root().node().current().unwrap();
    let clerk = tree.wait_for(&CLERK).await.unwrap().incarnation;
    tree.cast(CLERK, false).unwrap();
    clerk.ended().await;
    let clerk = tree.wait_for(&CLERK).await.unwrap().incarnation;
    assert!(tree.cast(Name::<bool>::new("nobody"), true).is_err());
    tree.debug().restart("t/host/clerk").await.unwrap();
    clerk.ended().await;
    tree.debug().kill("t/nobody").await.unwrap_err();
    assert_eq!(root.exit_reason().map(ToString::to_string), None);
    root.kill();
    root.ended().await;
    tokio::time::sleep(Duration::from_secs(180)).await;
    tree.wait_for(&CLERK).await.unwrap();
    tree.cast(CLERK, true).unwrap();
    let restarts = tree
        .root()
        .node()
        .children()
        .iter()
        .map(|it| it.restarts())
        .sum::<u64>();
    assert_eq!(restarts, 0);
    assert!(EVENTS.load(SeqCst) > 10);
    assert!(tree.shutdown().await.is_clean());
}
