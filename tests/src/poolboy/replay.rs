//! Carries out a recording and compares.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use perennial::pool::{
    Checkout, Dismissal, Pool, PoolConfig, PoolStrategy, PoolWorkerState, Timeout,
};
use perennial::supervisor::{RestartIntensity, Supervisor};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::client::{Answer, Client, Command, News};
use super::record::{Death, Observation, Operation, Resolved, Scenario, Strategy};
use super::worker::{RecordedWorker, Roll, WorkerMsg};

/// What a millisecond of a recording takes here. Each step takes one of the clock's milliseconds, and all of them
/// together are to stay far below any timeout.
const MILLISECOND: Duration = Duration::from_millis(100);

/// The first thing that was not as recorded.
#[derive(Debug)]
pub(crate) struct Mismatch {
    step: String,
    what: &'static str,
    expected: String,
    seen: String,
}

impl Mismatch {
    pub(super) fn unreadable(error: String) -> Self {
        Self {
            step: "reading".to_owned(),
            what: "record",
            expected: "a scenario as FORMAT-infra.md describes it".to_owned(),
            seen: error,
        }
    }

    pub(super) fn panicked(text: &str) -> Self {
        Self {
            step: "replaying".to_owned(),
            what: "panic",
            expected: "none".to_owned(),
            seen: text.to_owned(),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.step, self.what)?;
        writeln!(f, "  expected {}", self.expected)?;
        write!(f, "  seen     {}", self.seen)
    }
}

pub(crate) fn run(scenario: &Scenario) -> Result<(), Mismatch> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| Mismatch::panicked(&error.to_string()))?;
    runtime.block_on(replay(scenario))
}

async fn replay(scenario: &Scenario) -> Result<(), Mismatch> {
    let mut stage = Stage::build(scenario).await;
    Stage::compare("start", &scenario.start, &stage.observe())?;
    for (number, step) in scenario.steps.iter().enumerate() {
        let name = format!("step {}, {}", number + 1, step.text);
        stage.carry_out(&step.operation).await;
        stage.rest().await;
        let (result, resolved) = stage.answers(&step.operation);
        let differs = |what, expected: String, seen: String| {
            let step = name.clone();
            Mismatch {
                step,
                what,
                expected,
                seen,
            }
        };
        if result != step.result {
            let (expected, seen) = (format!("{:?}", step.result), format!("{result:?}"));
            return Err(differs("result", expected, seen));
        }
        if resolved != step.resolved {
            let (expected, seen) = (format!("{:?}", step.resolved), format!("{resolved:?}"));
            return Err(differs("resolved", expected, seen));
        }
        Stage::compare(&name, &step.seen, &stage.observe())?;
    }
    Ok(())
}

/// How the pool has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Stopped,
    Died,
}

impl End {
    fn name(self) -> &'static str {
        match self {
            Self::Stopped => "pool_stopped",
            Self::Died => "pool_died",
        }
    }
}

/// A call that was made and not answered.
struct Pending {
    client: String,
    /// Made after the end of the pool.
    late: bool,
}

/// What lies unread before a pool that reads nothing.
enum Letter {
    Said {
        operation: Operation,
        deadline: Option<Instant>,
        /// Nobody waits for the answer any more.
        gone: bool,
    },
    /// The caller has given up, and says so behind all that was said before.
    TakenBack {
        call: String,
    },
    /// The function of a transaction has ended without waiting for the pool.
    Returned {
        worker: String,
        checkout: Option<Checkout<RecordedWorker>>,
    },
    ClientDied {
        client: String,
    },
}

struct Stage {
    root: Supervisor,
    pool: Pool<RecordedWorker>,
    roll: Roll,
    news: News,
    began: Instant,
    clients: BTreeMap<String, Client>,
    /// By number of the call.
    pending: BTreeMap<u64, Pending>,
    end: Option<End>,
    /// What was said since the pool reads nothing.
    stalled: Option<Vec<Letter>>,
    /// Calls of clients that died meanwhile: what comes of them is of no account.
    lost: BTreeSet<String>,
    waited: Duration,
}

impl Letter {
    /// Notes that nobody waits any more for the answers to such calls.
    fn abandon(&mut self, is_such: impl Fn(&String) -> bool) {
        if let Self::Said {
            operation: Operation::Checkout { call, .. } | Operation::TxBegin { call, .. },
            gone,
            ..
        } = self
            && is_such(call)
        {
            *gone = true;
        }
    }
}

impl Stage {
    async fn build(scenario: &Scenario) -> Self {
        let count = |number: i64| usize::try_from(number).unwrap_or(0);
        let config = PoolConfig::new(count(scenario.config.size))
            .max_overflow(count(scenario.config.max_overflow))
            .strategy(match scenario.config.strategy {
                Some(Strategy::Fifo) => PoolStrategy::Fifo,
                Some(Strategy::Lifo) | None => PoolStrategy::Lifo,
            })
            .dismissal(Dismissal::Returned);
        let roll = Roll::default();
        let pool = Pool::new("pool", RecordedWorker(roll.clone()), config)
            .expect("the sizes of recordings are small");
        let root = Supervisor::builder()
            .intensity(RestartIntensity::new(1_000, Duration::from_secs(1)))
            .build()
            .expect("there is nothing to be wrong")
            .start("recording")
            .await
            .expect("it has no children");
        // Nobody brings the original's pool back.
        root.start_child(pool.child_spec().temporary())
            .await
            .expect("workers start");
        let stage = Self {
            root,
            pool,
            roll,
            news: News::default(),
            began: Instant::now(),
            clients: BTreeMap::new(),
            pending: BTreeMap::new(),
            end: None,
            stalled: None,
            lost: BTreeSet::new(),
            waited: Duration::ZERO,
        };
        stage.rest().await;
        stage
    }

    /// Lets everything go on until nothing does.
    async fn rest(&self) {
        // The clock is paused: it moves only when all tasks wait.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    async fn carry_out(&mut self, operation: &Operation) {
        if let Operation::Checkout { client, call, .. } | Operation::TxBegin { client, call, .. } =
            operation
        {
            let pending = Pending {
                client: client.clone(),
                late: self.end.is_some(),
            };
            self.pending.insert(number(call), pending);
        }
        match operation {
            Operation::Stall => self.stalled = Some(Vec::new()),
            Operation::Resume => self.read_letters().await,
            Operation::Wait { ms } => {
                self.waited += millis(*ms);
                tokio::time::sleep_until(self.began + self.waited).await;
                self.give_up_stalled();
            }
            Operation::KillWorker { worker, how } => self.kill_worker(worker, *how),
            Operation::KillClient { client, lost, .. } => {
                for call in lost {
                    self.pending.remove(&number(call));
                }
                if let Some(stalled) = &mut self.stalled {
                    for letter in stalled.iter_mut() {
                        letter.abandon(|call| lost.contains(call));
                    }
                    let client = client.clone();
                    stalled.push(Letter::ClientDied { client });
                    self.lost.extend(lost.iter().cloned());
                } else if let Some(client) = self.clients.remove(client) {
                    client.kill().await;
                }
            }
            Operation::Stop => {
                self.end.get_or_insert(End::Stopped);
                // Fails when it has ended before.
                drop(self.root.terminate_child("pool").await);
            }
            Operation::KillPool => {
                self.end.get_or_insert(End::Died);
                let node = self.root.node().child("pool");
                if let Some(run) = node.and_then(|node| node.current()) {
                    run.kill();
                }
            }
            _ => {
                let timeout = operation.timeout().map(millis);
                let deadline = timeout.map(|timeout| self.began + self.waited + timeout);
                let Some(stalled) = &mut self.stalled else {
                    self.ask(operation, deadline);
                    return;
                };
                if let Operation::TxEnd { client, .. } = operation
                    && let Some(client) = self.clients.get(client)
                {
                    if let Some(worker) = client.running() {
                        let checkout = client.take(&worker);
                        stalled.push(Letter::Returned { worker, checkout });
                    }
                    self.ask(operation, deadline);
                } else {
                    stalled.push(Letter::Said {
                        operation: operation.clone(),
                        deadline,
                        gone: false,
                    });
                }
            }
        }
    }

    /// Calls that a pool which reads nothing has not even seen end at their own time.
    fn give_up_stalled(&mut self) {
        let now = Instant::now();
        let Some(stalled) = &mut self.stalled else {
            return;
        };
        let mut due = Vec::new();
        for letter in stalled.iter() {
            if let Letter::Said {
                operation,
                deadline: Some(deadline),
                gone: false,
            } = letter
                && let Some(call) = operation.call()
                && *deadline <= now
            {
                due.push((*deadline, call.to_owned()));
            }
        }
        // Those of one time in the order in which they were said.
        due.sort_by_key(|(deadline, _)| *deadline);
        let mut told = self.news.told();
        for (_, call) in due {
            for letter in stalled.iter_mut() {
                letter.abandon(|it| *it == call);
            }
            told.answers.insert(call.clone(), Answer::Timeout);
            stalled.push(Letter::TakenBack { call });
        }
    }

    /// Has the pool do what was said while it read nothing.
    ///
    /// A call whose caller has given up or died is served like any other and taken back: where its caller said so, or
    /// behind all that was said, where the pool finds that there is no caller.
    async fn read_letters(&mut self) {
        let mut gone: Vec<(String, JoinHandle<()>)> = Vec::new();
        for letter in self.stalled.take().unwrap_or_default() {
            match letter {
                Letter::Said {
                    operation,
                    gone: true,
                    ..
                } => {
                    let (pool, waits) = (self.pool.clone(), operation.waits());
                    let task = tokio::spawn(async move {
                        let held = match waits {
                            true => pool.checkout_within(Timeout::Never).await,
                            false => pool.try_checkout().await,
                        };
                        std::future::pending::<()>().await;
                        drop(held);
                    });
                    gone.push((operation.call().unwrap_or_default().to_owned(), task));
                }
                Letter::Said {
                    operation,
                    deadline,
                    ..
                } => self.ask(&operation, deadline),
                Letter::TakenBack { call } => {
                    if let Some(index) = gone.iter().position(|(it, _)| *it == call) {
                        end(gone.remove(index).1).await;
                    }
                }
                Letter::Returned { worker, checkout } => {
                    drop(checkout.or_else(|| self.holder(&worker)?.1.take(&worker)));
                }
                Letter::ClientDied { client } => {
                    if let Some(client) = self.clients.remove(&client) {
                        client.kill().await;
                    }
                }
            }
            self.rest().await;
        }
        for (_, task) in gone {
            end(task).await;
            self.rest().await;
        }
    }

    /// Has a client do something.
    fn ask(&mut self, operation: &Operation, deadline: Option<Instant>) {
        let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let (client, command) = match operation.clone() {
            Operation::Checkout {
                client, call, mode, ..
            } => {
                let command = Command::Checkout {
                    call,
                    mode,
                    timeout,
                };
                (client, command)
            }
            Operation::Checkin { client, worker } => {
                self.hand_over(&client, &worker);
                (client, Command::Checkin { worker })
            }
            Operation::TxBegin { client, call, .. } => (client, Command::TxBegin { call, timeout }),
            Operation::TxEnd { client, how, .. } => {
                // Not while the pool reads nothing: then it is a letter.
                if self.stalled.is_none()
                    && let Some(worker) = self.clients.get(&client).and_then(Client::running)
                {
                    self.hand_over(&client, &worker);
                }
                (client, Command::TxEnd { how })
            }
            _ => return,
        };
        let (pool, roll, news) = (&self.pool, &self.roll, &self.news);
        let client = self.clients.entry(client);
        client
            .or_insert_with(|| Client::start(pool, roll, news))
            .tell(command);
    }

    /// The original does not look at who checks a worker in. A checkout is given back by its owner, so it is taken from
    /// whoever that is. What nobody holds nobody can give back, and the original ignores that.
    fn hand_over(&self, client: &str, worker: &str) {
        if let Some((name, holder)) = self.holder(worker)
            && name != client
        {
            drop(holder.take(worker));
        }
    }

    fn holder(&self, worker: &str) -> Option<(&String, &Client)> {
        self.clients.iter().find(|(_, it)| it.holds(worker))
    }

    fn kill_worker(&self, worker: &str, how: Death) {
        let entries = self.roll.entries();
        let index = worker.strip_prefix('w').and_then(|it| it.parse().ok());
        let index = index.and_then(|number: usize| number.checked_sub(1));
        let Some(actor) = index.and_then(|index| entries.started.get(index)) else {
            return;
        };
        match how {
            Death::Kill => actor.kill(),
            // Fails when it has ended: then it needs no end.
            Death::Normal | Death::Error => drop(actor.send_message(WorkerMsg::End(how))),
        }
    }

    /// Returns the result of the step itself, and the others that were answered, in order of call.
    fn answers(&mut self, operation: &Operation) -> (Option<String>, Vec<Resolved>) {
        let mut told = self.news.told();
        let answers = std::mem::take(&mut told.answers);
        let ends = std::mem::take(&mut told.ends);
        drop(told);
        let own = operation.call();
        let mut result = own.map(|_| "pending".to_owned());
        if let Operation::TxEnd { call, .. } = operation {
            result = Some(ends.get(call).copied().unwrap_or("running").to_owned());
        }
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.sort_by_key(|(call, _)| number(call));
        let mut resolved = Vec::new();
        for (call, answer) in answers {
            if self.lost.contains(&call) {
                continue;
            }
            let pending = self.pending.remove(&number(&call));
            let late = pending.as_ref().is_none_or(|it| it.late);
            let text = match answer {
                Answer::Worker(name) => name,
                Answer::Full => "full".to_owned(),
                Answer::Timeout => "timeout".to_owned(),
                Answer::Closed if late => "no_pool".to_owned(),
                Answer::Closed => self.end.map_or("closed", End::name).to_owned(),
                Answer::Other(text) => text,
            };
            if own == Some(&*call) {
                result = Some(text);
            } else {
                resolved.push(Resolved {
                    client: pending.map(|it| it.client).unwrap_or_default(),
                    call,
                    result: text,
                });
            }
        }
        (result, resolved)
    }

    fn observe(&self) -> Observation {
        let name = |number: usize| format!("w{number}");
        let mut entries = self.roll.entries();
        let created = std::mem::take(&mut entries.created);
        let dead: BTreeSet<usize> = std::mem::take(&mut entries.dead).into_iter().collect();
        let mut seen = Observation {
            created: created.into_iter().map(name).collect(),
            dead: dead.into_iter().map(name).collect(),
            pending: self.pending.keys().map(|call| format!("k{call}")).collect(),
            ..Observation::default()
        };
        if self.end.is_some() || self.stalled.is_some() {
            return seen;
        }
        let status = self.pool.status();
        seen.status = Some((
            status_name(status.idle, status.overflow, status.max_overflow).to_owned(),
            status.idle,
            status.overflow,
            status.in_use,
        ));
        let (mut idle, mut out) = (Vec::new(), BTreeSet::new());
        for worker in self.pool.workers() {
            let actor = worker.incarnation.cell().get_id();
            let index = entries.started.iter().position(|it| it.get_id() == actor);
            let number = index.map_or(0, |index| index + 1);
            match worker.state {
                PoolWorkerState::Lent => drop(out.insert(number)),
                PoolWorkerState::Idle | PoolWorkerState::Reserved => idle.push(number),
            }
        }
        seen.idle = Some(idle.into_iter().map(name).collect());
        seen.out = Some(out.into_iter().map(name).collect());
        seen
    }

    fn compare(step: &str, expected: &Observation, seen: &Observation) -> Result<(), Mismatch> {
        if expected == seen {
            return Ok(());
        }
        Err(Mismatch {
            step: step.to_owned(),
            what: "state",
            expected: format!("{expected:?}"),
            seen: format!("{seen:?}"),
        })
    }
}

fn millis(ms: u64) -> Duration {
    MILLISECOND.saturating_mul(u32::try_from(ms).unwrap_or(u32::MAX))
}

/// Ends a task, and with it what it holds or waits for.
async fn end(task: JoinHandle<()>) {
    task.abort();
    drop(task.await);
}

/// What poolboy calls the state of a pool.
fn status_name(idle: usize, overflow: usize, max_overflow: usize) -> &'static str {
    match (overflow, idle) {
        (0, 1..) => "ready",
        (0, 0) if max_overflow == 0 => "full",
        (0, 0) => "overflow",
        (overflow, _) if overflow == max_overflow => "full",
        _ => "overflow",
    }
}

/// Returns the number of a call.
fn number(call: &str) -> u64 {
    call.strip_prefix('k')
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}
