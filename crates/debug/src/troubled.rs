//! What of a tree needs a look.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use perennial_lifecycle::{ActorPath, ChildState};
use serde::Serialize;

use crate::render::{self, count, duration};
use crate::snapshot::SLOW;
use crate::time::millis;
use crate::{NodeSnapshot, Snapshot, WaitSnapshot};

/// Bad ends of this time are those of lately.
const LATELY: Duration = Duration::from_secs(600);

/// So many bad ends lately are many.
const MANY: u64 = 3;

/// What of a tree needs a look, worst first; made by [`Snapshot::troubled`].
///
/// | order | kind | severity | when | the worse, the more |
/// | --- | --- | --- | --- | --- |
/// | 1 | [`Down`](TroubleKind::Down) | critical | it ended badly and stays down, and nobody had it stopped | |
/// | 2 | [`LeftBehind`](TroubleKind::LeftBehind) | critical | actors did not yield to a kill, and still have not | actors |
/// | 3 | [`Quarantined`](TroubleKind::Quarantined) | critical | it is parked | time until it is tried |
/// | 4 | [`Stuck`](TroubleKind::Stuck) | critical | a message in hand for 5 s, with no call that waits | time |
/// | 5 | [`Full`](TroubleKind::Full) | critical | no room in its mailbox | messages |
/// | 6 | [`Restarting`](TroubleKind::Restarting) | warning | it is being started again, or waits for that | time until it is |
/// | 7 | [`ManyRestarts`](TroubleKind::ManyRestarts) | warning | 3 bad ends within 10 min, and nobody had it stopped since | bad ends |
/// | 8 | [`Poison`](TroubleKind::Poison) | warning | messages were set aside within 5 min after crashes | messages |
/// | 9 | [`Waiting`](TroubleKind::Waiting) | warning | a chain of calls waits for 5 s | time |
/// | 10 | [`NearlyFull`](TroubleKind::NearlyFull) | warning | its mailbox is four fifths full | share |
/// | 11 | [`OldMessage`](TroubleKind::OldMessage) | warning | a message has waited for 5 s | time |
/// | 12 | [`Paused`](TroubleKind::Paused) | notice | an operator has paused it | time |
/// | 13 | [`DeadLetters`](TroubleKind::DeadLetters) | notice | other messages to it died within 5 min | messages |
///
/// Within one kind, what is worse by its own measure comes first, and then the lesser path. An actor may be there more
/// than once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Troubled {
    /// What needs a look, worst first.
    pub troubles: Vec<Trouble>,
}

/// One thing that needs a look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Trouble {
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub kind: TroubleKind,
    /// Where.
    pub path: ActorPath,
    /// What there is to say about it.
    pub reason: String,
    /// By how much; compares with troubles of the same kind alone.
    #[serde(skip)]
    weight: u64,
}

/// How bad a trouble is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Notice,
    /// Something is wrong, and may mend itself.
    Warning,
    /// Somebody goes without service.
    Critical,
}

/// The kinds of trouble, worst first; [`Troubled`] says when each is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TroubleKind {
    /// It ended badly and stays down, and nobody had it stopped.
    Down,
    /// Actors did not yield to a kill.
    LeftBehind,
    /// It is parked.
    Quarantined,
    /// A message is in hand for long.
    Stuck,
    /// There is no room in its mailbox.
    Full,
    /// It is being started again, or waits for that.
    Restarting,
    /// It ended badly again and again.
    ManyRestarts,
    /// Messages were set aside after crashes.
    Poison,
    /// A chain of calls waits for long.
    Waiting,
    /// There is little room in its mailbox.
    NearlyFull,
    /// A message waits for long.
    OldMessage,
    /// An operator has paused it.
    Paused,
    /// Messages to it died.
    DeadLetters,
}

impl TroubleKind {
    /// Returns how bad it is.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::Down | Self::LeftBehind | Self::Quarantined | Self::Stuck | Self::Full => {
                Severity::Critical
            }
            Self::Restarting
            | Self::ManyRestarts
            | Self::Poison
            | Self::Waiting
            | Self::NearlyFull
            | Self::OldMessage => Severity::Warning,
            Self::Paused | Self::DeadLetters => Severity::Notice,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.severity, self.path, self.reason)
    }
}

impl Troubled {
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let mut found = Found(Vec::new());
        let callers: HashSet<&ActorPath> = snapshot.waits.iter().map(|it| &it.caller).collect();
        for node in snapshot.nodes() {
            found.look_at(node, snapshot.at_ms, callers.contains(&node.path));
        }
        let detached = snapshot.totals.detached;
        if detached > 0 {
            let reason = format!("{} left behind by a kill", count(detached, "actor"));
            found.add(
                TroubleKind::LeftBehind,
                &snapshot.root.path,
                detached,
                reason,
            );
        }
        found.look_at_waits(&snapshot.waits);
        for dead in &snapshot.dead_letters.lately {
            if dead.poison > 0 {
                let reason = format!("{} set aside after crashes", count(dead.poison, "message"));
                found.add(TroubleKind::Poison, &dead.target, dead.poison, reason);
            }
            if dead.others > 0 {
                let reason = format!("{} died lately", count(dead.others, "message"));
                found.add(TroubleKind::DeadLetters, &dead.target, dead.others, reason);
            }
        }
        let mut troubles = found.0;
        troubles.sort_by(|a, b| {
            let order = a.kind.cmp(&b.kind).then(b.weight.cmp(&a.weight));
            order.then_with(|| a.path.cmp(&b.path))
        });
        Self { troubles }
    }

    /// Says whether nothing needs a look.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.troubles.is_empty()
    }

    /// Returns how many troubles are so bad.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        let troubles = self.troubles.iter();
        troubles.filter(|it| it.severity == severity).count()
    }

    /// Writes one line per trouble, worst first, and one that counts them.
    #[must_use]
    pub fn render(&self) -> String {
        render::troubled(self)
    }
}

struct Found(Vec<Trouble>);

impl Found {
    fn add(&mut self, kind: TroubleKind, path: &ActorPath, weight: u64, reason: String) {
        self.0.push(Trouble {
            severity: kind.severity(),
            kind,
            path: path.clone(),
            reason,
            weight,
        });
    }

    fn look_at(&mut self, node: &NodeSnapshot, now_ms: u64, waits: bool) {
        let due = node.due_ms.unwrap_or_default();
        let life = match node.state {
            ChildState::Restarting => Some((TroubleKind::Restarting, due)),
            ChildState::Quarantined => Some((TroubleKind::Quarantined, due)),
            ChildState::Stopped if node.ended_badly() => Some((TroubleKind::Down, 0)),
            _ => None,
        };
        if let Some((kind, weight)) = life
            && let Some(reason) = node.life_problem()
        {
            self.add(kind, &node.path, weight, reason);
        }
        let slow = millis(SLOW);
        if let Some(time) = node.in_hand_ms.filter(|it| *it >= slow && !waits) {
            let reason = format!("message in hand for {}", text(time));
            self.add(TroubleKind::Stuck, &node.path, time, reason);
        }
        if let Some(time) = node.paused_ms {
            let waiting = count(node.mailbox_depth, "message");
            let reason = format!("paused for {}, {waiting} waiting", text(time));
            self.add(TroubleKind::Paused, &node.path, time, reason);
        }
        if let Some(mailbox) = &node.mailbox {
            if let Some((share, reason)) = node.fullness() {
                let (kind, weight) = match share {
                    100.. => (TroubleKind::Full, node.mailbox_depth),
                    _ => (TroubleKind::NearlyFull, share),
                };
                self.add(kind, &node.path, weight, reason);
            }
            if let Some(time) = mailbox.oldest_at_least_ms.filter(|it| *it >= slow) {
                let reason = format!("a message has waited for {} at least", text(time));
                self.add(TroubleKind::OldMessage, &node.path, time, reason);
            }
        }
        if node.state == ChildState::Stopped && !node.ended_badly() {
            // Somebody had it stopped, or it is done.
            return;
        }
        let exits = node.earlier_exits.iter().chain(node.last_exit.as_deref());
        let lately = exits.filter(|it| !it.clean && it.at_ms + millis(LATELY) >= now_ms);
        let lately = u64::try_from(lately.count()).unwrap_or(u64::MAX);
        if lately >= MANY {
            let reason = format!("{lately} bad ends within 10 min");
            self.add(TroubleKind::ManyRestarts, &node.path, lately, reason);
        }
    }

    /// Follows the calls that wait for long, each chain from where it begins.
    fn look_at_waits(&mut self, waits: &[WaitSnapshot]) {
        let is_long = |it: &&WaitSnapshot| it.for_ms >= millis(SLOW);
        let answering: HashSet<&ActorPath> =
            waits.iter().filter(is_long).map(|it| &it.callee).collect();
        // Of several waits of one caller, the oldest: it keeps the caller longest.
        let mut oldest: HashMap<&ActorPath, &WaitSnapshot> = HashMap::new();
        for wait in waits {
            let known = oldest.entry(&wait.caller).or_insert(wait);
            if known.for_ms < wait.for_ms {
                *known = wait;
            }
        }
        for (caller, &first) in &oldest {
            if !is_long(&first) || answering.contains(*caller) {
                continue;
            }
            let mut chain = caller.to_string();
            // Ends: a call that would close a circle is refused.
            let mut next = Some(first);
            while let Some(wait) = next {
                chain.push_str(" -> ");
                chain.push_str(wait.callee.as_str());
                next = oldest.get(&wait.callee).copied();
            }
            let reason = format!("waits for {}: {chain}", text(first.for_ms));
            self.add(TroubleKind::Waiting, caller, first.for_ms, reason);
        }
    }
}

fn text(ms: u64) -> String {
    duration(Duration::from_millis(ms))
}
