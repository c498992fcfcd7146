//! Probe actors and faulty workers for tests.
//!
//! [`Puppet`] is an actor that does what it is told, including everything that an actor should not do.
//! [`Journal`] is a list that tests write to from anywhere and wait on.
//! [`assert_books_balance!`] says whether each message of a tree is accounted for.
//! [`under_panicking_metrics`] runs something with a recorder that panics.
//!
//! ```
//! use perennial_testkit::{Order, Puppet};
//! use ractor::Actor;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (puppet, ended) = Actor::spawn(None, Puppet, ()).await?;
//! let answer = ractor::call!(puppet, |reply| Order::Echo(5, reply))?;
//! assert_eq!(answer, 5);
//! puppet.cast(Order::Fail("no paper"))?;
//! ended.await?;
//! # Ok(())
//! # }
//! ```

mod books;
mod journal;
mod puppet;
mod recorder;

pub use journal::Journal;
pub use puppet::{Order, Puppet};
pub use recorder::{OnRegister, under_panicking_metrics};
