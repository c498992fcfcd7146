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

/// Says how many were let in, and how many are in there.
fn counts(intake: &Intake) -> (u64, u64) {
    (intake.accepted(), intake.depth())
}

#[test]
fn what_is_let_in_is_taken_lost_or_taken_back_and_there_is_never_more_than_room() {
    loom::model(|| {
        let intake = Arc::new(Intake::default());
        // A sender whose port has gone meanwhile takes its count back.
        let sender = {
            let intake = Arc::clone(&intake);
            thread::spawn(move || {
                let before = intake.enter(1).ok()?;
                assert_eq!(before, 0);
                Some(intake.take_back())
            })
        };
        // An actor takes one that came past the count or was counted, and ends.
        let taker = {
            let intake = Arc::clone(&intake);
            thread::spawn(move || {
                let taken = u64::from(intake.take());
                assert!(intake.depth() <= 1);
                (taken, intake.close())
            })
        };
        let entered = u64::from(intake.enter(1).is_ok());
        let back = sender.join().unwrap();
        let (taken, lost) = taker.join().unwrap();
        assert!(lost.depth <= 1);
        assert_eq!(intake.enter(1), Err(NoEntry::Closed));
        // As a ledger has it.
        let count = |is: fn(&TakenBack) -> bool| u64::from(back.as_ref().is_some_and(is));
        let accepted = lost.accepted - count(|it| it.was_closed);
        let dead = lost.depth - count(|it| it.was_there && it.was_closed);
        let uncounted = count(|it| !it.was_there);
        assert_eq!(accepted, entered);
        assert_eq!(accepted, taken + dead - uncounted);
    });
}

#[test]
fn three_senders_never_have_more_than_two_places() {
    loom::model(|| {
        let intake = Arc::new(Intake::default());
        let enter = |intake: &Intake| match intake.enter(2) {
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
                let intake = Arc::clone(&intake);
                thread::spawn(move || enter(&intake))
            })
            .collect();
        let here = enter(&intake);
        let entered = senders
            .into_iter()
            .map(|it| it.join().unwrap())
            .sum::<u64>()
            + here;
        assert_eq!(entered, 2);
        assert_eq!(counts(&intake), (2, 2));
    });
}

#[test]
fn who_waits_for_room_gets_it_when_a_message_is_taken() {
    loom::model(|| {
        let intake = Arc::new(Intake::default());
        intake.enter(1).unwrap();
        let taker = {
            let intake = Arc::clone(&intake);
            thread::spawn(move || assert!(intake.take()))
        };
        assert_eq!(block_on(intake.enter_when_room(1)), Ok(0));
        taker.join().unwrap();
        assert_eq!(counts(&intake), (2, 1));
        // Nobody waits any more, so the room is anybody's.
        assert!(intake.take());
        assert_eq!(intake.enter(1), Ok(0));
    });
}

#[test]
fn who_waits_for_room_hears_of_the_end() {
    loom::model(|| {
        let intake = Arc::new(Intake::default());
        intake.enter(1).unwrap();
        let closer = {
            let intake = Arc::clone(&intake);
            thread::spawn(move || intake.close())
        };
        assert_eq!(block_on(intake.enter_when_room(1)), Err(NoEntry::Closed));
        closer.join().unwrap();
    });
}

/// Looks once, and gives up.
fn look_once(intake: &Intake) -> bool {
    let mut waiting = pin!(intake.enter_when_room(1));
    let looked = waiting
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    matches!(looked, Poll::Ready(Ok(_)))
}

#[test]
fn who_waits_gets_room_also_when_another_gives_up() {
    most_orders(|| {
        let intake = Arc::new(Intake::default());
        intake.enter(1).unwrap();
        let other = {
            let intake = Arc::clone(&intake);
            thread::spawn(move || {
                // If it has got the room after all, it makes room again.
                if look_once(&intake) {
                    assert!(intake.take());
                }
            })
        };
        let taker = {
            let intake = Arc::clone(&intake);
            thread::spawn(move || assert!(intake.take()))
        };
        assert_eq!(block_on(intake.enter_when_room(1)), Ok(0));
        other.join().unwrap();
        taker.join().unwrap();
        assert_eq!(intake.depth(), 1);
        assert!(intake.take());
        assert_eq!(intake.enter(1), Ok(0));
    });
}

#[test]
fn room_is_anybodys_once_those_who_waited_have_gone() {
    most_orders(|| {
        let intake = Arc::new(Intake::default());
        intake.enter(1).unwrap();
        let others: Vec<_> = (0..2)
            .map(|_| {
                let intake = Arc::clone(&intake);
                thread::spawn(move || look_once(&intake))
            })
            .collect();
        assert!(!look_once(&intake));
        for other in others {
            assert!(!other.join().unwrap());
        }
        assert!(intake.take());
        assert_eq!(intake.enter(1), Ok(0));
    });
}

#[test]
fn two_who_wait_both_get_room() {
    most_orders(|| {
        let intake = Arc::new(Intake::default());
        intake.enter(1).unwrap();
        let other = {
            let intake = Arc::clone(&intake);
            thread::spawn(move || {
                block_on(intake.enter_when_room(1)).unwrap();
                assert!(intake.take());
            })
        };
        assert!(intake.take());
        block_on(intake.enter_when_room(1)).unwrap();
        assert!(intake.take());
        other.join().unwrap();
        assert_eq!(counts(&intake), (3, 0));
        assert_eq!(intake.enter(1), Ok(0));
    });
}

/// One that waits is polled again and again by a task that does other things as well.
#[test]
fn who_is_polled_for_another_reason_keeps_its_turn() {
    loom::model(|| {
        let intake = Arc::new(Intake::default());
        intake.enter(1).unwrap();
        let taker = {
            let intake = Arc::clone(&intake);
            thread::spawn(move || assert!(intake.take()))
        };
        let mut waiting = pin!(intake.enter_when_room(1));
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
