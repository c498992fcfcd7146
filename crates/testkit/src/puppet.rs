use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

/// What a [`Puppet`] can be told to do.
#[derive(Debug)]
pub enum Order {
    /// Answer with the number.
    Echo(u64, RpcReplyPort<u64>),
    /// Remember the number.
    Store(u64),
    /// Answer with the number remembered; 0 at first and after a restart.
    Load(RpcReplyPort<u64>),
    /// Return an error with this text.
    Fail(&'static str),
    /// Panic with this text.
    Panic(&'static str),
    /// Never finish.
    Hang,
    /// Take this long, then answer.
    Work(Duration, RpcReplyPort<()>),
    /// Drop the reply port and go on.
    Mute(RpcReplyPort<u64>),
    /// Stop in order.
    Stop,
}

/// An actor that does what it is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Puppet;

impl Actor for Puppet {
    type Msg = Order;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Order>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        myself: ActorRef<Order>,
        order: Order,
        stored: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Echo(number, reply) => reply.send(number)?,
            Order::Store(number) => *stored = number,
            Order::Load(reply) => reply.send(*stored)?,
            Order::Fail(text) => return Err(text.into()),
            Order::Panic(text) => panic!("{text}"),
            Order::Hang => std::future::pending().await,
            Order::Work(time, reply) => {
                tokio::time::sleep(time).await;
                reply.send(())?;
            }
            Order::Mute(reply) => drop(reply),
            Order::Stop => myself.stop(None),
        }
        Ok(())
    }
}
