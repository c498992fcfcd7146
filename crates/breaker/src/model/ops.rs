//! What happens to a breaker and its model, made up at random.

use std::time::Duration;

use proptest::prelude::*;

use crate::machine::{Command, Verdict};
use crate::{AfterOpen, BreakerConfig, OpenTime, Trip, Window};

/// Most times are multiples of this, so that much happens at the very edge of something.
const GRAIN: u16 = 16;

fn times(grains: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    grains.prop_map(|grains| Duration::from_nanos(grains * u64::from(GRAIN)))
}

#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// So many callers at the same moment.
    Acquire(u8),
    /// One of the calls that are running, picked by this number, ends.
    Settle(u8, Verdict),
    /// Somebody without a permit knows something.
    Report(Verdict),
    Advance(u16),
    Command(Command),
    Configure(BreakerConfig),
}

pub(crate) fn ops() -> impl Strategy<Value = Vec<Op>> {
    let verdict = || {
        prop_oneof![
            3 => Just(Verdict::Failure),
            3 => Just(Verdict::Success),
            1 => Just(Verdict::Cancelled),
        ]
    };
    let command = prop_oneof![
        4 => Just(Command::Trip),
        4 => Just(Command::Reset),
        1 => Just(Command::ForceOpen),
        1 => Just(Command::ForceClosed),
        1 => Just(Command::Disable),
        1 => Just(Command::OnlyMeasure),
    ];
    let op = prop_oneof![
        30 => (1_u8..4).prop_map(Op::Acquire),
        2 => Just(Op::Acquire(100)),
        50 => (any::<u8>(), verdict()).prop_map(|(pick, verdict)| Op::Settle(pick, verdict)),
        5 => verdict().prop_map(Op::Report),
        20 => (0_u16..20).prop_map(|grains| Op::Advance(grains * GRAIN)),
        4 => command.prop_map(Op::Command),
        1 => configs().prop_map(Op::Configure),
    ];
    prop::collection::vec(op, 1..200)
}

fn conditions() -> impl Strategy<Value = Trip> {
    let window = prop_oneof![
        (1_u32..12).prop_map(Window::Calls),
        times(1..40).prop_map(Window::Time),
        (1_u64..800).prop_map(|nanos| Window::Time(Duration::from_nanos(nanos))),
    ];
    let rate = (1_u32..=10, window, 1_u32..6, prop::option::of(times(1..12))).prop_map(
        |(tenths, window, min_calls, slower_than)| {
            let ratio = f64::from(tenths) / 10.0;
            let min_calls = if let Window::Calls(calls) = window {
                min_calls.min(calls)
            } else {
                min_calls
            };
            match slower_than {
                None => Trip::FailureRate {
                    ratio,
                    window,
                    min_calls,
                },
                Some(slower_than) => Trip::SlowRate {
                    slower_than,
                    ratio,
                    window,
                    min_calls,
                },
            }
        },
    );
    let within = (1_u32..5, times(1..40));
    let within = within.prop_map(|(count, within)| Trip::Failures { count, within });
    prop_oneof![
        1 => Just(Trip::Never),
        5 => (1_u32..6).prop_map(Trip::Consecutive),
        5 => within,
        10 => rate,
    ]
}

pub(crate) fn configs() -> impl Strategy<Value = BreakerConfig> {
    let trip = prop_oneof![
        3 => conditions(),
        1 => prop::collection::vec(conditions(), 1..4).prop_map(Trip::AnyOf),
    ];
    let open_time = prop_oneof![
        times(1..30).prop_map(OpenTime::Constant),
        (times(1..12), 1_u32..4, times(0..25)).prop_map(|(first, factor, more)| {
            OpenTime::Growing {
                first,
                factor: f64::from(factor),
                cap: first + more,
            }
        }),
    ];
    let permits = (1_u32..5, 1_u32..4);
    // All or none: what chance does in between is not for a model.
    let injects = prop::bool::weighted(0.05);
    (trip, open_time, any::<bool>(), permits, injects).prop_map(
        |(trip, open_time, closes, (permits, successes), injects)| {
            let closes = closes && matches!(open_time, OpenTime::Constant(_));
            // Where there are no probes, there is no number of them.
            let probes = |number| if closes { 1 } else { number };
            BreakerConfig::builder()
                .trip(trip)
                .open_time(open_time)
                .after_open(if closes {
                    AfterOpen::Closed
                } else {
                    AfterOpen::HalfOpen
                })
                .half_open_permits(probes(permits))
                .successes_to_close(probes(successes))
                .injected_refusals(f64::from(u8::from(injects)))
                .build()
                .unwrap()
        },
    )
}
