//! The messages of a place: its books, and what waits between two runs.

use std::any::TypeId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ractor::{ActorCell, Message};

use super::Node;
use crate::mailbox::ledger::{Figures, Ledger};
use crate::mailbox::letterbox::{AnyLetterbox, Letterbox};
use crate::traffic::Traffic;
use crate::{DeadReason, Mail, Mailbox};

/// What outlasts the runs of a place that has got a message.
pub(super) struct Post {
    ledger: Arc<Ledger>,
    letterbox: Mutex<Option<Arc<dyn AnyLetterbox>>>,
}

impl Post {
    fn letterbox(&self) -> MutexGuard<'_, Option<Arc<dyn AnyLetterbox>>> {
        self.letterbox
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// Returns what became of the messages that were sent here; `None` while none was.
    #[must_use]
    pub fn figures(&self) -> Option<Figures> {
        let post = self.post.get()?;
        let run = self.current();
        let letterbox = post.letterbox().clone();
        let intakes = [
            run.as_ref().map(|it| it.intake()),
            letterbox.as_ref().map(|it| it.intake()),
        ];
        let in_hand = run.as_ref().is_some_and(|it| it.in_hand_since().is_some());
        Some(post.ledger.read(intakes, in_hand))
    }

    /// Counts a message that was refused.
    pub fn count_refused(&self, traffic: &Arc<Traffic>) {
        Ledger::count_shared(&self.ledger(traffic).refused);
    }

    /// Says that nobody will be started here any more, as far as is known: what waits becomes dead letters.
    pub fn retire(&self) {
        let letterbox = self.post.get().and_then(|it| it.letterbox().clone());
        if let Some(letterbox) = letterbox {
            letterbox.close(DeadReason::Stopped);
        }
    }

    #[inline]
    pub(crate) fn ledger(&self, traffic: &Arc<Traffic>) -> &Arc<Ledger> {
        let post = self.post.get_or_init(|| {
            Box::new(Post {
                ledger: Arc::new(Ledger::new(Arc::clone(traffic))),
                letterbox: Mutex::new(None),
            })
        });
        &post.ledger
    }

    /// Returns the place's letterbox for messages of this type; what waits in one of another type becomes dead letters.
    pub(crate) fn letterbox<M: Message>(
        self: &Arc<Self>,
        traffic: &Arc<Traffic>,
        settings: &Mailbox,
        present: Option<ActorCell>,
    ) -> Arc<dyn AnyLetterbox> {
        let ledger = Arc::clone(self.ledger(traffic));
        let post = self.post.get().expect("made with the ledger");
        let mut letterbox = post.letterbox();
        if let Some(known) = letterbox
            .as_ref()
            .filter(|it| it.mail() == TypeId::of::<Mail<M>>())
        {
            return Arc::clone(known);
        }
        let traffic = Arc::clone(traffic);
        let new = Letterbox::<M>::new(self, ledger, traffic, settings.clone(), present);
        let old = letterbox.replace(new.clone());
        drop(letterbox);
        if let Some(old) = old {
            old.close(DeadReason::OtherType);
        }
        new
    }

    /// Returns the letterbox that earlier runs have left, for an actor that takes this type of mail.
    pub(crate) fn known_letterbox(&self, mail: TypeId) -> Option<Arc<dyn AnyLetterbox>> {
        let known = self.post.get()?.letterbox().clone()?;
        if known.mail() == mail {
            return Some(known);
        }
        known.close(DeadReason::OtherType);
        None
    }
}
