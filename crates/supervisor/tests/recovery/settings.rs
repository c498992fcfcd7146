//! Settings that cannot work: SUP-24.

use std::time::Duration;

use perennial_lifecycle::{Backoff, ChildSpec, Quarantine};
use perennial_supervisor::RestartIntensity;

use crate::support::{MS, SECOND, generous, puppet};

#[tokio::test(start_paused = true)]
async fn sup_24_settings_that_cannot_work_are_refused_and_name_child_and_field() {
    let refused = |spec: ChildSpec| {
        let error = generous().child(spec).build().unwrap_err();
        error.to_string()
    };
    let backoff = |backoff: Backoff| refused(puppet("w").backoff(backoff));
    assert_eq!(
        backoff(Backoff::constant(Duration::ZERO)),
        "child `w`: backoff: the first delay must not be zero"
    );
    assert_eq!(
        backoff(Backoff::exponential(SECOND).factor(0.5)),
        "child `w`: backoff: factor must be a number of at least 1"
    );
    assert_eq!(
        backoff(Backoff::exponential(SECOND).factor(f64::NAN)),
        "child `w`: backoff: factor must be a number of at least 1"
    );
    assert_eq!(
        backoff(Backoff::linear(SECOND).cap(MS)),
        "child `w`: backoff: cap must not be shorter than the first delay"
    );
    assert_eq!(
        backoff(Backoff::linear(SECOND).jitter(1.5)),
        "child `w`: backoff: jitter must lie between 0 and 1"
    );
    let times = Quarantine::new(Backoff::constant(Duration::ZERO));
    assert_eq!(
        refused(puppet("w").quarantine(times)),
        "child `w`: quarantine: the first delay must not be zero"
    );
    assert_eq!(
        refused(puppet("w").budget(RestartIntensity::new(1, Duration::ZERO))),
        "child `w`: budget: period must not be zero"
    );
    assert_eq!(
        refused(puppet("w").watchdog(perennial_lifecycle::Watchdog::report(Duration::ZERO))),
        "child `w`: watchdog: limit must not be zero"
    );
    assert_eq!(
        refused(puppet("w").temporary().backoff(Backoff::constant(SECOND))),
        "child `w`: backoff: a temporary child is never restarted"
    );
}
