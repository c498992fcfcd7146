//! What is played: actors, what messages have them do, and what is done to them.

use perennial::{AtRestart, Mailbox, Restart, Route};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::log::Job;

/// A tree and what happens to it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) actors: Vec<Role>,
    pub(crate) steps: Vec<Step>,
}

/// How one actor is made.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    /// Says `type Msg = Mail<Job>`.
    pub(crate) is_mail: bool,
    pub(crate) policy: Policy,
    pub(crate) capacity: u32,
    pub(crate) returns: bool,
    pub(crate) poison_after: u32,
    /// Is in the group of those that take their messages in the same way.
    pub(crate) is_member: bool,
    /// Lives below a supervisor of its own.
    pub(crate) is_below: bool,
    pub(crate) restart: Restart,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Wait,
    Reject,
    DropNewest,
    DropOldest,
    Coalesce,
}

/// What a handler does with a message.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Fail,
    Panic,
    /// Takes the message out of its envelope and fails.
    TakeAndFail,
    Sleep(u64),
    StopSelf,
    /// Sends the message to itself once more.
    Defer,
    Message(Sending),
}

/// How one message is sent.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    pub(crate) to: To,
    /// Has no say when it goes to all.
    pub(crate) way: Way,
    pub(crate) acts: Vec<Act>,
}

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Actor(usize),
    /// One member of a group.
    Group {
        is_mail: bool,
        route: Route,
    },
    /// Each member of a group.
    All {
        is_mail: bool,
    },
}

impl To {
    /// Says whether the actor may be given it.
    pub(crate) fn may_be(self, at: usize, role: &Role) -> bool {
        match self {
            Self::Actor(to) => to == at,
            Self::Group { is_mail, .. } | Self::All { is_mail } => {
                role.is_member && role.is_mail == is_mail
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    Cast,
    Send {
        wait: u64,
    },
    Call {
        timeout: u64,
        given_up_after: Option<u64>,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Message(Sending),
    Kill(usize),
    Stop(usize),
    Terminate(usize),
    Restart(usize),
    Bounce(usize),
    /// Deletes a child that is stopped.
    Delete(usize),
    /// Starts a child that is not there: it was deleted, or was temporary and has ended.
    Start(usize),
    TerminateBelow,
    RestartBelow,
    /// Replays one of the dead letters.
    Replay(usize),
    Pass(u64),
    Yield,
}

impl Role {
    pub(crate) fn mailbox(&self) -> Mailbox {
        let mailbox = Mailbox::bounded(self.capacity).poison_after(self.poison_after);
        let mailbox = match self.policy {
            Policy::Wait => mailbox,
            Policy::Reject => mailbox.reject_when_full(),
            Policy::DropNewest => mailbox.drop_newest(),
            Policy::DropOldest => mailbox.drop_oldest::<Job>(),
            Policy::Coalesce => mailbox.coalesce(|job: &Job| key(job.tag.id)),
        };
        match self.returns {
            true => mailbox.at_restart(AtRestart::Return),
            false => mailbox,
        }
    }
}

/// By which messages coalesce.
pub(crate) fn key(id: u64) -> u64 {
    id % 3
}

pub(crate) fn plan() -> impl Strategy<Value = Plan> {
    let plan = (vec(role(), 1..=4), vec(step(), 1..40));
    plan.prop_map(|(actors, steps)| Plan { actors, steps })
}

fn role() -> impl Strategy<Value = Role> {
    let policy = prop_oneof![
        Just(Policy::Wait),
        Just(Policy::Reject),
        Just(Policy::DropNewest),
        Just(Policy::DropOldest),
        Just(Policy::Coalesce),
    ];
    let capacity = prop_oneof![1..4_u32, Just(1_000)];
    let flags = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        prop::bool::weighted(0.7),
    );
    let restart = prop_oneof![
        3 => Just(Restart::Permanent),
        1 => Just(Restart::Transient),
        1 => Just(Restart::Temporary),
    ];
    (flags, policy, capacity, 1..4_u32, restart).prop_map(
        |((is_mail, returns, is_below, is_member), policy, capacity, poison_after, restart)| {
            // These need an envelope.
            let is_mail = is_mail || matches!(policy, Policy::DropOldest | Policy::Coalesce);
            Role {
                is_mail,
                policy,
                capacity,
                returns,
                poison_after,
                is_member,
                is_below,
                restart,
            }
        },
    )
}

fn millis() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1..5_u64, 10..100_u64, Just(5_000)]
}

fn way() -> impl Strategy<Value = Way> {
    let call = (millis(), prop::option::weighted(0.3, millis()));
    prop_oneof![
        3 => Just(Way::Cast),
        2 => millis().prop_map(|wait| Way::Send { wait }),
        3 => call.prop_map(|(timeout, given_up_after)| Way::Call { timeout, given_up_after }),
    ]
}

fn sending(acts: impl Strategy<Value = Vec<Act>>) -> impl Strategy<Value = Sending> {
    (to(), way(), acts).prop_map(|(to, way, acts)| Sending { to, way, acts })
}

fn to() -> impl Strategy<Value = To> {
    let route = prop_oneof![
        Just(Route::RoundRobin),
        Just(Route::LeastQueued),
        (0..4_u64).prop_map(Route::Key),
    ];
    prop_oneof![
        4 => (0..4_usize).prop_map(To::Actor),
        2 => (any::<bool>(), route).prop_map(|(is_mail, route)| To::Group { is_mail, route }),
        1 => any::<bool>().prop_map(|is_mail| To::All { is_mail }),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let leaf = prop_oneof![
        3 => Just(Act::Fail),
        1 => Just(Act::Panic),
        1 => Just(Act::TakeAndFail),
        4 => millis().prop_map(Act::Sleep),
        1 => Just(Act::StopSelf),
        1 => Just(Act::Defer),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        sending(vec(inner, 0..2)).prop_map(Act::Message)
    })
}

fn step() -> impl Strategy<Value = Step> {
    let whom = || 0..4_usize;
    prop_oneof![
        24 => sending(vec(act(), 0..3)).prop_map(Step::Message),
        2 => whom().prop_map(Step::Kill),
        2 => whom().prop_map(Step::Stop),
        2 => whom().prop_map(Step::Terminate),
        2 => whom().prop_map(Step::Restart),
        1 => whom().prop_map(Step::Bounce),
        2 => whom().prop_map(Step::Delete),
        3 => whom().prop_map(Step::Start),
        1 => Just(Step::TerminateBelow),
        1 => Just(Step::RestartBelow),
        3 => (0..8_usize).prop_map(Step::Replay),
        3 => millis().prop_map(Step::Pass),
        3 => Just(Step::Yield),
    ]
}
