//! How an envelope finds the letterbox that it was sent through.

use std::any::Any;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use ractor::Message;

use crate::current;
use crate::mailbox::letterbox::{AnyLetterbox, Letterbox};

/// The number of a letterbox, which no other one of the process has at the same time.
///
/// It is what an envelope carries, since a handle would be counted up and down with each message: twice what it takes to
/// send one, and more where two threads do it. Only an envelope that is dropped with its message in it needs the
/// letterbox, or one that is asked for its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Home(NonZeroU32);

/// All letterboxes of the process.
struct Homes {
    last: NonZeroU32,
    all: HashMap<NonZeroU32, Weak<dyn AnyLetterbox>, foldhash::fast::RandomState>,
}

static HOMES: LazyLock<Mutex<Homes>> = LazyLock::new(|| {
    Mutex::new(Homes {
        last: NonZeroU32::MIN,
        all: HashMap::default(),
    })
});

fn lock() -> MutexGuard<'static, Homes> {
    HOMES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Home {
    /// Of what was sent through no letterbox.
    pub(crate) const NOWHERE: Self = Self(NonZeroU32::MIN);

    #[inline(always)]
    pub(crate) fn get(self) -> NonZeroU32 {
        self.0
    }

    #[inline]
    pub(crate) fn of(number: u32) -> Self {
        NonZeroU32::new(number).map_or(Self::NOWHERE, Self)
    }

    /// Returns one that is not taken.
    pub(crate) fn new() -> Self {
        let mut homes = lock();
        loop {
            // By the time that one comes again, no envelope of its first letterbox is on its way any more.
            homes.last = homes.last.checked_add(1).unwrap_or(NonZeroU32::MIN);
            let home = Self(homes.last);
            if home != Self::NOWHERE && !homes.all.contains_key(&homes.last) {
                return home;
            }
        }
    }

    /// Notes whose it is.
    pub(crate) fn found(self, letterbox: &Arc<dyn AnyLetterbox>) {
        lock().all.insert(self.0, Arc::downgrade(letterbox));
    }

    /// Forgets it.
    pub(crate) fn leave(self) {
        lock().all.remove(&self.0);
    }

    /// Looks at the letterbox, if it is still there.
    pub(crate) fn look<M: Message, T>(self, look: impl FnOnce(&Letterbox<M>) -> T) -> Option<T> {
        let mut look = Some(look);
        let mut at = |letterbox: &dyn AnyLetterbox| {
            let letterbox: &dyn Any = letterbox;
            Some(look.take()?(letterbox.downcast_ref()?))
        };
        // Nearly always that of the actor whose handler is being run.
        let seen = current::with(|run| {
            let own = run?.known_letterbox()?;
            (own.front().home == self).then(|| at(&**own))
        });
        if let Some(seen) = seen {
            return seen;
        }
        let letterbox = lock().all.get(&self.0)?.upgrade()?;
        at(&*letterbox)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::time::Duration;

    use ractor::{Actor, ActorProcessingErr, ActorRef};
    use tokio::sync::mpsc;

    use super::*;
    use crate::mail::{Cover, Letter};
    use crate::traffic::Traffic;
    use crate::{ActorPath, Caller, DeadReason, Mail, Mailbox, Moment, Node};

    struct Place {
        traffic: Arc<Traffic>,
        node: Arc<Node>,
    }

    impl Place {
        fn new() -> Self {
            Self {
                traffic: Arc::new(Traffic::new()),
                node: Node::new(ActorPath::root("shop")),
            }
        }

        fn letterbox(&self) -> Arc<Letterbox<u32>> {
            let ledger = Arc::clone(self.node.ledger(&self.traffic));
            let traffic = Arc::clone(&self.traffic);
            Letterbox::new(&self.node, ledger, traffic, Mailbox::default(), None)
        }
    }

    /// One that has left for this letterbox.
    fn sent(letterbox: &Letterbox<u32>, origin: Option<Caller>) -> Mail<u32> {
        assert_eq!(letterbox.front().enter_quickly(), Some(0));
        Mail {
            letter: Some(Letter {
                message: 7,
                cover: Cover::new(letterbox.front().home, letterbox.clock().now(), origin),
            }),
        }
    }

    #[test]
    fn a_letter_finds_the_letterbox_that_it_was_sent_through() {
        let place = Place::new();
        let (first, second) = (place.letterbox(), place.letterbox());
        drop(sent(&second, None));
        assert_eq!(first.waits_since(), None);
        assert!(second.waits_since().is_some());
        drop(sent(&first, None));
        assert!(first.waits_since().is_some());
    }

    /// Tells its number for each envelope that it gets.
    struct Taker(u32, mpsc::Sender<u32>);

    impl Actor for Taker {
        type Msg = Mail<u32>;
        type State = ();
        type Arguments = ();

        async fn pre_start(
            &self,
            _: ActorRef<Mail<u32>>,
            (): (),
        ) -> Result<(), ActorProcessingErr> {
            Ok(())
        }

        async fn handle(
            &self,
            _: ActorRef<Mail<u32>>,
            _: Mail<u32>,
            (): &mut (),
        ) -> Result<(), ActorProcessingErr> {
            Ok(self.1.try_send(self.0)?)
        }
    }

    #[tokio::test]
    async fn a_letter_that_waits_while_a_run_follows_on_another_has_a_claim_at_both() {
        let (tell, mut told) = mpsc::channel(4);
        let taker = |number| Actor::spawn(None, Taker(number, tell.clone()), ());
        let (first, _task) = taker(1).await.unwrap();
        let (second, _task) = taker(2).await.unwrap();
        let place = Place::new();
        let ledger = Arc::clone(place.node.ledger(&place.traffic));
        let settings = Mailbox::default().drop_oldest::<u32>();
        let present = Some(second.get_cell());
        let traffic = Arc::clone(&place.traffic);
        let letterbox = Letterbox::<u32>::new(&place.node, ledger, traffic, settings, present);
        let now = letterbox.clock().now();
        let letter = Letter::new(7, letterbox.front().home, now, None);
        // Whoever sends it has seen the first, which ends at this moment.
        assert!(letterbox.offer(&first.get_cell(), letter).is_ok());
        let mut claimed = [told.recv().await, told.recv().await];
        claimed.sort_unstable();
        assert_eq!(claimed, [Some(1), Some(2)]);
    }

    #[test]
    fn a_letter_whose_letterbox_is_gone_is_one_dead_letter() {
        let place = Place::new();
        let letterbox = place.letterbox();
        let mail = sent(&letterbox, None);
        drop(letterbox);
        drop(mail);
        let figures = place.node.figures().unwrap();
        assert_eq!((figures.dead, figures.is_balanced()), (1, true));
        let dead = place.traffic.dead_letters().list();
        let dead: Vec<_> = dead.iter().map(|it| (it.reason, it.messages)).collect();
        assert_eq!(dead, [(DeadReason::Stopped, 1)]);
    }

    #[test]
    fn an_envelope_whose_letterbox_is_gone_has_no_time_left() {
        let place = Place::new();
        let letterbox = place.letterbox();
        let deadline = Moment::default().after(Duration::from_secs(3_600));
        let mail = sent(&letterbox, Some(Caller::until(&place.traffic, deadline)));
        assert!(mail.time_left().unwrap() > Duration::from_secs(60));
        drop(letterbox);
        assert_eq!(mail.time_left(), Some(Duration::ZERO));
        assert_eq!(mail.age(), Duration::ZERO);
    }
}
