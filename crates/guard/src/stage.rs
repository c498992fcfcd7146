use std::time::Duration;

use perennial_pool::{Checkout, CheckoutError, Pool, PoolName, Pools, Worker};

/// The stage of a guard that lends what the operation works with.
pub trait Lend: Send + Sync {
    /// What the operation is given.
    type Item: Send;

    /// Lends an item within the time that is left; `None`: as the pool's own settings say.
    fn lend(
        &self,
        left: Option<Duration>,
    ) -> impl Future<Output = Result<Self::Item, CheckoutError>> + Send;
}

/// How a [`GuardBuilder`](crate::GuardBuilder) says which pool it wants: by handle, by name, or none.
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

impl ChoosePool for NoPool {
    type Stage = Self;

    fn choose(self, _: Option<&Pools>) -> Result<Self, String> {
        Ok(self)
    }
}

impl<W: Worker> Lend for Pool<W> {
    type Item = Checkout<W>;

    async fn lend(&self, left: Option<Duration>) -> Result<Checkout<W>, CheckoutError> {
        match left {
            Some(left) => self.checkout_within(left).await,
            None => self.checkout().await,
        }
    }
}

impl<W: Worker> ChoosePool for Pool<W> {
    type Stage = Self;

    fn choose(self, _: Option<&Pools>) -> Result<Self, String> {
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
