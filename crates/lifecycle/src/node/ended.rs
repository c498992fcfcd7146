use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::{ActorPath, ExitReason};

/// One end of an actor, or a start of it that failed, as its node remembers it.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The run that ended.
    pub incarnation: u64,
    /// Why.
    pub reason: ExitReason,
    /// When, to some milliseconds.
    pub at: SystemTime,
    /// How long it had run, to some milliseconds; zero for a start that failed.
    pub uptime: Duration,
    /// The end of a child that a supervisor could not bear; `None` for any other end.
    pub because: Option<Arc<Escalation>>,
}

impl Ended {
    /// Lists what led to the end, outermost first: the reason and its sources, then the ends of the children
    /// that brought down their supervisors one after the other.
    #[must_use]
    pub fn chain(&self) -> Vec<String> {
        let mut chain = self.reason.chain();
        let mut next = self.because.as_ref();
        while let Some(escalation) = next {
            let Escalation { child, ended, .. } = &**escalation;
            let causes = ended.reason.chain();
            let run = ended.incarnation;
            chain.push(format!("{child} #{run}: {}", causes[0]));
            chain.extend_from_slice(&causes[1..]);
            next = ended.because.as_ref();
        }
        chain
    }
}

/// The end of a child that its supervisor ended with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Escalation {
    /// The child.
    pub child: ActorPath,
    /// Its end.
    pub ended: Ended,
}
