//! Looking at a tree while it runs, and acting on it.

use std::time::Duration;

use perennial::{ChildSpec, Tree};
use ractor::{Actor, ActorProcessingErr, ActorRef};

struct Worker;

impl Actor for Worker {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, _: ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<()>, _: (), _: &mut ()) -> Result<(), ActorProcessingErr> {
        std::future::pending().await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tree = Tree::builder("inspected")
        .child(ChildSpec::worker("steady", || (Worker, ())))
        .child(ChildSpec::worker("stuck", || (Worker, ())))
        .start()
        .await?;
    let mut events = tree.debug().events();

    // A message that is never finished: the snapshot shows it and does not wait for it.
    let stuck: perennial::Name<()> = perennial::Name::new("stuck");
    tree.cast(stuck, ())?;
    tokio::time::sleep(Duration::from_millis(20)).await;

    let debug = tree.debug();
    debug.kill("inspected/host/steady").await?;
    while let Some(event) = events.next().await {
        if matches!(event?.kind, perennial::EventKind::Restarted { .. }) {
            break;
        }
    }

    let snapshot = debug.snapshot().await?;
    for path in ["inspected/host/steady", "inspected/host/stuck"] {
        if let Some(actor) = snapshot.find(path) {
            println!(
                "{path}: {}, {} restarts, message in hand: {}, last exit: {}",
                actor.state,
                actor.restarts,
                actor.in_hand_ms.is_some(),
                actor.last_exit.as_ref().map_or("none", |exit| exit.class)
            );
        }
    }
    if let Err(error) = debug.restart("inspected/host/stedy").await {
        println!("{error}");
    }
    // The whole tree as text; also `to_json()` and `to_mermaid()`.
    println!("{}", snapshot.render().lines().count() > 12);
    tree.shutdown().await;
    Ok(())
}
