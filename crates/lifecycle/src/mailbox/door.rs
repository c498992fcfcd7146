//! How a message gets into a mailbox that nothing stands in the way of, as is nearly always so.

use std::any::TypeId;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use ractor::Message;

use crate::mail::{Cover, Letter};
use crate::mailbox::front::Front;
use crate::mailbox::letterbox::unsent;
use crate::mailbox::offer::{Terms, Undelivered};
use crate::{Incarnation, Mail, Moment, span};

/// A run that takes messages of a type, and what lets them in: for whoever sends it many.
pub struct Door<M> {
    run: Arc<Incarnation>,
    takes: Takes,
    message: PhantomData<fn(M)>,
}

/// How a run takes messages of a type.
#[derive(Clone)]
enum Takes {
    Plain,
    /// In a [`Mail`].
    Mail(Arc<Front>),
    /// It takes others.
    None,
}

/// A message that is let in, before it is looked at; given back when it is dropped.
///
/// A message is most often made right where it is sent. What was written in parts and is read as a whole at once has to
/// wait until it has reached the cache, as has the step that lets it in: so that comes first, and both wait together.
#[must_use]
pub struct Entry<'a, M> {
    run: &'a Incarnation,
    /// Of a run that takes [`Mail`], with the present moment.
    letter: Option<(&'a Front, Moment)>,
    /// How many wait before it.
    before: u64,
    message: PhantomData<fn(M)>,
}

impl Incarnation {
    /// Lets a message in if nothing at all stands in its way: what nearly all messages find. Else
    /// [`offer_on`](Self::offer_on) says what does, or makes room.
    #[inline(always)]
    #[must_use]
    pub fn enter_quickly<M: Message>(&self) -> Option<Entry<'_, M>> {
        let takes = self.takes_id();
        if takes == TypeId::of::<M>() {
            return self.enter_plain();
        }
        match self.front() {
            Some(front) if takes == TypeId::of::<Mail<M>>() => self.enter_letter(front),
            _ => None,
        }
    }

    #[inline(always)]
    fn enter_plain<M>(&self) -> Option<Entry<'_, M>> {
        let before = match self.intake().enter_quickly() {
            Some(before) => before,
            None => self.intake().enter(self.capacity()).ok()?,
        };
        Some(Entry::new(self, None, before))
    }

    /// Lets a letter in through its own front.
    #[inline(always)]
    fn enter_letter<'a, M>(&'a self, front: &'a Front) -> Option<Entry<'a, M>> {
        // Where messages are traced, the host's subscriber would be asked for the sender's span.
        if span::is_on() {
            return None;
        }
        // Before the step that all that comes after it has to wait for.
        let now = self.traffic().clock().recent();
        let before = front.enter_quickly()?;
        Some(Entry::new(self, Some((front, now)), before))
    }
}

impl<M: Message> Door<M> {
    /// Finds it.
    #[must_use]
    pub fn new(run: Arc<Incarnation>) -> Self {
        let takes = if run.is_of::<M>() {
            Takes::Plain
        } else if run.takes_mail::<M>() {
            Takes::Mail(Arc::clone(run.letterbox::<M>().front()))
        } else {
            Takes::None
        };
        Self {
            run,
            takes,
            message: PhantomData,
        }
    }

    /// Returns the run.
    #[inline]
    #[must_use]
    pub fn run(&self) -> &Arc<Incarnation> {
        &self.run
    }

    /// Lets a message in as [`Incarnation::enter_quickly`] does, and takes fewer looks for it.
    #[inline(always)]
    #[must_use]
    pub fn enter_quickly(&self) -> Option<Entry<'_, M>> {
        match &self.takes {
            Takes::Plain => self.run.enter_plain(),
            Takes::Mail(front) => self.run.enter_letter(front),
            Takes::None => None,
        }
    }
}

impl<'a, M> Entry<'a, M> {
    #[inline(always)]
    fn new(run: &'a Incarnation, letter: Option<(&'a Front, Moment)>, before: u64) -> Self {
        Self {
            run,
            letter,
            before,
            message: PhantomData,
        }
    }
}

impl<M: Message> Entry<'_, M> {
    /// Sends the message. `terms` are asked for when it gets an envelope, and given the present moment, as
    /// [`Clock::recent`](crate::Clock::recent) has it.
    ///
    /// Nothing of the host's runs meanwhile, so it may be called under a lock.
    ///
    /// # Errors
    ///
    /// The message, where the run has ended.
    #[inline(always)]
    pub fn send(self, message: M, terms: impl FnOnce(Moment) -> Terms) -> Result<(), M> {
        let Self {
            run,
            letter,
            before,
            ..
        } = self;
        std::mem::forget(self);
        let Some((front, now)) = letter else {
            run.hand_over(message).map_err(Undelivered::into_inner)?;
            run.track(before);
            return Ok(());
        };
        let cover = Cover::new(front.home, now, terms(now).origin(run.traffic(), false));
        // Put together where it is sent from, or it would be moved once more.
        let letter = Some(Letter { cover, message });
        if let Err(error) = run.cell().send_message(Mail { letter }) {
            front.come_back();
            return Err(unsent(error));
        }
        front.tracked.sent(before, run.traffic().clock());
        Ok(())
    }
}

impl<M> Drop for Entry<'_, M> {
    #[cold]
    fn drop(&mut self) {
        let run = self.run;
        match self.letter {
            Some((front, _)) => front.come_back(),
            None => run.ledger().come_back(run.intake(), || run.known_lobby()),
        }
    }
}

impl<M> fmt::Debug for Entry<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").finish_non_exhaustive()
    }
}

impl<M> Clone for Door<M> {
    fn clone(&self) -> Self {
        Self {
            run: Arc::clone(&self.run),
            takes: self.takes.clone(),
            message: PhantomData,
        }
    }
}

impl<M> fmt::Debug for Door<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}
