//! The actor that everybody sends to, with and without an envelope around its messages.

use perennial::Mail;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

pub(crate) enum Message {
    Count,
    /// Counts too.
    Total(RpcReplyPort<u64>),
}

pub(crate) struct Counter;

impl Actor for Counter {
    type Msg = Message;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Message>, _: ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        total: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        count(message, total)
    }
}

/// The same, with an envelope.
pub(crate) struct Enveloped;

impl Actor for Enveloped {
    type Msg = Mail<Message>;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, _: ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Self::Msg,
        total: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        count(message.into_inner(), total)
    }
}

fn count(message: Message, total: &mut u64) -> Result<(), ActorProcessingErr> {
    *total += 1;
    match message {
        Message::Count => Ok(()),
        Message::Total(reply) => Ok(reply.send(*total)?),
    }
}
