//! How a message gets into a mailbox.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::Arc;

use ractor::Message;

use crate::dead::{Kept, Obituary, Replay};
use crate::mail::{Caller, Letter};
use crate::mailbox::intake::{Intake, Lobby, NoEntry};
use crate::mailbox::ledger::Ledger;
use crate::mailbox::letterbox::Letterbox;
use crate::mailbox::{Mailbox, Overflow};
use crate::traffic::Traffic;
use crate::{DeadReason, Incarnation, Mail, Moment, current, span};

/// A message that was not delivered.
pub enum Undelivered<M> {
    /// The mailbox is full.
    Full(M),
    /// The run has ended, or is about to.
    Ended(M),
    /// The tree is shutting down, and the message does not come from one of its handlers.
    ShuttingDown(M),
    /// The actor takes another type of message.
    WrongType(M),
}

/// What is written on the envelope of a message, for an actor that takes [`Mail`].
#[derive(Debug)]
pub struct Terms {
    /// When it need not be handled any more.
    pub deadline: Moment,
    /// Who waits for an answer.
    pub caller: Option<Caller>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            deadline: Moment::NEVER,
            caller: None,
        }
    }
}

impl Terms {
    /// Returns what is to be written on the envelope that few have. `is_traced` while anybody traces messages.
    #[inline(always)]
    pub(crate) fn origin(self, tree: &Traffic, is_traced: bool) -> Option<Caller> {
        match (self.caller, self.deadline) {
            (None, Moment::NEVER) => Caller::sender(tree, is_traced),
            (None, deadline) => Some(Caller::until(tree, deadline)),
            (Some(caller), deadline) => Some(caller.with_deadline(deadline)),
        }
    }
}

/// Which of the two kinds of actor takes messages of a type.
enum Way<'a, M: Message> {
    /// It says `type Msg = M`.
    Plain,
    /// It says `type Msg = Mail<M>`.
    Mail(&'a Letterbox<M>),
    None,
}

/// Room for one message, kept until it is sent; given back when it is dropped.
#[must_use]
pub struct Room<'a> {
    run: &'a Incarnation,
    intake: &'a Intake,
    lobby: &'a Lobby,
    is_used: bool,
}

impl Incarnation {
    /// Says whether the actor takes messages of this type, in a [`Mail`] or without.
    #[inline]
    #[must_use]
    pub fn takes<M: Message>(&self) -> bool {
        let takes = self.takes_id();
        takes == TypeId::of::<M>() || takes == TypeId::of::<Mail<M>>()
    }

    /// Says whether the actor takes messages of this type in a [`Mail`].
    #[inline]
    #[must_use]
    pub fn takes_mail<M: Message>(&self) -> bool {
        self.takes_id() == TypeId::of::<Mail<M>>()
    }

    /// Sends a message, where there is room or the settings of the mailbox make it; never waits.
    ///
    /// # Errors
    ///
    /// [`Undelivered`] gives the message back.
    pub fn offer<M: Message>(&self, message: M) -> Result<(), Undelivered<M>> {
        self.offer_on(message, Terms::default)
    }

    /// As [`offer`](Self::offer); `terms` are asked for when the message gets an envelope.
    ///
    /// # Errors
    ///
    /// [`Undelivered`] gives the message back.
    #[inline]
    pub fn offer_on<M: Message>(
        &self,
        message: M,
        terms: impl FnOnce() -> Terms,
    ) -> Result<(), Undelivered<M>> {
        match self.way::<M>() {
            Way::Plain => self.offer_plain(message, terms),
            Way::Mail(letterbox) => {
                let letter = self.letter(message, letterbox, terms());
                match letterbox.offer(self.cell(), letter) {
                    Ok(before) => {
                        let clock = self.traffic().clock();
                        letterbox.front().tracked.sent(before, clock);
                        Ok(())
                    }
                    Err((NoEntry::Full, message)) => Err(Undelivered::Full(message)),
                    Err((NoEntry::Closed, message)) => Err(Undelivered::Ended(message)),
                    Err((NoEntry::Shut, message)) => Err(Undelivered::ShuttingDown(message)),
                }
            }
            Way::None => Err(Undelivered::WrongType(message)),
        }
    }

    #[inline]
    fn offer_plain<M: Message>(
        &self,
        message: M,
        terms: impl FnOnce() -> Terms,
    ) -> Result<(), Undelivered<M>> {
        let is_inside = || self.traffic().is_sender_inside();
        let capacity = self.capacity();
        match self.intake().enter_from(capacity, is_inside) {
            Ok(before) => {
                self.hand_over(message)?;
                self.track(before);
                Ok(())
            }
            Err(NoEntry::Full)
                if matches!(self.mailbox().overflow, Overflow::DropNewest)
                    && terms().caller.is_none() =>
            {
                self.ledger().count_passed_by();
                self.bury(message);
                Ok(())
            }
            Err(NoEntry::Full) => Err(Undelivered::Full(message)),
            Err(NoEntry::Closed) => Err(Undelivered::Ended(message)),
            Err(NoEntry::Shut) => Err(Undelivered::ShuttingDown(message)),
        }
    }

    /// Sends a message as [`offer`](Self::offer) does, whether there is room or not: one that an operator asks for.
    ///
    /// # Errors
    ///
    /// [`Undelivered`] gives the message back; it is never [`Full`](Undelivered::Full).
    pub fn offer_anyhow<M: Message>(&self, message: M) -> Result<(), Undelivered<M>> {
        if self.traffic().refuses_sender() {
            return Err(Undelivered::ShuttingDown(message));
        }
        let (intake, lobby, capacity) = match self.way::<M>() {
            Way::Plain => (self.intake(), self.lobby(), self.capacity()),
            Way::Mail(it) => (&it.front().intake, &it.front().lobby, it.capacity()),
            Way::None => return Err(Undelivered::WrongType(message)),
        };
        if !intake.enter_anyhow(capacity) {
            return Err(Undelivered::Ended(message));
        }
        let room = Room {
            run: self,
            intake,
            lobby,
            is_used: false,
        };
        room.send(message, Terms::default)
    }

    /// Sends a message of the framework itself, whether there is room or not, and whether the tree is shutting down or
    /// not: of a worker on loan, too.
    ///
    /// # Errors
    ///
    /// The message comes back when the run has ended, or when it takes another type.
    pub fn post<M: Message>(&self, message: M) -> Result<(), M> {
        if self.takes_id() != TypeId::of::<M>() || !self.intake().enter_anyhow(self.capacity()) {
            return Err(message);
        }
        self.hand_over(message).map_err(Undelivered::into_inner)
    }

    /// Waits for room in the mailbox; `None` when the run has ended, or takes another type.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: when dropped, the room is another's.
    pub async fn room<M: Message>(&self) -> Option<Room<'_>> {
        let (intake, lobby, capacity) = match self.way::<M>() {
            Way::Plain => (self.intake(), self.lobby(), self.capacity()),
            Way::Mail(it) => (&it.front().intake, &it.front().lobby, it.capacity()),
            Way::None => return None,
        };
        tokio::select! {
            biased;
            entered = intake.enter_when_room(lobby, capacity) => entered.ok()?,
            // The letterbox outlasts the run.
            _ = self.ended() => return None,
        };
        Some(Room {
            run: self,
            intake,
            lobby,
            is_used: false,
        })
    }

    /// Says whether a message for which there is no room may wait until there is.
    #[must_use]
    pub fn may_wait_for_room(&self) -> bool {
        matches!(
            self.mailbox().overflow,
            Overflow::Wait | Overflow::Coalesce(..)
        )
    }

    /// Says whether there is no room for a message, and it, or another for it, would be dropped.
    #[must_use]
    pub fn would_drop(&self) -> bool {
        let drops =
            |it: &Mailbox| matches!(it.overflow, Overflow::DropNewest | Overflow::DropOldest(_));
        self.own_mailbox()
            .is_some_and(|it| drops(it) && self.mailbox_depth() >= it.capacity())
    }

    fn way<M: Message>(&self) -> Way<'_, M> {
        let takes = self.takes_id();
        if takes == TypeId::of::<M>() {
            Way::Plain
        } else if takes == TypeId::of::<Mail<M>>() {
            let letterbox: &dyn Any = &**self.letterbox::<M>();
            letterbox.downcast_ref().map_or(Way::None, Way::Mail)
        } else {
            Way::None
        }
    }

    /// Hands a message over that the intake has let in.
    #[inline(always)]
    pub(super) fn hand_over<M: Message>(&self, message: M) -> Result<(), Undelivered<M>> {
        self.cell().send_message(message).map_err(|error| {
            self.ledger()
                .come_back(self.intake(), || self.known_lobby());
            match error {
                ractor::MessagingErr::SendErr(message) => Undelivered::Ended(message),
                // The type was checked, and ractor has no other way to fail here.
                ractor::MessagingErr::ChannelClosed | ractor::MessagingErr::InvalidActorType => {
                    unreachable!("checked before")
                }
            }
        })
    }

    fn letter<M: Message>(&self, message: M, letterbox: &Letterbox<M>, terms: Terms) -> Letter<M> {
        let now = self.traffic().clock().recent();
        Letter::new(
            message,
            letterbox.front().home,
            now,
            terms.origin(self.traffic(), span::is_on()),
        )
    }

    #[inline(always)]
    pub(super) fn track(&self, before: u64) {
        if before > 0 {
            self.ledger().tracked.sent(before, self.traffic().clock());
        }
    }

    fn bury<M: Message>(&self, message: M) {
        Ledger::count_shared(&self.ledger().dead);
        let obituary = Obituary {
            target: self.node().path().clone(),
            message_type: std::any::type_name::<M>(),
            reason: DeadReason::Overflow,
            sender: current::path_in(self.traffic()),
            age: None,
            crashes: 0,
            messages: 1,
        };
        let place = Arc::downgrade(self.node());
        let content: Box<dyn Replay> = Box::new(Kept { message, place });
        self.traffic().dead_letters().add(obituary, Some(content));
    }
}

impl Room<'_> {
    /// Sends the message; `terms` are asked for when it gets an envelope.
    ///
    /// # Errors
    ///
    /// [`Undelivered`] gives the message back.
    pub fn send<M: Message>(
        mut self,
        message: M,
        terms: impl FnOnce() -> Terms,
    ) -> Result<(), Undelivered<M>> {
        match self.run.way::<M>() {
            Way::Plain => {
                self.is_used = true;
                self.run.hand_over(message)
            }
            Way::Mail(letterbox) => {
                self.is_used = true;
                let letter = self.run.letter(message, letterbox, terms());
                letterbox
                    .hand_over(self.run.cell(), letter)
                    .map_err(|(_, message)| Undelivered::Ended(message))
            }
            Way::None => Err(Undelivered::WrongType(message)),
        }
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if !self.is_used {
            let ledger = self.run.ledger();
            ledger.come_back(self.intake, || Some(self.lobby));
        }
    }
}

impl<M> Undelivered<M> {
    /// Returns the message.
    #[must_use]
    pub fn into_inner(self) -> M {
        match self {
            Self::Full(message)
            | Self::Ended(message)
            | Self::ShuttingDown(message)
            | Self::WrongType(message) => message,
        }
    }
}

impl<M> fmt::Display for Undelivered<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the mailbox is full",
            Self::Ended(_) => "the run has ended",
            Self::ShuttingDown(_) => "the tree is shutting down",
            Self::WrongType(_) => "the actor takes another type of message",
        })
    }
}

impl<M> fmt::Debug for Undelivered<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Undelivered({self})")
    }
}

impl<M> std::error::Error for Undelivered<M> {}

impl fmt::Debug for Room<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").finish_non_exhaustive()
    }
}
