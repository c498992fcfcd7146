//! What a shutdown says of itself.

use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use perennial_lifecycle::{ActorPath, ExitReason, Loss};

/// How a shutdown went, and what it cut off.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// How long it took in all.
    pub took: Duration,
    /// How long it waited for the tree to handle what it was sent.
    pub drained_for: Duration,
    /// Whether that wait ended by its deadline.
    pub ran_out_of_time: bool,
    /// Actors that did not stop in time and were killed, in order of path.
    pub killed: Vec<ActorPath>,
    /// All that was cut off, in order of path: empty after a clean shutdown.
    pub cut_off: Vec<CutOff>,
    /// Why the tree had given up before it was told to stop, or gave up while it was drained. What was cut off by that is
    /// not known in full; where it gave up before, all else here is empty.
    pub gave_up: Option<ExitReason>,
}

/// What a shutdown cut off at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CutOff {
    /// The place.
    pub path: ActorPath,
    /// How many messages nobody handled.
    pub waiting: u64,
    /// The type of the message whose handler was ended, or left behind.
    pub in_hand: Option<&'static str>,
    /// Whether the actor did not stop in time and was killed.
    pub killed: bool,
    /// Whether the actor did not yield to that either, and goes on.
    pub left_behind: bool,
}

impl ShutdownReport {
    /// Says whether nothing was cut off: every message was handled and every actor ended by itself.
    ///
    /// Of a tree that had given up nobody can say so.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.gave_up.is_none() && self.killed.is_empty() && self.cut_off.is_empty()
    }

    /// Returns what the process of a service ends with, as `perennial run` does: 0 when nothing was cut off, 1 when the tree
    /// had given up, 3 when something was cut off.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.gave_up {
            Some(_) => 1,
            None if self.is_clean() => 0,
            None => 3,
        })
    }
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clean() {
            return write!(f, "stopped in order in {:?}", self.took);
        }
        match &self.gave_up {
            Some(reason) => write!(f, "the tree gave up: {reason}")?,
            None => write!(f, "cut off by the shutdown, in {:?}", self.took)?,
        }
        if self.ran_out_of_time {
            write!(f, ", of which the drain had {:?}", self.drained_for)?;
        }
        if !self.cut_off.is_empty() {
            write!(f, ":")?;
        }
        for cut_off in &self.cut_off {
            write!(f, "\n  {cut_off}")?;
        }
        Ok(())
    }
}

impl fmt::Display for CutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path)?;
        let mut parts = Vec::new();
        if self.killed {
            parts.push("did not stop in time and was killed".to_owned());
        }
        if self.left_behind {
            parts.push("left behind, since it does not yield".to_owned());
        }
        if let Some(message) = self.in_hand {
            parts.push(format!("a {message} in hand"));
        }
        match self.waiting {
            0 => {}
            1 => parts.push("1 message waiting".to_owned()),
            more => parts.push(format!("{more} messages waiting")),
        }
        write!(f, " {}", parts.join(", "))
    }
}

/// Gathers what was cut off, by place.
#[derive(Debug, Default)]
pub(crate) struct CutOffs(BTreeMap<ActorPath, CutOff>);

impl CutOffs {
    pub(crate) fn at(&mut self, path: &ActorPath) -> &mut CutOff {
        self.0.entry(path.clone()).or_insert_with(|| CutOff {
            path: path.clone(),
            waiting: 0,
            in_hand: None,
            killed: false,
            left_behind: false,
        })
    }

    pub(crate) fn add(&mut self, loss: &Loss) {
        let at = self.at(&loss.path);
        at.waiting += loss.waiting;
        at.in_hand = loss.in_hand.or(at.in_hand);
    }

    /// Notes what still waits at a place, unless the end of its actor has told.
    pub(crate) fn note_waiting(&mut self, path: &ActorPath, waiting: u64) {
        if waiting > 0 && !self.0.contains_key(path) {
            self.at(path).waiting = waiting;
        }
    }

    pub(crate) fn into_vec(self) -> Vec<CutOff> {
        self.0.into_values().collect()
    }
}
