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
