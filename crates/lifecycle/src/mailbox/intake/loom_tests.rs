//! Every order in which senders, a taker and an end can meet at an intake.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" cargo test -p perennial-lifecycle --lib --target-dir target/loom -- loom
//! ```

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use loom::thread;

use super::*;
use crate::sync::block_on;

/// Tries the orders with at most two preemptions: with all of them three threads that wait take hours.
fn most_orders(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(model);
}

/// An intake, and where those are who wait for it.
#[derive(Default)]
struct Door {
    intake: Intake,
    lobby: Lobby,
}

impl Door {
    fn new(capacity: u64) -> Self {
        Self {
            intake: Intake::new(capacity),
            lobby: Lobby::default(),
        }
    }

    fn enter(&self, capacity: u64) -> Result<u64, NoEntry> {
        let entered = self.intake.enter_quickly();
        entered.map_or_else(|| self.intake.enter(capacity), Ok)
    }

    async fn enter_when_room(&self, capacity: u64) -> Result<u64, NoEntry> {
        self.intake.enter_when_room(&self.lobby, capacity).await
    }

    fn take(&self) -> bool {
        self.intake.take(|| Some(&self.lobby))
    }

    fn take_back(&self) -> TakenBack {
        self.intake.take_back(|| Some(&self.lobby))
    }

    fn close(&self) -> Counted {
        self.intake.close(|| Some(&self.lobby))
    }

    /// Says how many were let in, and how many are in there.
    fn counts(&self) -> (u64, u64) {
        let Counted {
            accepted, depth, ..
        } = self.intake.read();
        (accepted, depth)
    }
}

#[test]
fn what_is_let_in_is_taken_lost_or_taken_back_and_there_is_never_more_than_room() {
    loom::model(|| {
        let door = Arc::new(Door::default());
        // A sender whose port has gone meanwhile takes its count back.
        let sender = {
            let door = Arc::clone(&door);
            thread::spawn(move || {
                let before = door.enter(1).ok()?;
                assert_eq!(before, 0);
                Some(door.take_back())
            })
        };
        // An actor takes one that came past the count or was counted, and ends.
        let taker = {
            let door = Arc::clone(&door);
            thread::spawn(move || {
                let taken = u64::from(door.take());
                assert!(door.intake.depth() <= 1);
                (taken, door.close())
            })
        };
        let entered = u64::from(door.enter(1).is_ok());
        let back = sender.join().unwrap();
        let (taken, left) = taker.join().unwrap();
        assert!(left.depth <= 1);
        assert_eq!(door.enter(1), Err(NoEntry::Closed));
        // As a ledger has it.
        let count = |is: TakenBack| u64::from(back == Some(is));
        let accepted = left.accepted - count(TakenBack::Left) - count(TakenBack::Taken);
        let dead = left.depth - count(TakenBack::Left);
        let uncounted = left.beyond + count(TakenBack::Taken);
        assert_eq!(accepted, entered);
        assert_eq!(accepted, taken + dead - uncounted);
    });
}

#[test]
fn three_senders_never_have_more_than_two_places() {
    loom::model(|| {
        let door = Arc::new(Door::new(2));
        let enter = |door: &Door| match door.enter(2) {
            Ok(before) => {
                assert!(before < 2);
                1
            }
            Err(no_entry) => {
                assert_eq!(no_entry, NoEntry::Full);
                0
            }
        };
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let door = Arc::clone(&door);
                thread::spawn(move || enter(&door))
            })
            .collect();
        let here = enter(&door);
        let entered = senders
            .into_iter()
            .map(|it| it.join().unwrap())
            .sum::<u64>()
            + here;
        assert_eq!(entered, 2);
        assert_eq!(door.counts(), (2, 2));
    });
}

#[test]
fn who_waits_for_room_gets_it_when_a_message_is_taken() {
    loom::model(|| {
        let door = Arc::new(Door::default());
        door.enter(1).unwrap();
        let taker = {
            let door = Arc::clone(&door);
            thread::spawn(move || assert!(door.take()))
        };
        assert_eq!(block_on(door.enter_when_room(1)), Ok(0));
        taker.join().unwrap();
        assert_eq!(door.counts(), (2, 1));
        // Nobody waits any more, so the room is anybody's.
        assert!(door.take());
        assert_eq!(door.enter(1), Ok(0));
    });
}

#[test]
fn who_waits_for_room_hears_of_the_end() {
    loom::model(|| {
        let door = Arc::new(Door::default());
        door.enter(1).unwrap();
        let closer = {
            let door = Arc::clone(&door);
            thread::spawn(move || door.close())
        };
        assert_eq!(block_on(door.enter_when_room(1)), Err(NoEntry::Closed));
        closer.join().unwrap();
    });
}

/// Looks once, and gives up.
fn look_once(door: &Door) -> bool {
    let mut waiting = pin!(door.enter_when_room(1));
    let looked = waiting
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    matches!(looked, Poll::Ready(Ok(_)))
}

#[test]
fn who_waits_gets_room_also_when_another_gives_up() {
    most_orders(|| {
        let door = Arc::new(Door::default());
        door.enter(1).unwrap();
        let other = {
            let door = Arc::clone(&door);
            thread::spawn(move || {
                // If it has got the room after all, it makes room again.
                if look_once(&door) {
                    assert_eq!(door.take_back(), TakenBack::Open);
                }
            })
        };
        let taker = {
            let door = Arc::clone(&door);
            thread::spawn(move || assert!(door.take()))
        };
        assert_eq!(block_on(door.enter_when_room(1)), Ok(0));
        other.join().unwrap();
        taker.join().unwrap();
        assert_eq!(door.intake.depth(), 1);
        assert!(door.take());
        assert_eq!(door.enter(1), Ok(0));
    });
}

#[test]
fn room_is_anybodys_once_those_who_waited_have_gone() {
    most_orders(|| {
        let door = Arc::new(Door::default());
        door.enter(1).unwrap();
        let others: Vec<_> = (0..2)
            .map(|_| {
                let door = Arc::clone(&door);
                thread::spawn(move || look_once(&door))
            })
            .collect();
        assert!(!look_once(&door));
        for other in others {
            assert!(!other.join().unwrap());
        }
        assert!(door.take());
        assert_eq!(door.enter(1), Ok(0));
    });
}

#[test]
fn two_who_wait_both_get_room() {
    most_orders(|| {
        let door = Arc::new(Door::default());
        door.enter(1).unwrap();
        let other = {
            let door = Arc::clone(&door);
            thread::spawn(move || {
                block_on(door.enter_when_room(1)).unwrap();
                assert_eq!(door.take_back(), TakenBack::Open);
            })
        };
        assert!(door.take());
        block_on(door.enter_when_room(1)).unwrap();
        assert!(door.take());
        other.join().unwrap();
        assert_eq!(door.counts(), (2, 0));
        assert_eq!(door.enter(1), Ok(0));
    });
}

/// One that waits is polled again and again by a task that does other things as well.
#[test]
fn who_is_polled_for_another_reason_keeps_its_turn() {
    loom::model(|| {
        let door = Arc::new(Door::default());
        door.enter(1).unwrap();
        let taker = {
            let door = Arc::clone(&door);
            thread::spawn(move || assert!(door.take()))
        };
        let mut waiting = pin!(door.enter_when_room(1));
        let mut polls = 0;
        let entered = block_on(poll_fn(|cx| {
            polls += 1;
            let looked = waiting.as_mut().poll(cx);
            if looked.is_pending() && polls == 1 {
                return waiting.as_mut().poll(cx);
            }
            looked
        }));
        assert_eq!(entered, Ok(0));
        taker.join().unwrap();
    });
}

/// The one who takes makes plain stores as long as nobody has filled more than half.
#[test]
fn who_waits_gets_room_also_where_it_was_filled_at_the_same_moment() {
    most_orders(|| {
        let door = Arc::new(Door::default());
        let waiter = {
            let door = Arc::clone(&door);
            thread::spawn(move || block_on(door.enter_when_room(2)).unwrap())
        };
        // Let in also where another one waits already.
        for _ in 0..2 {
            assert!(door.intake.enter_anyhow(2));
        }
        for _ in 0..2 {
            assert!(door.take());
        }
        waiter.join().unwrap();
        assert_eq!(door.counts(), (3, 1));
    });
}

#[test]
fn who_waits_gets_room_also_when_one_was_put_back() {
    most_orders(|| {
        let door = Arc::new(Door::new(2));
        door.enter(2).unwrap();
        assert!(door.take());
        door.enter(2).unwrap();
        let waiter = {
            let door = Arc::clone(&door);
            thread::spawn(move || block_on(door.enter_when_room(2)).unwrap())
        };
        door.intake.put_back();
        assert!(door.take());
        assert!(door.take());
        waiter.join().unwrap();
        assert_eq!(door.counts(), (3, 1));
    });
}
