//! A name outlives every restart of its actor.

use std::time::Duration;

use perennial::{CallError, ChildSpec, Name, Tree};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

enum CounterMsg {
    Add(u64),
    Total(RpcReplyPort<u64>),
    Crash(RpcReplyPort<()>),
}
const COUNTER: Name<CounterMsg> = Name::new("counter");
const SECOND: Duration = Duration::from_secs(1);

struct Counter;

impl Actor for Counter {
    type Msg = CounterMsg;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<CounterMsg>, _: ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<CounterMsg>,
        message: CounterMsg,
        total: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CounterMsg::Add(amount) => *total += amount,
            CounterMsg::Total(reply) => reply.send(*total)?,
            CounterMsg::Crash(_reply) => return Err("out of paper".into()),
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tree = Tree::builder("names")
        .child(ChildSpec::worker("counter", || (Counter, ())))
        .start()
        .await?;

    // Resolved once; stays right when the actor is restarted.
    let counter = tree.resolve(&COUNTER)?;
    counter.cast(CounterMsg::Add(3))?;
    println!("before: {}", counter.call(CounterMsg::Total, SECOND).await?);

    match counter.call(CounterMsg::Crash, SECOND).await {
        Err(CallError::CalleeFailed { reason, .. }) => println!("the counter {reason}"),
        other => println!("unexpected: {other:?}"),
    }

    // A new incarnation with a fresh state, under the same name.
    println!(
        "after: {}",
        tree.call(COUNTER, CounterMsg::Total, SECOND).await?
    );

    let unknown: Name<CounterMsg> = Name::new("contour");
    if let Err(error) = tree.cast(unknown, CounterMsg::Add(1)) {
        println!("refused: {error}");
    }
    tree.shutdown().await;
    Ok(())
}
