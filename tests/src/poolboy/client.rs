//! A client: a task that asks, holds, gives back, and runs transactions, one thing at a time.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, panic_any, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use perennial::pool::{Checkout, CheckoutError, Pool, Timeout};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::record::{How, Mode};
use super::worker::{RecordedWorker, Roll};

#[derive(Debug)]
pub(crate) enum Command {
    Checkout {
        call: String,
        mode: Mode,
        timeout: Option<Duration>,
    },
    Checkin {
        worker: String,
    },
    TxBegin {
        call: String,
        timeout: Option<Duration>,
    },
    TxEnd {
        how: How,
    },
}

/// What the pool has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Worker(String),
    Full,
    Timeout,
    Closed,
    Other(String),
}

/// What all clients have been told since the last look.
#[derive(Clone, Default)]
pub(crate) struct News(Arc<Mutex<Told>>);

#[derive(Default)]
pub(crate) struct Told {
    /// By call.
    pub(crate) answers: BTreeMap<String, Answer>,
    /// How transactions have ended, by call.
    pub(crate) ends: BTreeMap<String, &'static str>,
}

impl News {
    pub(crate) fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, call: &str, answer: Answer) {
        self.told().answers.insert(call.to_owned(), answer);
    }
}

/// What a client's task and the replay have in common.
struct Shared {
    pool: Pool<RecordedWorker>,
    roll: Roll,
    news: News,
    /// In the order in which they were got.
    held: Mutex<Vec<(String, Checkout<RecordedWorker>)>>,
    /// The workers of the running transactions, the innermost last.
    running: Mutex<Vec<String>>,
}

pub(crate) struct Client {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

impl Client {
    pub(crate) fn start(pool: &Pool<RecordedWorker>, roll: &Roll, news: &News) -> Self {
        let shared = Arc::new(Shared {
            pool: pool.clone(),
            roll: roll.clone(),
            news: news.clone(),
            held: Mutex::default(),
            running: Mutex::default(),
        });
        let (commands, mut inbox) = mpsc::channel(8);
        let task = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move { while shared.run(&mut inbox).await.is_some() {} }
        });
        Self {
            shared,
            commands,
            task,
        }
    }

    pub(crate) fn tell(&self, command: Command) {
        self.commands
            .try_send(command)
            .expect("a client that lives takes one command at a time");
    }

    pub(crate) fn holds(&self, worker: &str) -> bool {
        self.shared.held().iter().any(|(name, _)| name == worker)
    }

    /// Takes away what the client holds.
    pub(crate) fn take(&self, worker: &str) -> Option<Checkout<RecordedWorker>> {
        self.shared.take(worker)
    }

    /// The worker that the innermost transaction gives back at its end.
    pub(crate) fn running(&self) -> Option<String> {
        self.shared.running().last().cloned()
    }

    /// Ends the client without a word: what it holds goes first, in order, then what it waits for.
    pub(crate) async fn kill(self) {
        let held = std::mem::take(&mut *self.shared.held());
        for (_, checkout) in held {
            drop(checkout);
        }
        self.task.abort();
        drop(self.task.await);
    }
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, Vec<(String, Checkout<RecordedWorker>)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, Vec<String>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out commands, up to the end of the innermost transaction; `None` when there are no more.
    fn run<'a>(
        self: &'a Arc<Self>,
        inbox: &'a mut mpsc::Receiver<Command>,
    ) -> Pin<Box<dyn Future<Output = Option<How>> + Send + 'a>> {
        Box::pin(async move {
            while let Some(command) = inbox.recv().await {
                match command {
                    Command::Checkout {
                        call,
                        mode,
                        timeout,
                    } => {
                        let answer = match mode {
                            Mode::Nonblock => self.pool.try_checkout().await,
                            Mode::Block => self.pool.checkout_within(limit(timeout)).await,
                        };
                        let answer = match answer {
                            Ok(checkout) => Answer::Worker(self.hold(checkout)),
                            Err(error) => refusal(&error),
                        };
                        self.news.answer(&call, answer);
                    }
                    // Nothing if it does not hold it.
                    Command::Checkin { worker } => drop(self.take(&worker)),
                    Command::TxBegin { call, timeout } => {
                        self.transact(&call, timeout, inbox).await;
                    }
                    Command::TxEnd { how } => return Some(how),
                }
            }
            None
        })
    }

    async fn transact(
        self: &Arc<Self>,
        call: &str,
        timeout: Option<Duration>,
        inbox: &mut mpsc::Receiver<Command>,
    ) {
        let work = async |checkout| {
            let holding = Holding {
                shared: self,
                worker: self.hold(checkout),
            };
            let worker = holding.worker.clone();
            self.running().push(worker.clone());
            self.news.answer(call, Answer::Worker(worker));
            match self.run(inbox).await {
                Some(How::Return) | None => Ok(()),
                Some(How::Error) => Err("error"),
                Some(How::Throw) => panic_any("throw"),
                Some(How::Exit) => resume_unwind(Box::new("exit")),
            }
        };
        let transaction = self.pool.transaction_within(limit(timeout), work);
        let end = match AssertUnwindSafe(transaction).catch_unwind().await {
            Ok(Ok(Ok(()))) => "returned",
            Ok(Ok(Err(error))) => error,
            Ok(Err(refused)) => return self.news.answer(call, refusal(&refused)),
            Err(payload) => payload.downcast_ref().copied().unwrap_or("panicked"),
        };
        self.news.told().ends.insert(call.to_owned(), end);
    }

    fn hold(&self, checkout: Checkout<RecordedWorker>) -> String {
        let actor = checkout.incarnation().cell().get_id();
        let started = &self.roll.entries().started;
        let index = started.iter().position(|it| it.get_id() == actor);
        let name = index.map_or("unknown".to_owned(), |index| format!("w{}", index + 1));
        self.held().push((name.clone(), checkout));
        name
    }

    fn take(&self, worker: &str) -> Option<Checkout<RecordedWorker>> {
        let mut held = self.held();
        let index = held.iter().position(|(name, _)| name == worker);
        index.map(|index| held.remove(index).1)
    }
}

/// Gives the worker of a transaction back however its function is left.
struct Holding<'a> {
    shared: &'a Shared,
    worker: String,
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        self.shared.running().pop();
        drop(self.shared.take(&self.worker));
    }
}

fn limit(timeout: Option<Duration>) -> Timeout {
    timeout.map_or(Timeout::Never, Timeout::After)
}

fn refusal(error: &CheckoutError) -> Answer {
    match error {
        CheckoutError::TimedOut { .. } => Answer::Timeout,
        CheckoutError::Exhausted { .. } => Answer::Full,
        CheckoutError::Closed { .. } => Answer::Closed,
        other => Answer::Other(other.to_string()),
    }
}
