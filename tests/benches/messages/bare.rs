//! ractor by itself.

use ractor::ActorRef;
use ractor::rpc::CallResult;

use crate::counter::{Counter, Message};
use crate::{Contender, TIMEOUT};

/// An actor that nobody supervises.
pub(crate) struct Actor(ActorRef<Message>);

impl Contender for Actor {
    const NAME: &'static str = "ractor";

    async fn start() -> Self {
        let spawned = ractor::Actor::spawn(None, Counter, ()).await;
        Self(spawned.expect("it starts").0)
    }

    fn cast(&self, message: Message) {
        self.0.cast(message).expect("the actor lives");
    }

    async fn call(&self) -> u64 {
        ractor::call!(self.0, Message::Total).expect("the actor lives")
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.0.stop(None);
    }
}

/// The same with a timeout for each call.
pub(crate) struct WithTimeout(Actor);

impl Contender for WithTimeout {
    const NAME: &'static str = "ractor, with timeout";

    async fn start() -> Self {
        Self(Actor::start().await)
    }

    fn cast(&self, message: Message) {
        self.0.cast(message);
    }

    async fn call(&self) -> u64 {
        match self.0.0.call(Message::Total, Some(TIMEOUT)).await {
            Ok(CallResult::Success(total)) => total,
            other => panic!("the actor lives: {other:?}"),
        }
    }
}
