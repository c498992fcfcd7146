use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use perennial_lifecycle::{
    ActorPath, ChildKind, ChildState, Ended, Node, NodeView, Restart, Shutdown,
};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use tokio::task::yield_now;
use tokio::time::Instant;

use crate::time::{epoch_ms, millis};
use crate::traffic::Around;
use crate::{
    BooksSnapshot, DeadLettersSnapshot, GroupSnapshot, LinkSnapshot, MailboxSnapshot,
    MonitorSnapshot, Troubled, WaitSnapshot, render,
};

/// How many nodes are read before other tasks get a turn.
const BATCH: usize = 256;

/// How many siblings are brought near together.
const AHEAD: usize = 32;

/// A message in hand for longer than this is a problem.
pub(crate) const SLOW: Duration = Duration::from_secs(5);

/// A mailbox with this share of its room taken, in hundredths, is a problem.
const NEARLY_FULL: u64 = 80;

/// A whole tree at one moment, detached from it: nothing that is done with a snapshot touches the tree.
///
/// ```
/// # use perennial_debug::Debugger;
/// # use perennial_supervisor::Supervisor;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let scope = perennial_lifecycle::Scope::new("shop");
/// # let debugger = Debugger::new(&scope);
/// # Supervisor::builder().child(debugger.child_spec()).build()?.start_in(&scope).await?;
/// let snapshot = debugger.snapshot().await?;
/// assert_eq!(snapshot.summary(), "shop: 2 actors, 0 restarts, 0 down");
/// assert_eq!(snapshot.find("shop/debug").map(|it| it.restarts), Some(0));
/// assert!(snapshot.render().contains("└── debug"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// When it was taken, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Counts over the whole tree.
    pub totals: Totals,
    /// What became of all messages.
    pub books: BooksSnapshot,
    /// Who waits for whose answer, in the order of the paths.
    pub waits: Vec<WaitSnapshot>,
    /// The messages that nobody handled.
    pub dead_letters: DeadLettersSnapshot,
    /// The groups that have members, in order; none where the debugger was given no names.
    pub groups: Vec<GroupSnapshot>,
    /// The root supervisor.
    pub root: NodeSnapshot,
}

/// Counts over a whole tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Totals {
    /// Places in the tree, whether an actor runs there or not.
    pub actors: u64,
    /// Restarts of all of them.
    pub restarts: u64,
    /// Places where none runs.
    pub down: u64,
    /// Places with a [`problem`](NodeSnapshot::problem).
    pub problems: u64,
    /// Actors that were left behind, because they did not yield to a kill, and still have not.
    pub detached: u64,
}

/// One place in the tree and the actor that lives there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct NodeSnapshot {
    /// Where it is.
    #[serde(flatten, serialize_with = "with_id")]
    pub path: ActorPath,
    /// Whether it is a supervisor.
    pub kind: ChildKind,
    /// What its supervisor last knew.
    pub state: ChildState,
    /// How often it was restarted.
    pub restarts: u64,
    /// The run that is alive.
    pub incarnation: Option<u64>,
    /// How long this run has lasted.
    pub uptime_ms: Option<u64>,
    /// How many messages wait.
    pub mailbox_depth: u64,
    /// What became of its messages; `None` while it was sent none.
    pub mailbox: Option<MailboxSnapshot>,
    /// For how long an operator has paused it; `None` when it takes messages.
    pub paused_ms: Option<u64>,
    /// The debug messages that are declared for it.
    pub debug_messages: Vec<Arc<str>>,
    /// For how long the message in hand has been worked on; `None` when idle.
    pub in_hand_ms: Option<u64>,
    /// The type of message that it takes.
    pub message_type: Option<&'static str>,
    /// How many messages this run has handled.
    pub handled: u64,
    /// Who monitors it.
    pub monitors: Vec<MonitorSnapshot>,
    /// The actors that are tied to it by ractor's own links.
    pub links: Vec<LinkSnapshot>,
    /// How the last run that ended did.
    pub last_exit: Option<Box<ExitSnapshot>>,
    /// How those before it did, as far as they are remembered, oldest first.
    pub earlier_exits: Vec<ExitSnapshot>,
    /// In how long it will be started again, while that is put off by a backoff or a quarantine.
    pub due_ms: Option<u64>,
    /// What it is started from, once known.
    pub spec: Option<SpecSnapshot>,
    /// Whether somebody had it stopped, or a supervisor above it: it is down as is wanted.
    pub dismissed: bool,
    /// Its children, in start order.
    pub children: Vec<NodeSnapshot>,
}

/// One end of an actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ExitSnapshot {
    /// The run that ended.
    pub incarnation: u64,
    /// Why, in one line.
    pub reason: String,
    /// The kind of reason: `normal`, `shutdown`, `shutdown_with`, `killed`, `failed` or `panicked`.
    pub class: &'static str,
    /// Whether a transient child that ends so stays down.
    pub clean: bool,
    /// The reason and all that led to it, outermost first; for a supervisor that gave up, also the end of the
    /// child that it could not bear.
    pub chain: Vec<String>,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// How long that run had lasted.
    pub uptime_ms: u64,
}

/// The part of a child spec that can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SpecSnapshot {
    /// When it is restarted.
    pub restart: Restart,
    /// How it is stopped; as text in JSON.
    #[serde(serialize_with = "as_text")]
    pub shutdown: Shutdown,
}

impl Snapshot {
    /// Reads a tree. No lock is held over more than one node, or over an await.
    pub(crate) async fn read(root: &Arc<Node>, around: Around) -> Self {
        let mut books = around.books;
        let mut totals = Totals {
            detached: around.detached,
            ..Totals::default()
        };
        // The way from the root to the place that is read. Each takes its children as they are complete, so that the
        // places are moved but once or, where none is below, not at all.
        let mut way: Vec<(NodeSnapshot, std::vec::IntoIter<Arc<Node>>)> = Vec::new();
        let mut node = Arc::clone(root);
        let mut count = 0;
        let root = 'tree: loop {
            if count % AHEAD == 0
                && let Some((_, siblings)) = way.last()
            {
                bring_near(siblings.as_slice().iter().take(AHEAD + 1));
            }
            let mut view = node.view();
            if let Some(figures) = &view.figures {
                books.add(&perennial_lifecycle::Totals::from(figures));
            }
            let below = std::mem::take(&mut view.children);
            let mut read = NodeSnapshot::read(&node, view);
            if !around.declared.is_empty()
                && let Some(declared) = around.declared.get(&read.path)
            {
                read.debug_messages.clone_from(declared);
            }
            totals.add(&read);
            count += 1;
            if count % BATCH == 0 {
                yield_now().await;
            }
            let mut complete = if below.is_empty() {
                read
            } else {
                read.children.reserve_exact(below.len());
                let mut below = below.into_iter();
                node = below.next().expect("it is not empty");
                way.push((read, below));
                continue;
            };
            // The next is a child of the last on the way that has one left.
            node = loop {
                let Some((parent, left)) = way.last_mut() else {
                    break 'tree complete;
                };
                parent.children.push(complete);
                if let Some(next) = left.next() {
                    break next;
                }
                (complete, _) = way.pop().expect("it was there just now");
            };
        };
        Self {
            at_ms: epoch_ms(SystemTime::now()),
            totals,
            books: BooksSnapshot::from(&books),
            waits: around.waits,
            dead_letters: around.dead_letters,
            groups: around.groups,
            root,
        }
    }

    /// Finds a node by its path.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&NodeSnapshot> {
        self.nodes().find(|node| node.path.as_str() == path)
    }

    /// Goes over all nodes, each before its children.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeSnapshot> {
        let mut open = vec![&self.root];
        std::iter::from_fn(move || {
            let node = open.pop()?;
            open.extend(node.children.iter().rev());
            Some(node)
        })
    }

    /// Lists only what needs a look, worst first.
    #[must_use]
    pub fn troubled(&self) -> Troubled {
        Troubled::of(self)
    }

    /// Says in one line how the tree is.
    #[must_use]
    pub fn summary(&self) -> String {
        render::summary(self)
    }

    /// Draws the tree as text: one line per actor, aligned columns, problems marked with `!`.
    #[must_use]
    pub fn render(&self) -> String {
        render::text(self)
    }

    /// Writes all of it as one JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        render::json(self)
    }

    /// Draws the tree as a [Mermaid](https://mermaid.js.org) flowchart, with each state as a class.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        render::mermaid(self)
    }
}

/// Loads a little of some places into the processor's cache.
///
/// A snapshot mostly waits for memory that nobody has used for long. What is loaded here is on its way for all of them at
/// once; place by place, with a lock in between, each would be waited for.
fn bring_near<'a>(nodes: impl Iterator<Item = &'a Arc<Node>>) {
    for node in nodes {
        black_box((
            node.path().as_str().as_bytes().first().copied(),
            node.restarts(),
        ));
    }
}

impl Totals {
    pub(crate) fn add(&mut self, node: &NodeSnapshot) {
        self.actors += 1;
        self.restarts += node.restarts;
        self.down += u64::from(node.incarnation.is_none());
        self.problems += u64::from(node.problem().is_some());
    }
}

impl NodeSnapshot {
    /// Reads all but the children.
    fn read(node: &Node, view: NodeView) -> Self {
        let NodeView { spec, figures, .. } = view;
        let figures = figures.as_ref();
        let run = view.current.as_deref();
        let mut exits: Vec<ExitSnapshot> = view.history.iter().map(ExitSnapshot::from).collect();
        Self {
            path: node.path().clone(),
            kind: spec.map_or(ChildKind::Worker, |(kind, ..)| kind),
            state: node.state(),
            restarts: node.restarts(),
            incarnation: run.map(|it| it.number()),
            uptime_ms: run.map(|it| millis(it.recent_uptime())),
            // Between two runs what is kept for the next one.
            mailbox_depth: run
                .map_or_else(|| figures.map_or(0, |it| it.depth), |it| it.mailbox_depth()),
            mailbox: figures.map(|it| {
                let capacity = run.map(|it| it.mailbox().capacity());
                MailboxSnapshot::new(it, capacity)
            }),
            paused_ms: run.and_then(|it| it.paused()).map(millis),
            debug_messages: Vec::new(),
            in_hand_ms: run.and_then(|it| it.in_hand()).map(millis),
            message_type: run.map(|it| it.message_type().name),
            handled: run.map_or(0, |it| it.handled()),
            monitors: view.watchers.into_iter().map(Into::into).collect(),
            links: run.map_or_else(Vec::new, LinkSnapshot::all_of),
            last_exit: exits.pop().map(Box::new),
            earlier_exits: exits,
            due_ms: view.due.map(|due| millis(due - Instant::now())),
            spec: spec.map(|(_, restart, shutdown)| SpecSnapshot { restart, shutdown }),
            dismissed: node.is_dismissed(),
            children: Vec::new(),
        }
    }

    /// Returns the last segment of the path.
    #[must_use]
    pub fn id(&self) -> &str {
        self.path.id()
    }

    /// Says what is wrong here, in a few words: it is being restarted or waits for that, it ended badly and
    /// stayed down, its message in hand takes long, it is paused, or its mailbox is nearly full.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.life_problem().or_else(|| {
            let time = |ms| render::duration(Duration::from_millis(ms));
            let slow = self.in_hand_ms.filter(|it| *it >= millis(SLOW));
            slow.map(|it| format!("message in hand for {}", time(it)))
                .or_else(|| self.paused_ms.map(|it| format!("paused for {}", time(it))))
                .or_else(|| self.fullness().map(|(_, text)| text))
        })
    }

    /// Says why it does not run.
    pub(crate) fn life_problem(&self) -> Option<String> {
        let bad_end = self.last_exit.as_ref().filter(|exit| !exit.clean);
        let why = || bad_end.map_or_else(String::new, |exit| format!(": {}", exit.reason));
        let due = |due| render::duration(Duration::from_millis(due));
        match (self.state, self.due_ms) {
            (ChildState::Restarting, None) => Some(format!("restarting{}", why())),
            (ChildState::Restarting, Some(at)) => Some(format!("restart in {}{}", due(at), why())),
            (ChildState::Quarantined, at) => Some(format!(
                "quarantined for another {}{}",
                due(at.unwrap_or_default()),
                why()
            )),
            (ChildState::Stopped, _) if self.ended_badly() => Some(format!("down{}", why())),
            _ => None,
        }
    }

    pub(crate) fn ended_badly(&self) -> bool {
        let bad_end = self.last_exit.as_ref().filter(|exit| !exit.clean);
        self.incarnation.is_none() && bad_end.is_some() && !self.dismissed
    }

    /// Says how full the mailbox is, in hundredths and in words, once it is nearly full.
    pub(crate) fn fullness(&self) -> Option<(u64, String)> {
        let capacity = self.mailbox.as_ref()?.capacity?;
        let depth = self.mailbox_depth;
        let share = depth.saturating_mul(100).checked_div(capacity)?;
        (share >= NEARLY_FULL).then(|| (share, format!("mailbox {depth} of {capacity}")))
    }
}

impl From<&Ended> for ExitSnapshot {
    fn from(ended: &Ended) -> Self {
        Self {
            incarnation: ended.incarnation,
            reason: ended.reason.to_string(),
            class: ended.reason.class(),
            clean: ended.reason.is_clean(),
            chain: ended.chain(),
            at_ms: epoch_ms(ended.at),
            uptime_ms: millis(ended.uptime),
        }
    }
}

/// Adds the last segment of the path, which is not kept: memory for each of many places would cost more than all else.
fn with_id<S: Serializer>(path: &ActorPath, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(2))?;
    map.serialize_entry("path", path)?;
    map.serialize_entry("id", path.id())?;
    map.end()
}

fn as_text<S: Serializer>(shutdown: &Shutdown, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(shutdown)
}

#[cfg(test)]
mod tests;
