use futures_util::FutureExt as _;

use super::*;

fn nobody<'a>() -> Option<&'a Lobby> {
    None
}

#[test]
fn what_is_taken_back_was_not_let_in() {
    let intake = Intake::default();
    assert_eq!(intake.enter(1), Ok(0));
    assert_eq!(intake.enter(1), Err(NoEntry::Full));
    assert_eq!(intake.take_back(nobody), TakenBack::Open);
    assert_eq!(intake.read(), Counted::default());
    assert_eq!(intake.enter(1), Ok(0));
}

#[test]
fn one_that_came_past_the_count_may_be_taken_for_another() {
    let intake = Intake::default();
    assert!(!intake.take(nobody));
    intake.enter(1).unwrap();
    assert!(intake.take(nobody));
    // It was not the one that was counted, and that one never came.
    assert_eq!(intake.take_back(nobody), TakenBack::Open);
    let counted = |accepted, depth, beyond| Counted {
        depth,
        accepted,
        beyond,
    };
    assert_eq!(intake.read(), counted(0, 0, 1));
    // The next one is taken for it.
    assert_eq!(intake.enter(1), Ok(0));
    assert!(!intake.take(nobody));
    assert_eq!(intake.read(), counted(1, 0, 0));
    // The same, with its end in between.
    intake.enter(1).unwrap();
    intake.enter(2).unwrap();
    assert!(intake.take(nobody));
    assert_eq!(intake.close(nobody), counted(3, 1, 0));
    assert_eq!(intake.close(nobody), Counted::default());
    assert_eq!(intake.take_back(nobody), TakenBack::Left);
    assert_eq!(intake.take_back(nobody), TakenBack::Taken);
}

#[test]
fn who_fills_no_more_than_half_enters_quickly() {
    let intake = Intake::new(4);
    assert_eq!(intake.enter_quickly(), Some(0));
    assert_eq!(intake.enter_quickly(), Some(1));
    // This one has to note that it fills more.
    assert_eq!(intake.enter_quickly(), None);
    assert_eq!(intake.enter(4), Ok(2));
    assert!(intake.word.load(Relaxed) & NEAR != 0);
    for _ in 0..3 {
        assert!(intake.take(nobody));
    }
    assert!(intake.word.load(Relaxed) & NEAR == 0);
    assert_eq!(intake.enter_quickly(), Some(0));
    assert_eq!(intake.depth(), 1);
}

#[test]
fn nobody_enters_quickly_where_something_bars_the_way() {
    let (shut, closed) = (Intake::new(4), Intake::new(4));
    shut.shut();
    assert_eq!(shut.enter_quickly(), None);
    closed.close(nobody);
    assert_eq!(closed.enter_quickly(), None);
    // One was taken that came past the count: the next is taken for it.
    let beyond = Intake::new(4);
    beyond.enter(4).unwrap();
    assert!(beyond.take(nobody));
    beyond.take_back(nobody);
    assert_eq!(beyond.enter_quickly(), None);
    assert_eq!(beyond.enter(4), Ok(0));
    assert_eq!(Intake::new(0).enter_quickly(), None);
}

#[test]
fn what_is_posted_finds_no_mailbox_full() {
    let intake = Intake::default();
    assert_eq!(intake.enter(1), Ok(0));
    assert_eq!(intake.enter(1), Err(NoEntry::Full));
    assert!(intake.enter_anyhow(1));
    assert_eq!(intake.depth(), 2);
    intake.close(nobody);
    assert!(!intake.enter_anyhow(1));
}

#[tokio::test]
async fn room_is_for_who_has_waited_and_then_for_anybody() {
    let (intake, lobby) = (Intake::default(), Lobby::default());
    let take = || intake.take(|| Some(&lobby));
    intake.enter(1).unwrap();
    let mut first = Box::pin(intake.enter_when_room(&lobby, 1));
    let mut second = Box::pin(intake.enter_when_room(&lobby, 1));
    assert_eq!(first.as_mut().now_or_never(), None);
    assert_eq!(second.as_mut().now_or_never(), None);
    assert!(take());
    assert_eq!(intake.enter(1), Err(NoEntry::Full));
    // It was its turn, and it goes: then it is the next one's.
    drop(first);
    assert_eq!(second.await, Ok(0));
    assert!(take());
    assert_eq!(intake.enter(1), Ok(0));
}
