//! A supervisor with its children, under one measuring stick for all contenders.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::Instant;

/// How a child is told to end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// It returns an error.
    Error,
    /// It panics.
    Panic,
}

/// The error that a child returns. It takes no room, so nobody pays for an allocation that is not his.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("crashed as it was told to")]
pub(crate) struct Crash;

/// Where a new run says that its `pre_start` is through.
#[derive(Clone)]
pub(crate) struct Births<A>(mpsc::Sender<(usize, A)>);

impl<A> Births<A> {
    pub(crate) fn announce(&self, index: usize, address: A) {
        // Fails only when the fleet was dropped, and then nobody measures.
        drop(self.0.try_send((index, address)));
    }
}

/// Somebody who supervises.
pub(crate) trait Contender: Send + 'static {
    /// His name in the tables.
    const NAME: &'static str;

    /// How one of his children is reached.
    type Address: Send + Sync + 'static;
    /// All that can be made ready before the start.
    type Plan: Send;
    /// What holds the children up.
    type Root: Send;

    /// Describes the children; not measured.
    fn plan(children: usize, births: Births<Self::Address>) -> Self::Plan;

    /// Starts them.
    fn start(plan: Self::Plan) -> impl Future<Output = Self::Root> + Send;

    /// Tells one of them to end.
    fn end(address: &Self::Address, end: End);

    /// Stops them, the last one first if he can, and waits for the end of all.
    fn stop(root: Self::Root, children: Vec<Self::Address>) -> impl Future<Output = ()> + Send;
}

/// A fleet of any contender.
pub(crate) trait Measured: Send {
    fn name(&self) -> &'static str;

    /// Ends one child and waits until it is up again.
    fn crash(&mut self, index: usize, end: End) -> BoxFuture<'_, Duration>;

    /// Ends many children at once and waits until all are up again.
    fn storm<'a>(&'a mut self, victims: &'a [usize], end: End) -> BoxFuture<'a, Duration>;

    fn stop(self: Box<Self>) -> BoxFuture<'static, Duration>;
}

pub(crate) struct Fleet<C: Contender> {
    root: C::Root,
    births: mpsc::Receiver<(usize, C::Address)>,
    children: Vec<C::Address>,
}

impl<C: Contender> Fleet<C> {
    /// Starts a fleet and says how long it took until all children were up.
    pub(crate) async fn start(children: usize) -> (Self, Duration) {
        let (sender, mut births) = mpsc::channel(children);
        let plan = C::plan(children, Births(sender));
        let mut born = Vec::with_capacity(children);
        let begin = Instant::now();
        let root = C::start(plan).await;
        while born.len() < children {
            born.push(births.recv().await.expect("the children are on their way"));
        }
        let took = begin.elapsed();
        born.sort_unstable_by_key(|(index, _)| *index);
        let fleet = Self {
            root,
            births,
            children: born.into_iter().map(|(_, address)| address).collect(),
        };
        settle().await;
        (fleet, took)
    }
}

impl<C: Contender> Measured for Fleet<C> {
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn crash(&mut self, index: usize, end: End) -> BoxFuture<'_, Duration> {
        Box::pin(async move {
            let begin = Instant::now();
            C::end(&self.children[index], end);
            let (born, address) = self.births.recv().await.expect("it is started again");
            let took = begin.elapsed();
            assert_eq!(born, index, "only the child that ended is started again");
            self.children[index] = address;
            settle().await;
            took
        })
    }

    fn storm<'a>(&'a mut self, victims: &'a [usize], end: End) -> BoxFuture<'a, Duration> {
        Box::pin(async move {
            let mut born = Vec::with_capacity(victims.len());
            let begin = Instant::now();
            for victim in victims {
                C::end(&self.children[*victim], end);
            }
            while born.len() < victims.len() {
                born.push(self.births.recv().await.expect("all are started again"));
            }
            let took = begin.elapsed();
            for (index, address) in born {
                self.children[index] = address;
            }
            settle().await;
            took
        })
    }

    fn stop(self: Box<Self>) -> BoxFuture<'static, Duration> {
        Box::pin(async move {
            let begin = Instant::now();
            C::stop(self.root, self.children).await;
            let took = begin.elapsed();
            settle().await;
            took
        })
    }
}

/// Lets everybody finish what nobody waits for, so that the next measurement does not pay for it.
pub(crate) async fn settle() {
    for _ in 0..16 {
        yield_now().await;
    }
}
