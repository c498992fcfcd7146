use std::panic::Location;
use std::time::Duration;

use perennial_lifecycle::Count;
use perennial_pool::{Checkout, CheckoutError, Object, ObjectPool, Pool, PoolName, Pools, Worker};

/// The stage of a guard that lends what the operation works with.
///
/// [`Pool`] is one, which lends worker actors, and [`ObjectPool`] another, which lends plain objects. A pool of somebody
/// else's becomes one by implementing this; its items must go back when they are dropped.
pub trait Lend: Send + Sync {
    /// What the operation is given.
    type Item: Send;

    /// Lends an item within the time that is left, if there is a limit, and no later than the pool's own settings say.
    ///
    /// The time counts from the first poll. An item that is there at once should be lent without making a timer,
    /// which costs more than all the rest of a guard.
    ///
    /// # Errors
    ///
    /// [`CheckoutError`] says how the pool stood.
    ///
    /// # Cancel safety
    ///
    /// Must be cancel safe: the guard drops it when its own caller goes away.
    fn lend(
        &self,
        left: Option<Duration>,
    ) -> impl Future<Output = Result<Self::Item, CheckoutError>> + Send;

    /// Lends as [`lend`](Self::lend), to who called the guard at this place in the code.
    ///
    /// This is what a guard asks for. For pools that say who holds an item; the others need not know. `count` is what
    /// the processor's counter showed just now, where that was read: for pools whose clock goes by it as well, since
    /// to read it again may take longer than to lend. Default: `lend`.
    ///
    /// # Errors
    ///
    /// As [`lend`](Self::lend).
    ///
    /// # Cancel safety
    ///
    /// As [`lend`](Self::lend).
    fn lend_at(
        &self,
        left: Option<Duration>,
        _at: &'static Location<'static>,
        _count: Option<Count>,
    ) -> impl Future<Output = Result<Self::Item, CheckoutError>> + Send {
        self.lend(left)
    }
}

/// How a [`GuardBuilder`](crate::GuardBuilder) says which pool it wants: by itself ([`Lend`]) or by name.
pub trait ChoosePool {
    /// What the built guard lends from.
    type Stage: Lend;

    /// Finds the pool; `Err` carries the name that leads nowhere.
    ///
    /// # Errors
    ///
    /// The name of a pool that is not there, or is of another worker type.
    fn choose(self, pools: Option<&Pools>) -> Result<Self::Stage, String>;
}

/// No pool: the operation is given `()`.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPool;

impl Lend for NoPool {
    type Item = ();

    async fn lend(&self, _: Option<Duration>) -> Result<(), CheckoutError> {
        Ok(())
    }
}

impl<W: Worker> Lend for Pool<W> {
    type Item = Checkout<W>;

    #[track_caller]
    fn lend(
        &self,
        left: Option<Duration>,
    ) -> impl Future<Output = Result<Checkout<W>, CheckoutError>> + Send {
        self.checkout_at(left, Location::caller(), None)
    }

    fn lend_at(
        &self,
        left: Option<Duration>,
        at: &'static Location<'static>,
        count: Option<Count>,
    ) -> impl Future<Output = Result<Checkout<W>, CheckoutError>> + Send {
        self.checkout_at(left, at, count)
    }
}

impl<T: Send> Lend for ObjectPool<T> {
    type Item = Object<T>;

    #[track_caller]
    fn lend(
        &self,
        left: Option<Duration>,
    ) -> impl Future<Output = Result<Object<T>, CheckoutError>> + Send {
        self.checkout_at(left, Location::caller())
    }

    fn lend_at(
        &self,
        left: Option<Duration>,
        at: &'static Location<'static>,
        _: Option<Count>,
    ) -> impl Future<Output = Result<Object<T>, CheckoutError>> + Send {
        self.checkout_at(left, at)
    }
}

impl<L: Lend> ChoosePool for L {
    type Stage = L;

    fn choose(self, _: Option<&Pools>) -> Result<L, String> {
        Ok(self)
    }
}

impl<W: Worker> ChoosePool for PoolName<W> {
    type Stage = Pool<W>;

    fn choose(self, pools: Option<&Pools>) -> Result<Pool<W>, String> {
        pools
            .and_then(|pools| pools.get(self))
            .ok_or_else(|| self.as_str().to_owned())
    }
}
