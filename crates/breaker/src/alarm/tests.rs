use super::*;
use crate::BreakerConfig;

fn alarms() -> Alarms {
    Alarms::new(NonZeroU32::new(3).unwrap())
}

fn look(alarms: &mut Alarms, state: BreakerState) -> Vec<AlarmChange> {
    alarms.look([("a".into(), state)])
}

#[test]
fn brk_21_an_alarm_is_raised_at_once_and_cleared_by_enough_good_looks_in_a_row() {
    let mut alarms = alarms();
    let down = [
        BreakerState::Open,
        BreakerState::HalfOpen,
        BreakerState::ForcedOpen,
    ];
    for (nth, state) in down.into_iter().enumerate() {
        let changes = look(&mut alarms, state);
        assert_eq!(changes.len(), usize::from(nth == 0), "raised once");
        assert!(look(&mut alarms, BreakerState::Closed).is_empty());
        assert!(look(&mut alarms, BreakerState::Closed).is_empty());
    }
    assert_eq!(alarms.raised().collect::<Vec<_>>(), ["a"]);
    let cleared = look(&mut alarms, BreakerState::Closed);
    assert_eq!(cleared, [AlarmChange::Cleared("a".into())]);
    assert!(look(&mut alarms, BreakerState::Closed).is_empty());
    assert_eq!(alarms.raised().count(), 0);
}

#[test]
fn brk_21_a_breaker_that_nobody_sees_keeps_its_alarm_until_it_is_forgotten() {
    let mut alarms = alarms();
    look(&mut alarms, BreakerState::Open);
    for _ in 0..10 {
        assert!(alarms.look([]).is_empty());
    }
    assert!(alarms.forget("a"));
    assert!(!alarms.forget("a"));
    assert!(look(&mut alarms, BreakerState::Closed).is_empty());
}

#[test]
fn brk_21_a_breaker_that_was_removed_leaves_no_alarm_behind() {
    let breakers = Breakers::new();
    let register = |name| breakers.register(name, BreakerConfig::default()).unwrap();
    let (a, _) = (register("a"), register("b"));
    a.trip();
    let mut alarms = alarms();
    assert_eq!(alarms.look_at(&breakers), [AlarmChange::Raised("a".into())]);
    assert!(alarms.look_at(&breakers).is_empty());
    breakers.remove("a");
    register("c").force_open();
    assert_eq!(
        alarms.look_at(&breakers),
        [
            AlarmChange::Raised("c".into()),
            AlarmChange::Cleared("a".into())
        ]
    );
    assert_eq!(alarms.raised().collect::<Vec<_>>(), ["c"]);
}
