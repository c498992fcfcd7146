//! Typed names to live actors.
//!
//! A [`Name<M>`] is a constant that says which messages its actor takes, so a cast of the wrong type does
//! not compile. A name outlives every restart of its actor: it points to the actor's place in the tree.
//!
//! ```
//! # use perennial_lifecycle::{ChildSpec, Scope};
//! # use perennial_supervisor::Supervisor;
//! # use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
//! use perennial_registry::{Name, Registry};
//! use std::time::Duration;
//!
//! enum CounterMsg {
//!     Add(u64),
//!     Total(RpcReplyPort<u64>),
//! }
//! const COUNTER: Name<CounterMsg> = Name::new("counter");
//! # struct Counter;
//! # impl Actor for Counter {
//! #     type Msg = CounterMsg;
//! #     type State = u64;
//! #     type Arguments = ();
//! #     async fn pre_start(&self, _: ActorRef<CounterMsg>, _: ()) -> Result<u64, ActorProcessingErr> { Ok(0) }
//! #     async fn handle(&self, _: ActorRef<CounterMsg>, m: CounterMsg, s: &mut u64) -> Result<(), ActorProcessingErr> {
//! #         match m { CounterMsg::Add(n) => *s += n, CounterMsg::Total(r) => { let _ = r.send(*s); } }
//! #         Ok(())
//! #     }
//! # }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let scope = Scope::new("shop");
//! # let registry = Registry::new(&scope);
//! # let spec = ChildSpec::worker("counter", || (Counter, ())).name(COUNTER);
//! # Supervisor::builder().child(spec).build()?.start_in(&scope).await?;
//! registry.cast(COUNTER, CounterMsg::Add(2))?;
//! let total = registry.call(COUNTER, CounterMsg::Total, Duration::from_secs(1)).await?;
//! assert_eq!(total, 2);
//! # Ok(())
//! # }
//! ```
//!
//! | to | use |
//! | --- | --- |
//! | send to one actor | [`cast`](Registry::cast), [`call`](Registry::call), [`Address`] |
//! | choose what happens while it is down | [`WhenDown`] |
//! | know which run is alive | [`Address::present`], [`wait_for`](Registry::wait_for) |
//! | hear of each run | [`watch`](Registry::watch) |
//! | spend a quota of one's own at the gate | [`Name::for_key`], [`Address::for_key`], [`Group::for_key`] |
//! | send to one of many, or to all | [`Group`] |
//!
//! # Guarantees
//!
//! - Resolving a name takes no message and no contended lock, also while the registry actor is down.
//! - A second live actor cannot take a name; the error names the holder.
//! - Every run of a name that is watched gives one up and one down, in order.
//! - A group has as members the runs that are alive.
//! - A message that is refused comes back. A call always ends by its deadline, and one that would close a cycle of
//!   actors waiting for each other is refused at once.
//! - A gate attached to a name is asked before each cast and call to it.
//!
//! # What it does not do
//!
//! It starts and restarts nothing. What waits for an actor that takes its messages plainly is lost when the actor
//! ends, and counted; one that takes them in a [`Mail`](perennial_lifecycle::Mail) goes on with them after its restart.

mod actor;
mod address;
mod dispatch;
mod error;
mod event;
mod gate;
mod group;
mod handle;
mod name;
mod named;
mod policy;
mod slot;
mod table;
mod watch;

pub use address::{Address, Present};
pub use error::{CallError, CastError, JoinError, Refusal, ResolveError};
pub use gate::{Gate, GateRefused, SenderKey};
pub use group::{Broadcast, Group, Member, Route};
pub use handle::{Entry, Registry};
pub use name::Name;
pub use policy::WhenDown;
pub use watch::{MissedRuns, NameEvent, NameWatch};
