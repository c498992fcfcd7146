use futures_util::FutureExt as _;

use super::*;

#[test]
fn what_wraps_is_the_count_of_all_and_nothing_else() {
    let intake = Intake::default();
    intake.word.store((WRAP - 1) * ACCEPTED, Relaxed);
    assert_eq!(intake.enter(1), Ok(0));
    assert_eq!((intake.accepted(), intake.depth()), (0, 1));
    let back = intake.take_back();
    assert!(back.was_there && !back.was_closed);
    assert_eq!((intake.accepted(), intake.depth()), (WRAP - 1, 0));
    assert_eq!(intake.enter(1), Ok(0));
}

#[test]
fn what_is_posted_finds_no_mailbox_full() {
    let intake = Intake::default();
    assert_eq!(intake.enter(1), Ok(0));
    assert_eq!(intake.enter(1), Err(NoEntry::Full));
    assert!(intake.enter_anyhow());
    assert_eq!(intake.depth(), 2);
    intake.close();
    assert!(!intake.enter_anyhow());
}

#[tokio::test]
async fn room_is_for_who_has_waited_and_then_for_anybody() {
    let intake = Intake::default();
    intake.enter(1).unwrap();
    let mut first = Box::pin(intake.enter_when_room(1));
    let mut second = Box::pin(intake.enter_when_room(1));
    assert_eq!(first.as_mut().now_or_never(), None);
    assert_eq!(second.as_mut().now_or_never(), None);
    assert!(intake.take());
    assert_eq!(intake.enter(1), Err(NoEntry::Full));
    // It was its turn, and it goes: then it is the next one's.
    drop(first);
    assert_eq!(second.await, Ok(0));
    assert!(intake.take());
    assert_eq!(intake.enter(1), Ok(0));
}
